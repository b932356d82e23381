"""SAM's weights in the volumetric network: what is copied, what is adapted, and how."""

import json
import re

import pytest
import torch
from segment_anything import sam_model_registry

from refsam3d_nnunet.pretrained.checkpoint import read_checkpoint
from refsam3d_nnunet.pretrained.resample import resize_kernel, resize_relative_table
from tests.pretrained.sam_states import (
    DEPTH,
    DIM,
    FRESH,
    GLOBAL_BLOCK,
    GRID,
    SAM_GRID,
    load_sam,
    make_sam,
    sam_state,
    target_state,
)


def test_every_tensor_has_exactly_one_fate():
    state, target = sam_state(), target_state()
    report = load_sam(state, target)

    fates = [*report.loaded, *report.adapted, *report.fresh]
    assert sorted(fates) == sorted(target)
    for name, tensor in target.items():
        assert bool((tensor == FRESH).all()) == (name in report.fresh), name
    assert set(report.fresh) == {
        name
        for name in target
        if re.search(r"depth_(weight|bias)|label_weight|pos_embed_depth|necks|adapter|text\.", name)
    }
    not_used = r"image_encoder\.neck|point|not_a_point|mask_downscaling|iou|upscaling|hyper"
    assert set(report.ignored) == {name for name in state if re.search(not_used, name)}


def test_what_fits_is_copied_bit_by_bit():
    state, target = sam_state(), target_state()
    report = load_sam(state, target)

    for name in report.loaded:
        assert torch.equal(target[name], state[name]), name
    for part in ("blocks.2.attn.qkv.weight", "blocks.0.mlp.lin2.bias", "patch_embed.proj.bias"):
        assert f"image_encoder.{part}" in report.loaded
    transformer = [name for name in state if name.startswith("mask_decoder.transformer.")]
    assert len(transformer) == 2 * 36 + 10
    assert set(transformer) <= set(report.loaded)


def test_patch_kernel():
    state, target = sam_state(), target_state()
    report = load_sam(state, target)

    name = "image_encoder.patch_embed.proj.weight"
    wanted = resize_kernel(state[name].sum(1, keepdim=True) / 2, (8, 4))
    torch.testing.assert_close(target[name], wanted.expand(-1, 2, -1, -1), rtol=1e-4, atol=1e-5)
    assert "2 channels; 16x16 to 8x4 pixels" in report.adapted[name]


def test_an_axis_is_not_taken_for_the_other():
    """Tables that depend on one axis alone stay so; the depth table is the mean of the two."""
    state, target = sam_state(), target_state()
    ramp = torch.arange(float(SAM_GRID))[:, None, None].expand(1, SAM_GRID, SAM_GRID, DIM)
    state["image_encoder.pos_embed"] = ramp
    for i in range(DEPTH):
        state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].fill_(2.0 + i)
        state[f"image_encoder.blocks.{i}.attn.rel_pos_w"].fill_(6.0 + i)
    load_sam(state, target)

    position = target["image_encoder.pos_embed"]
    assert position.shape == (1, 5, 6, DIM)
    assert position[0, :, 0, 0].diff().min() > 0.5
    torch.testing.assert_close(position[:, :, :1].expand_as(position), position)
    for i in range(DEPTH):
        for axis, value in zip("hwd", (2.0, 6.0, 4.0), strict=True):
            table = target[f"image_encoder.blocks.{i}.attn.rel_pos_{axis}"]
            torch.testing.assert_close(table, torch.full_like(table, value + i))


def test_depth_table_when_the_windows_differ():
    state, target = sam_state(), target_state()
    report = load_sam(state, target)

    name = f"image_encoder.blocks.{GLOBAL_BLOCK}.attn.rel_pos_"
    rows = 2 * GRID[0] - 1
    both = [resize_relative_table(state[name + axis], rows) for axis in "hw"]
    torch.testing.assert_close(target[name + "d"], (both[0] + both[1]) / 2)
    assert report.adapted[name + "d"] == "mean of height and width, 15 to 5 rows"
    assert report.adapted[name + "h"] == "15 to 9 rows, linear"


def test_position_code_is_sams_where_depth_is_halfway():
    """SAM's rows are (x, y), ours (depth, y, x); at depth 0.5 the first row has no say."""
    sam = make_sam()
    target = target_state()
    load_sam(sam.state_dict(), target)

    grid = (5, 7)
    wanted = sam.prompt_encoder.pe_layer(grid)  # c h w
    y, x = ((torch.arange(s) + 0.5) / s * 2 - 1 for s in grid)
    places = torch.stack(torch.meshgrid(torch.zeros(1), y, x, indexing="ij"), dim=-1)[0]
    angle = 2 * torch.pi * (places @ target["mask_decoder.image_pe.gaussian"])
    given = torch.cat([angle.sin(), angle.cos()], dim=-1).movedim(-1, 0)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    assert (target["mask_decoder.image_pe.gaussian"][0] == FRESH).all()


def test_mask_token_is_that_of_the_single_mask():
    state, target = sam_state(), target_state()
    report = load_sam(state, target)
    token = target["mask_decoder.mask_token"]
    assert torch.equal(token, state["mask_decoder.mask_tokens.weight"][:1])
    assert report.adapted["mask_decoder.mask_token"] == "first of SAM's mask tokens"


def test_no_mask_given_is_the_bias_of_the_deepest_level():
    state, target = sam_state(), target_state()
    load_sam(state, target)
    wanted = state["prompt_encoder.no_mask_embed.weight"][0]
    assert torch.equal(target["cross_attention.3.out.bias"], wanted)


