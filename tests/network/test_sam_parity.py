"""Given a single slice, the volumetric encoder must be SAM's, as segment_anything wrote it."""

import sys
from functools import partial

import pytest
import torch
from segment_anything.modeling.image_encoder import ImageEncoderViT

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.network.image_encoder import ImageEncoder3D
from refsam3d_nnunet.network.tuning import is_pretrained
from tests.network.conftest import tiny_config

GRID, TOKEN, WINDOW = 10, 4, 3  # 10 is no multiple of 3: padding and axis swaps show up
OURS = ("adapter", "necks.", "depth", "rel_pos_d")


def sam_encoder() -> ImageEncoderViT:
    torch.manual_seed(0)
    reference = ImageEncoderViT(
        img_size=GRID * TOKEN,
        patch_size=TOKEN,
        in_chans=1,
        embed_dim=32,
        depth=4,
        num_heads=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=(1, 3),
    ).eval()
    for parameter in reference.parameters():  # tables start at zero and would hide a swapped axis
        torch.nn.init.normal_(parameter, std=0.2)
    return reference


def with_weights_of(reference: ImageEncoderViT, depth: int = 1) -> ImageEncoder3D:
    config = tiny_config(
        patch_size=(depth, GRID * TOKEN, GRID * TOKEN),
        token_size=(1, TOKEN, TOKEN),
        window_size=(WINDOW, WINDOW, WINDOW),
        stem_tokens=False,
    )
    encoder = ImageEncoder3D(config, 1).eval()
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("neck.")}
    loaded = encoder.load_state_dict(state, strict=False)
    assert not loaded.unexpected_keys
    assert all(any(part in name for part in OURS) for name in loaded.missing_keys)
    return encoder


def sam_stages(reference: ImageEncoderViT, image: torch.Tensor) -> list[torch.Tensor]:
    x = reference.patch_embed(image) + reference.pos_embed
    outputs = []
    for block in reference.blocks:
        x = block(x)
        outputs.append(x)
    return outputs


@torch.no_grad()
def test_one_slice_equals_sam_at_every_level():
    reference = sam_encoder()
    encoder = with_weights_of(reference)
    image = torch.randn(2, 1, GRID * TOKEN, GRID * TOKEN)

    ours = encoder.stages(image[:, :, None])

    for volume, plane in zip(ours, sam_stages(reference, image), strict=True):
        torch.testing.assert_close(volume[:, 0], plane, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_slices_and_adapters_are_live():
    """The control: a dead depth axis, or an adapter nobody calls, would pass the parity test."""
    encoder = with_weights_of(sam_encoder(), depth=4)
    image = torch.randn(1, 1, 4, GRID * TOKEN, GRID * TOKEN)
    changed = image.clone()
    changed[:, :, 3] += 1
    before = encoder.stages(image)[-1]

    assert (encoder.stages(changed)[-1][:, 1] - before[:, 1]).abs().max() > 1e-3
    for block in encoder.blocks:
        torch.nn.init.normal_(block.adapter.up.weight, std=0.2)
    assert (encoder.stages(image)[-1] - before).abs().max() > 1e-3


def sized_like_sam(depth: int) -> ImageEncoder3D:
    size = PRESETS["vit_b"]
    config = tiny_config(
        patch_size=(depth, 1024, 1024),
        token_size=(16 if depth > 1 else 1, 16, 16),
        window_size=(14, 14, 14),
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        global_blocks=size.global_blocks,
        level_blocks=size.global_blocks,
        adapter_dim=size.adapter_dim,
        decoder_dim=size.decoder_dim,
        stem_channels=(4, 8, 16, 32),
        stem_tokens=False,
    )
    with torch.device("meta"):
        return ImageEncoder3D(config, 3)


def count(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def test_sam_vit_b_has_the_published_number_of_parameters():
    encoder = sized_like_sam(depth=1)
    shared = [p for n, p in encoder.named_parameters() if not any(part in n for part in OURS)]
    sam_neck = 256 * 768 + 2 * 256 + 256 * 256 * 9 + 2 * 256

    assert count(shared) + sam_neck == 89_670_912


def test_adapter_and_tuned_parameters_have_the_published_number():
    encoder = sized_like_sam(depth=1024)  # 3DSAM-adapter's tables have SAM's length in depth too
    tuned = {n: p for n, p in encoder.named_parameters() if not is_pretrained(f"image_encoder.{n}")}
    depth_positions_of_3dsam = 32 * 768

    assert count(encoder.blocks[0].adapter.parameters()) == 601_728
    assert count(tuned.values()) - 64 * 768 + depth_positions_of_3dsam == 15_209_984


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_presets_are_those_of_segment_anything(name, monkeypatch):
    built = {}
    build_sam = sys.modules["segment_anything.build_sam"]  # the package hides it behind a function
    monkeypatch.setattr(build_sam, "_build_sam", lambda **sizes: built.update(sizes))
    build_sam.sam_model_registry[name]()

    size = PRESETS[name]
    assert built["encoder_embed_dim"] == size.embed_dim
    assert built["encoder_depth"] == size.depth
    assert built["encoder_num_heads"] == size.num_heads
    assert tuple(built["encoder_global_attn_indexes"]) == size.global_blocks
