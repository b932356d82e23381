import json

import pytest

from refsam3d_nnunet.config import NetworkConfig, preset_named
from refsam3d_nnunet.design import default_preset, design_network, token_size, window_size

NUMBERS = design_network((40, 56, 40), (1, 1, 1), "vit_t").to_json()


def changed(**numbers) -> NetworkConfig:
    return NetworkConfig.from_json({**NUMBERS, **numbers})


def test_json_round_trip():
    config = NetworkConfig.from_json(json.loads(json.dumps(NUMBERS)))
    assert config == design_network((40, 56, 40), (1, 1, 1), "vit_t")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"token_size": [8, 8, 6]}, r"powers of two.*got \(8, 8, 6\)"),
        ({"token_size": [1, 1, 1], "stem_channels": []}, "one of them 2 at least"),
        ({"patch_size": [40, 0, 40]}, r"three positive integers, got \(40, 0, 40\)"),
        ({"patch_size": [40, 40]}, "patch_size must be three"),
        ({"num_heads": 5}, "embed_dim 192 is not a multiple of num_heads 5"),
        ({"level_blocks": [2, 5, 8, 12]}, r"level_blocks must be ascending and lie in \[0, 12\)"),
        ({"decoder_dim": 100}, "decoder_dim must be a multiple of 16, got 100"),
        ({"stem_convolutions": 0}, "stem_convolutions must be 1 at least, got 0"),
        ({"decoder_convolutions": 0}, "decoder_convolutions must be 1 at least, got 0"),
        ({"stem_channels": [16, 32]}, r"that is 3, got \(16, 32\)"),
        ({"auxiliary_masks": 3}, r"auxiliary_masks must lie in \[0, 3\), got 3"),
    ],
)
def test_contradictory_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        changed(**numbers)


def test_plan_of_another_version_is_refused():
    numbers = {k: v for k, v in NUMBERS.items() if k != "adapter_dim"} | {"lora_rank": 4}
    message = r"unknown \['lora_rank'\], missing \['adapter_dim'\].*Plan again"
    with pytest.raises(ValueError, match=message):
        NetworkConfig.from_json(numbers)


def test_unknown_preset_offers_the_nearest():
    with pytest.raises(ValueError, match="Unknown preset 'vitb'; .*Did you mean 'vit_b'?"):
        preset_named("vitb")


@pytest.mark.parametrize(
    ("patch", "spacing", "most", "token"),
    [
        ((128, 128, 128), (1, 1, 1), 4096, (8, 8, 8)),
        ((128, 128, 128), (1, 1, 1), 4095, (16, 16, 16)),
        ((40, 56, 40), (1, 1, 1), 4096, (8, 8, 8)),
        ((40, 128, 128), (8, 2, 2), 6144, (2, 8, 8)),  # thick slices: four times, a quarter
        ((16, 64, 64), (20, 1, 1), 4096, (1, 8, 8)),
        ((1, 64, 64), (1, 1, 1), 4096, (1, 8, 8)),
        ((4, 64, 64), (1, 1, 1), 4096, (4, 8, 8)),  # no token is larger than the patch needs
        ((160, 160, 160), (1, 1, 1), 1, (32, 32, 32)),  # as coarse as it gets
    ],
)
def test_tokens_are_isotropic_in_mm_within_their_budget(patch, spacing, most, token):
    assert token_size(patch, spacing, most) == token


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((8, 10, 12), (8, 10, 12)),
        ((16, 16, 16), (8, 8, 8)),
        ((9, 17, 16), (5, 6, 8)),
        ((1, 64, 64), (1, 13, 13)),
        ((1, 28, 64), (1, 14, 13)),
    ],
)
def test_windows_split_a_grid_evenly(grid, window):
    assert window_size(grid) == window


def test_thick_slices_are_pooled_late():
    config = design_network((40, 128, 128), (8, 2, 2), "vit_t")
    assert [config.stride_of(i) for i in range(4)] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]
    assert [config.kernel_of(i) for i in range(3)] == [(1, 3, 3), (1, 3, 3), (3, 3, 3)]


def test_a_patch_of_odd_size_is_padded_to_whole_tokens():
    config = design_network((20, 50, 41), (1, 1, 1), "vit_t")
    assert (config.grid_size, config.padded_size) == ((3, 7, 6), (24, 56, 48))


def test_small_volumes_get_the_small_encoder():
    assert default_preset((40, 56, 40)) == "vit_t"
    assert default_preset((128, 128, 128)) == "vit_s"