def test_a_decoder_of_another_width_stays_fresh():
    state, target = sam_state(), target_state(width=16)
    report = load_sam(state, target)

    decoder = [name for name in target if name.startswith("mask_decoder.")]
    assert all((target[name] == FRESH).all() for name in decoder)
    for name in decoder:
        assert "another width" in report.fresh[name]
    reason = report.ignored["mask_decoder.transformer.norm_final_attn.bias"]
    assert "[32, 32] in the file and [16, 16] in the network" in reason
    assert "image_encoder.blocks.0.attn.qkv.weight" in report.loaded


def test_the_image_encoder_alone():
    encoder = {
        name.removeprefix("image_encoder."): tensor
        for name, tensor in sam_state().items()
        if name.startswith("image_encoder.")
    }
    target = target_state()
    report = load_sam(encoder, target)
    assert "image_encoder.blocks.0.norm1.weight" in report.loaded
    assert report.fresh["mask_decoder.mask_token"] == "the file holds no mask decoder"
    assert "the file holds no mask decoder" in report.fresh.values()


@pytest.mark.parametrize("wrapped", [False, True])
def test_from_a_file(wrapped, tmp_path):
    """SAM's files hold the state dict itself, those of MedSAM's training have it under a name."""
    state, one, two = make_sam().state_dict(), target_state(), target_state()
    torch.save({"model": state, "epoch": 3} if wrapped else state, tmp_path / "sam.pth")
    load_sam(state, one)
    load_sam(read_checkpoint(tmp_path / "sam.pth"), two)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.sam."])
def test_names_after_training(prefix):
    state, one, two = sam_state(), target_state(), target_state()
    load_sam(state, one)
    load_sam({prefix + name: tensor for name, tensor in state.items()}, two)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_tensors_of_sam_hq_are_known():
    extra = ["hf_token.weight", "hf_mlp.layers.2.bias", "compress_vit_feat.0.weight"]
    extra += ["embedding_encoder.3.bias", "embedding_maskfeature.1.weight"]
    state = sam_state() | {f"mask_decoder.{name}": torch.zeros(3) for name in extra}
    report = load_sam(state, target_state())
    assert all("SAM-HQ" in report.ignored[f"mask_decoder.{name}"] for name in extra)


def test_without_relative_positions():
    state = sam_state()
    target = {name: tensor for name, tensor in target_state().items() if ".rel_pos_" not in name}
    report = load_sam(state, target)
    tables = [name for name in state if ".rel_pos_" in name]
    assert len(tables) == 2 * DEPTH
    for name in tables:
        assert report.ignored[name] == "the network is planned without relative positions"


def test_a_single_slice_has_no_depth_table():
    target = {
        name: tensor for name, tensor in target_state().items() if not name.endswith("rel_pos_d")
    }
    report = load_sam(sam_state(), target)
    assert not any(name.endswith("rel_pos_d") for name in report.adapted)


def test_sams_own_sizes_change_nothing():
    """With SAM's grid, windows and token only the colours have to be adapted."""
    state, target = sam_state(), target_state(token=(4, 16, 16), grid=(2, SAM_GRID, SAM_GRID))
    for name in target:
        if name.endswith(("rel_pos_h", "rel_pos_w")):
            target[name] = torch.full_like(state[name], FRESH)
    report = load_sam(state, target)
    in_plane = {name for name in report.adapted if not name.endswith("rel_pos_d")}
    assert in_plane == {
        "image_encoder.patch_embed.proj.weight",
        "mask_decoder.mask_token",
        "mask_decoder.image_pe.gaussian",
        "cross_attention.3.out.bias",
    }
    assert torch.equal(target["image_encoder.pos_embed"], state["image_encoder.pos_embed"])


def test_parameters_are_written_in_place_and_keep_their_dtype():
    module = torch.nn.Linear(DIM, 3 * DIM).bfloat16()
    target = target_state()
    target["image_encoder.blocks.0.attn.qkv.weight"] = module.weight
    state = sam_state()
    load_sam(state, target)
    wanted = state["image_encoder.blocks.0.attn.qkv.weight"].bfloat16()
    assert torch.equal(module.weight, wanted)
    assert module.weight.requires_grad
    assert module.weight.grad_fn is None


def test_the_file_is_left_as_it_is():
    state = sam_state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    load_sam(state, target_state())
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_report_for_people_and_machines():
    report = load_sam(sam_state(), target_state())
    lines = report.summary().splitlines()
    assert lines[0].endswith(f"{len(report.loaded)} tensors loaded as they are")
    assert any(re.match(r"  adapted: .*rel_pos_d and \d more \(mean of height", x) for x in lines)
    assert any("fresh" in x and "SAM has nothing like it" in x for x in lines)
    assert any("ignored: image_encoder.neck.0.weight and 5 more (the necks" in x for x in lines)
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    assert set(report.to_json()) == {"encoder", "loaded", "adapted", "fresh", "ignored"}


def test_the_true_vit_b():
    """All 89.7 million parameters of SAM's ViT-B but its neck's find a place."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in sam_model_registry["vit_b"]().state_dict().items()}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    state["image_encoder.blocks.11.attn.qkv.bias"].fill_(3.0)
    target = target_state(
        dim=768, depth=12, heads=12, width=256, token=(8, 8, 8), channels=1, grid=(2, 8, 8)
    )
    report = load_sam(state, target)

    assert report.encoder == "vit_b (768 channels, 12 blocks, 12 heads), SAM"
    encoder = {n: s.numel() for n, s in shapes.items() if n.startswith("image_encoder.")}
    unused = {name for name in encoder if name in report.ignored}
    assert unused == {name for name in encoder if name.startswith("image_encoder.neck.")}
    assert sum(encoder.values()) == 89_670_912
    assert (target["image_encoder.blocks.11.attn.qkv.bias"] == 3).all()
    assert not {n for n in report.fresh if n.startswith("mask_decoder.")}
