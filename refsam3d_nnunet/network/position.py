"""Positions of image tokens as the mask decoder's two-way transformer sees them."""

import math

import torch
from torch import Tensor, nn


class FourierPosition(nn.Module):
    """Random Fourier features of the token's centre, SAM's prompt encoding with a third axis.

    Coordinates run from 0 to 1 along each axis and are mapped to [-1, 1]; code = [sin, cos] of
    2 pi times their product with a fixed Gaussian matrix, whose rows are depth, height, width.

    References:
        Kirillov et al. 2023 (SAM), arXiv:2304.02643; Tancik et al. 2020, arXiv:2006.10739.

    Args:
        dim: Channels of a position, even.
        grid_size: The grid's (depth, height, width), in tokens.
    """

    def __init__(self, dim: int, grid_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("gaussian", torch.randn(3, dim // 2))
        centres = [2 * (torch.arange(s) + 0.5) / s - 1 for s in grid_size]
        grid = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1)
        self.register_buffer("centres", grid, persistent=False)

    def forward(self) -> Tensor:
        """Position codes, d h w c."""
        # Not a matrix product: autocast would compute that, and the angle, in half precision.
        angle = 2 * math.pi * (self.centres[..., None] * self.gaussian).sum(-2)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
