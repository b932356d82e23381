"""Resampling of kernels and tables: the laws they are made to obey, and values by eye."""

import pytest
import torch
import torch.nn.functional as F

from refsam3d_nnunet.pretrained.resample import (
    bilinear_matrix,
    resize_kernel,
    resize_position_table,
    resize_relative_table,
    share_kernel,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_a_grey_image_is_embedded_as_its_rgb_picture():
    kernel, grey = torch.randn(5, 3, 4, 4), torch.randn(2, 1, 8, 8)
    wanted = F.conv2d(grey.repeat(1, 3, 1, 1), kernel, stride=4)
    for channels in (1, 2, 3, 4):
        shared = share_kernel(kernel, channels)
        assert shared.shape == (5, channels, 4, 4)
        given = F.conv2d(grey.repeat(1, channels, 1, 1), shared, stride=4)
        torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)


def test_no_channel_is_special():
    shared = share_kernel(torch.randn(5, 3, 4, 4), 3)
    assert torch.equal(shared[:, 0], shared[:, 2])


@pytest.mark.parametrize("shape", [(5, 3, 4, 4, 4), (5, 3)])
def test_a_kernel_that_is_not_two_dimensional(shape):
    with pytest.raises(ValueError, match=r"form \[e, colours, h, w\], got \[5, "):
        share_kernel(torch.zeros(shape), 1)


@pytest.mark.parametrize("size", [(9, 11), (6, 12), (13, 7)])
def test_larger_patches_give_the_same_tokens(size):
    kernel, patch = torch.randn(5, 2, 6, 7), torch.randn(3, 2, 6, 7)
    enlarged = F.interpolate(patch, size=size, mode="bilinear", align_corners=False)
    before = torch.einsum("ecyx,bcyx->be", kernel, patch)
    after = torch.einsum("ecyx,bcyx->be", resize_kernel(kernel, size), enlarged)

    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    plain = F.interpolate(kernel, size=size, mode="bilinear", align_corners=False)
    assert (torch.einsum("ecyx,bcyx->be", plain, enlarged) - before).abs().max() > 0.1


@pytest.mark.parametrize("size", [(8, 8), (4, 16), (32, 8), (5, 3)])
def test_equals_the_pseudo_inverse_of_the_whole_resize(size):
    """The formula as printed, on flattened patches: w' = pinv(B^T) w."""
    kernel = torch.randn(3, 2, 16, 16)
    basis = torch.eye(16 * 16, dtype=torch.float64).view(256, 1, 16, 16)
    steps = basis  # one axis after the other: torch antialiases both or none
    for axis in (0, 1):
        new = [*steps.shape[2:]]
        new[axis] = size[axis]
        steps = F.interpolate(steps, size=new, mode="bilinear", antialias=size[axis] < 16)
    resize = steps.flatten(1).T  # B, new x old
    wanted = torch.linalg.pinv(resize.T) @ kernel.double().flatten(2)[..., None]

    given = resize_kernel(kernel, size).double().flatten(2)[..., None]
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


def test_smaller_patches_are_the_best_fit():
    """No other kernel of that size comes closer: the residual is orthogonal to all of them."""
    kernel = torch.randn(1, 1, 16, 16)
    rows, columns = bilinear_matrix(16, 8), bilinear_matrix(16, 4)
    residual = kernel - rows.T @ resize_kernel(kernel, (8, 4)) @ columns
    torch.testing.assert_close(
        rows @ residual @ columns.T, torch.zeros(1, 1, 8, 4), atol=1e-5, rtol=0
    )


def test_a_flat_patch_keeps_its_token():
    """Constant kernels stay constant and keep their sum, on which the mean brightness hangs."""
    small = resize_kernel(torch.full((1, 1, 16, 16), 0.25), (8, 4))
    torch.testing.assert_close(small.sum(), torch.tensor(64.0), rtol=0.02, atol=0)


def test_bilinear_matrix_by_eye():
    assert bilinear_matrix(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    halved = bilinear_matrix(4, 2)
    torch.testing.assert_close(halved.sum(1), torch.ones(2))
    assert (halved > 0).any(0).all()  # every sample counts somewhere
    assert halved[0].argmax() in (0, 1)


def test_position_table_follows_its_axes():
    """A table that is linear along the height stays so, and flat along the width."""
    table = torch.linspace(0, 1, 64).view(1, 64, 1, 1).repeat(1, 1, 64, 3)
    resized = resize_position_table(table, (8, 5))
    assert resized.shape == (1, 8, 5, 3)
    inner = resized[0, 2:-2, :, 0]  # bicubic kernels bend the ends
    torch.testing.assert_close(inner.diff(dim=0), torch.full((3, 5), 8 / 63), atol=1e-4, rtol=0)
    torch.testing.assert_close(inner.diff(dim=1), torch.zeros(4, 4), atol=1e-5, rtol=0)


def test_shrinking_a_position_table_averages():
    """A checkerboard has mean 0; picking single entries would return its extremes."""
    sign = 1 - 2 * (torch.arange(64) % 2)
    table = (sign[:, None] * sign[None, :]).float().view(1, 64, 64, 1)
    assert resize_position_table(table, (9, 9)).abs().max() < 0.1


def test_growing_a_position_table_passes_through():
    table = torch.randn(1, 3, 3, 2)
    resized = resize_position_table(table, (9, 9))
    torch.testing.assert_close(resized[:, 1::3, 1::3], table)


@pytest.mark.parametrize("rows", [1, 7, 15, 27, 55])
def test_relative_tables_agree_with_sam(rows):
    from segment_anything.modeling.image_encoder import get_rel_pos

    table = torch.randn(27, 6)
    tokens = (rows + 1) // 2
    wanted = get_rel_pos(tokens, tokens, table)  # query key c
    resized = resize_relative_table(table, rows)
    place = torch.arange(tokens)
    offsets = place[:, None] - place[None, :] + tokens - 1
    torch.testing.assert_close(resized[offsets], wanted)


@pytest.mark.parametrize("rows", [1, 5, 27, 41])
def test_offset_zero_stays_in_the_middle(rows):
    table = torch.arange(-13.0, 14.0)[:, None]
    resized = resize_relative_table(table, rows)
    assert resized[rows // 2].item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(resized, -resized.flip(0), atol=1e-5, rtol=0)


RESIZES = [
    (resize_kernel, (2, 3, 8, 8), (8, 8), (4, 8)),
    (resize_position_table, (1, 8, 8, 4), (8, 8), (4, 8)),
    (resize_relative_table, (15, 4), 15, 7),
]


@pytest.mark.parametrize(("resize", "shape", "same", "other"), RESIZES)
def test_the_same_size_is_the_same_tensor(resize, shape, same, other):
    tensor = torch.randn(shape)
    assert resize(tensor, same) is tensor


@pytest.mark.parametrize(("resize", "shape", "same", "other"), RESIZES)
def test_computed_in_float32_returned_as_given(resize, shape, same, other):
    tensor = torch.randn(shape).half()
    resized = resize(tensor, other)
    assert resized.dtype == torch.float16
    assert torch.equal(resized, resize(tensor.float(), other).half())
