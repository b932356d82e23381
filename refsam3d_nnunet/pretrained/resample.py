"""Fitting the tensors of a 2D ViT to other channels, token sizes and grids: pure functions.

Each returns its argument itself when nothing has to change. Otherwise it computes in float32 and
returns the dtype it was given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def share_kernel(kernel: Tensor, channels: int) -> Tensor:
    """Makes a patch kernel for any number of image channels from one for red, green and blue.

    The sum over the colours, divided by the number of channels, serves every channel: an image
    that repeats one grey channel is embedded as the grey picture was. Three medical channels are
    no colours either, so they are treated alike.

    Args:
        kernel: Patch kernel [e, colours, h, w].
        channels: Channels of the images to come.

    Returns:
        Kernel [e, channels, h, w].

    Raises:
        ValueError: If the kernel is not two-dimensional.
    """
    if kernel.ndim != 4:
        raise ValueError(
            f"The kernel must have the form [e, colours, h, w], got {list(kernel.shape)}"
        )
    grey = kernel.float().sum(dim=1, keepdim=True) / channels
    return grey.repeat(1, channels, 1, 1).to(kernel.dtype)


def resize_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Fits a patch kernel to another token size by the pseudo-inverse of the resize.

    ::

        w' = pinv(B^T) w,   B x = bilinear resize of the patch x

    The token of a resized patch, <w', B x>, then equals <w, x>: exactly when patches grow, in the
    least-squares sense when they shrink. B is separable, so it is applied axis by axis.

    References:
        Beyer et al. 2023 (FlexiViT), arXiv:2212.08013, sec. 3.2, PI-resize.

    Args:
        kernel: Patch kernel [e, c, h, w].
        size: New height and width, in pixels.

    Returns:
        Kernel [e, c, *size].
    """
    height, width = kernel.shape[-2:]
    if (height, width) == tuple(size):
        return kernel
    rows = torch.linalg.pinv(bilinear_matrix(height, size[0]).T)
    columns = torch.linalg.pinv(bilinear_matrix(width, size[1]).T)
    return (rows @ kernel.float() @ columns.T).to(kernel.dtype)


def bilinear_matrix(old: int, new: int) -> Tensor:
    """The linear resize of ``old`` samples to ``new`` as a matrix [new, old], rows summing to 1.

    Shrinking averages over all samples (antialiasing), so that none of them is lost.
    """
    eye = torch.eye(old)[None, None]  # 1 1 old old, of which the first axis is resized
    resized = F.interpolate(
        eye, size=(new, old), mode="bilinear", align_corners=False, antialias=new < old
    )
    return resized[0, 0]


def resize_position_table(table: Tensor, size: tuple[int, int]) -> Tensor:
    """Fits a table of absolute positions to another grid, bicubically.

    Args:
        table: Position table [1, h, w, e].
        size: New height and width, in tokens.

    Returns:
        Table [1, *size, e].
    """
    height, width = table.shape[1:3]
    if (height, width) == tuple(size):
        return table
    shrinks = size[0] < height or size[1] < width
    resized = F.interpolate(
        table.float().permute(0, 3, 1, 2),  # b e h w
        size=tuple(size),
        mode="bicubic",
        align_corners=False,
        antialias=shrinks,
    )
    return resized.permute(0, 2, 3, 1).contiguous().to(table.dtype)


def resize_relative_table(table: Tensor, rows: int) -> Tensor:
    """Fits a table of relative positions to another window, linearly, as SAM does.

    Args:
        table: One row per offset -(s-1)..s-1 of a window of s tokens [2s-1, c].
        rows: New number of rows, 2s-1 as well, so that offset 0 stays in the middle.

    Returns:
        Table [rows, c].
    """
    if table.shape[0] == rows:
        return table
    resized = F.interpolate(table.float().T[None], size=rows, mode="linear", align_corners=False)
    return resized[0].T.contiguous().to(table.dtype)
