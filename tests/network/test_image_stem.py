"""Convolutions of the image stem: how many there are, where, and that older plans keep theirs."""

import pytest
import torch
from torch import nn

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.network.image_stem import ImageStem
from tests.network.conftest import tiny_config

NAMES = ["0.weight", "1.weight", "1.bias"]  # convolution and norm
# Tokens of 2 x 8 x 8: the finest two resolutions are not pooled along the depth.
FLAT = {"token_size": (2, 8, 8), "stem_channels": (4, 8, 12)}


def convolutions(stem: ImageStem) -> list[list[nn.Conv3d]]:
    """Of each resolution, in order."""
    levels = zip(stem.stages, stem.more, strict=True)
    return [[m for m in nn.Sequential(*ends).modules() if type(m) is nn.Conv3d] for ends in levels]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_resolutions_but_the_full_have_as_many_convolutions_as_planned(count):
    stem = ImageStem(tiny_config(**FLAT, stem_convolutions=count), 1)
    assert [len(layers) for layers in convolutions(stem)] == [1, count, count]
    sizes = [skip.shape[1:] for skip in stem(torch.randn(1, 1, 4, 16, 16))]
    assert sizes == [(4, 4, 16, 16), (8, 4, 8, 8), (12, 4, 4, 4)]


def test_the_second_convolution_is_flat_where_the_resolution_is():
    _, half, quarter = convolutions(ImageStem(tiny_config(**FLAT, stem_convolutions=2), 1))
    assert [layer.kernel_size for layer in half] == [(1, 3, 3), (1, 3, 3)]
    assert [layer.kernel_size for layer in quarter] == [(1, 3, 3), (3, 3, 3)]
    assert [layer.stride for layer in half] == [(1, 2, 2), (1, 1, 1)]


def test_an_older_plan_keeps_its_network():
    numbers = tiny_config().to_json()
    numbers.pop("stem_convolutions")
    stem = ImageStem(NetworkConfig.from_json(numbers), 1)
    names = [f"stages.{level}.{name}" for level in range(2) for name in NAMES]
    assert list(stem.state_dict()) == names
