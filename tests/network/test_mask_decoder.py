"""Convolutions of the mask decoder: how many there are, where, and that older plans keep theirs."""

import pytest
from torch import nn

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.mask_decoder import MaskDecoder3D
from tests.network.conftest import tiny_config

# Tokens of 2 x 8 x 8: the finest two resolutions are not pooled along the depth.
FLAT = {"token_size": (2, 8, 8), "stem_channels": (4, 8, 12)}


def kernels(decoder: MaskDecoder3D) -> list[list[tuple[int, ...]]]:
    """Of the convolutions of each resolution, the coarsest first."""
    return [[m.kernel_size for m in up.modules() if type(m) is nn.Conv3d] for up in decoder.ups]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_resolutions_but_the_full_have_as_many_convolutions_as_planned(count):
    decoder = MaskDecoder3D(tiny_config(**FLAT, decoder_convolutions=count))
    assert kernels(decoder) == [count * [(3, 3, 3)], count * [(1, 3, 3)], [(1, 3, 3)]]


def test_an_older_plan_keeps_its_network():
    numbers = tiny_config().to_json()
    numbers.pop("decoder_convolutions")
    decoder = MaskDecoder3D(NetworkConfig.from_json(numbers))
    assert [len(of_resolution) for of_resolution in kernels(decoder)] == [1, 1]
    assert not [name for name in decoder.state_dict() if ".more." in name]


@pytest.mark.parametrize(("preset", "count"), [("vit_t", 2), ("vit_s", 1), ("vit_b", 1)])
def test_how_many_there_are_is_the_presets(preset, count):
    config = design_network((40, 56, 40), (1, 1, 1), preset)
    assert config.decoder_convolutions == count
