"""Files that do not fit: each is refused before anything is copied."""

import pytest
import torch

from tests.pretrained.sam_states import DIM, load_sam, sam_state, target_state, untouched

SIZES = [
    ({"dim": 48}, r"file holds .*\(48 channels, 3 blocks, 2 heads\).*planned with .*\(24 channels"),
    ({"depth": 4}, r"\(24 channels, 4 blocks, 2 heads\).*\(24 channels, 3 blocks, 2 heads\)"),
    ({"heads": 4}, r"\(24 channels, 3 blocks, 4 heads\) with global attention at \[1\], but"),
]


@pytest.mark.parametrize(("sizes", "message"), SIZES)
def test_an_encoder_of_another_size(sizes, message):
    target = target_state()
    with pytest.raises(ValueError, match=message) as error:
        load_sam(sam_state(**sizes), target)
    assert untouched(target)
    assert "vit_l (1024 channels, 24 blocks, 16 heads, global attention at [5, 11, 17, 23])" in str(
        error.value
    )


@pytest.mark.parametrize(
    "state",
    [
        {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)},  # TinyViT
        {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)},  # SAM 2
        {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 4)},
        {},
    ],
)
def test_no_vit_image_encoder(state):
    target = target_state()
    with pytest.raises(ValueError, match="no plain ViT image encoder: neither SAM's.*TinyViT"):
        load_sam(state, target)
    assert untouched(target)


def test_unknown_names():
    target = target_state()
    state = sam_state() | {"image_encoder.cls_token": torch.zeros(1), "blocks.0.x": torch.zeros(1)}
    with pytest.raises(
        ValueError, match="2 tensors that SAM has not: image_encoder.cls_token, blo"
    ):
        load_sam(state, target)
    assert untouched(target)


@pytest.mark.parametrize("gone", ["blocks.1.mlp.lin1.bias", "pos_embed", "blocks.2.attn.rel_pos_h"])
def test_missing_tensors(gone):
    state, target = sam_state(), target_state()
    del state[f"image_encoder.{gone}"]
    with pytest.raises(ValueError, match=f"1 places: image_encoder.{gone} is not in the file"):
        load_sam(state, target)
    assert untouched(target)


def test_misshapen_tensors():
    state, target = sam_state(), target_state()
    state["image_encoder.blocks.2.mlp.lin1.weight"] = torch.zeros(2 * DIM, DIM)
    state["image_encoder.pos_embed"] = torch.zeros(1, 65, DIM)
    with pytest.raises(ValueError, match=r"in 2 places: .*\[1, 65, 24\] in the file") as error:
        load_sam(state, target)
    assert "lin1.weight is [48, 24] in the file and [96, 24] in the network" in str(error.value)
    assert untouched(target)


def test_a_network_that_lacks_tensors():
    target = target_state()
    del target["image_encoder.blocks.1.norm2.weight"]
    with pytest.raises(ValueError, match="blocks.1.norm2.weight is not in the network"):
        load_sam(sam_state(), target)
    assert untouched(target)
