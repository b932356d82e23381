import itertools
import math

import pytest
import torch

from refsam3d_nnunet.network.attention import VolumeAttention
from refsam3d_nnunet.network.block import Block3D, join_windows, partition_windows


def explicit_attention(layer: VolumeAttention, x: torch.Tensor) -> torch.Tensor:
    """SAM's formula with a third axis, score by score."""
    b, d, h, w, c = x.shape
    heads, head_dim = layer.num_heads, c // layer.num_heads
    q, k, v = layer.qkv(x).reshape(b, -1, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(head_dim)
    places = list(itertools.product(range(d), range(h), range(w)))
    for i, (di, hi, wi) in enumerate(places):
        for j, (dj, hj, wj) in enumerate(places):
            bias = layer.rel_pos_h[hi - hj + h - 1] + layer.rel_pos_w[wi - wj + w - 1]
            if d > 1:
                bias = bias + layer.rel_pos_d[di - dj + d - 1]
            scores[:, :, i, j] += q[:, :, i] @ bias
    out = scores.softmax(-1) @ v
    return layer.proj(out.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("extent", [(3, 4, 2), (1, 3, 5)], ids=str)
@torch.no_grad()
def test_fused_relative_positions_equal_the_explicit_scores(extent):
    torch.manual_seed(0)
    layer = VolumeAttention(12, 2, extent)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, *extent, 12)

    torch.testing.assert_close(layer(x), explicit_attention(layer, x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_zero_tables_equal_attention_without_tables():
    torch.manual_seed(0)
    layer = VolumeAttention(12, 2, (3, 4, 2))
    plain = VolumeAttention(12, 2, (3, 4, 2), relative_position=False)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(2, 3, 4, 2, 12)

    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-6)


def test_a_single_slice_has_no_depth_table():
    assert not hasattr(VolumeAttention(12, 2, (1, 4, 2)), "rel_pos_d")


@pytest.mark.parametrize("window", [(2, 3, 4), (1, 5, 2), (3, 7, 5)], ids=str)
def test_windows_join_to_what_they_were_cut_from(window):
    x = torch.randn(2, 3, 7, 5, 4)
    windows = partition_windows(x, window)

    assert windows.shape[1:] == (*window, 4)
    assert torch.equal(join_windows(windows, x.shape), x)


@torch.no_grad()
def test_a_window_does_not_see_its_neighbour():
    torch.manual_seed(0)
    block = Block3D(12, 2, grid_size=(2, 4, 6), window_size=(2, 4, 3), adapter_dim=4).eval()
    x = torch.randn(1, 2, 4, 6, 12)
    changed = x.clone()
    changed[:, :, :, 3:] += 1

    difference = (block(x) - block(changed)).abs().amax(dim=(0, 1, 2, 4))
    assert torch.equal(difference[:3], torch.zeros(3))
    assert (difference[3:] > 0.1).all()


def test_windows_clamp_to_a_thin_grid():
    block = Block3D(12, 2, grid_size=(2, 9, 9), window_size=(8, 8, 8), adapter_dim=4)
    assert block.window == (2, 8, 8)
    assert not Block3D(12, 2, grid_size=(2, 9, 9), window_size=(9, 9, 9), adapter_dim=4).windowed
