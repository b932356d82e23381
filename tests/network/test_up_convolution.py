"""Two convolutions as one: the same numbers, the same gradients, and where they are used."""

import itertools

import pytest
import torch
from torch import nn

from refsam3d_nnunet.network import mask_decoder
from refsam3d_nnunet.network.mask_decoder import UpBlock
from refsam3d_nnunet.network.up_convolution import pays_off_on, up_convolution

FACTORS = list(itertools.product((1, 2), repeat=3))


def two_convolutions(factor, kernel) -> tuple[nn.ConvTranspose3d, nn.Conv3d]:
    up = nn.ConvTranspose3d(5, 4, factor, factor)
    conv = nn.Conv3d(4, 6, kernel, padding=tuple(k // 2 for k in kernel), bias=False)
    return up.double(), conv.double()


def results(function, inputs) -> list[torch.Tensor]:
    """Output and the gradients of all inputs, for an output that weighs all voxels otherwise."""
    y = function()
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), inputs)]


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (1, 3, 5)], ids=str)
@pytest.mark.parametrize("extent", [(1, 2, 1), (3, 2, 4)], ids=str)
@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_numbers_and_gradients_are_those_of_both_convolutions(factor, extent, kernel):
    up, conv = two_convolutions(factor, kernel)
    x = torch.randn(2, 5, *extent, dtype=torch.double, requires_grad=True)
    inputs = [x, up.weight, up.bias, conv.weight]
    one = results(lambda: up_convolution(x, up, conv.weight, conv.padding), inputs)
    both = results(lambda: conv(up(x)), inputs)
    torch.testing.assert_close(one, both)


def test_a_bias_is_less_at_the_borders():
    up, conv = nn.ConvTranspose3d(1, 1, (1, 1, 2), (1, 1, 2)), nn.Conv3d(1, 1, (1, 1, 3))
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 10.0, 100.0]))
        up.bias.fill_(2.0)
        y = up_convolution(torch.zeros(1, 1, 1, 1, 2), up, conv.weight, (0, 0, 1))
    assert y.flatten().tolist() == [220.0, 222.0, 222.0, 22.0]


def test_a_gpu_keeps_both():
    assert not pays_off_on(torch.device("cuda"))


@pytest.fixture
def composed(monkeypatch):
    """Extents at which two convolutions were computed as one."""
    seen = []

    def spied(x, *others):
        y = up_convolution(x, *others)
        seen.append(tuple(y.shape[2:]))
        return y

    monkeypatch.setattr(mask_decoder, "up_convolution", spied)
    return seen


def test_an_up_block_without_levels_computes_both_as_one(composed):
    block = UpBlock(8, 4, (1, 2, 2), (1, 3, 3), 2).double()
    x = torch.randn(2, 8, 2, 3, 4, dtype=torch.double, requires_grad=True)
    skip = torch.randn(2, 4, 2, 6, 8, dtype=torch.double, requires_grad=True)
    nothing, inputs = torch.zeros_like(skip), [x, skip, *block.parameters()]
    one = results(lambda: block(x, skip, []), inputs)
    both = results(lambda: block(x, skip, [nothing]), inputs)
    torch.testing.assert_close(one, both)
    assert composed == [(2, 6, 8)]


@pytest.mark.parametrize(
    ("changes", "extents"),
    [
        ({}, [(6, 20, 24)]),
        ({"token_size": (4, 16, 16), "stem_channels": (4, 4, 8, 8)}, [(8, 16, 16), (8, 32, 32)]),
    ],
    ids=["two halvings", "four"],
)
def test_the_network_does_so_where_no_level_joins(build, composed, changes, extents):
    network = build(**changes)
    network(torch.randn(1, 1, *network.config.patch_size))
    assert composed == extents
