"""The neck of one encoder level: from token channels to the decoder's."""

from torch import Tensor, nn

from refsam3d_nnunet.config import Extent


class Neck3D(nn.Module):
    """A 1x1x1 convolution, layer norm, a 3x3x3 convolution, layer norm.

    SAM has one such neck in 2D; here each of the four levels has its own in 3D, trained from
    scratch. A kernel is flat along an axis of one token.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, fig. 1.

    Args:
        embed_dim: Channels of a token.
        dim: Channels of the decoder.
        grid_size: The grid's (depth, height, width), in tokens.
    """

    def __init__(self, embed_dim: int, dim: int, grid_size: Extent) -> None:
        super().__init__()
        kernel = tuple(3 if g > 1 else 1 for g in grid_size)
        self.reduce = nn.Linear(embed_dim, dim, bias=False)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mix = nn.Conv3d(dim, dim, kernel, padding=tuple(k // 2 for k in kernel), bias=False)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (b d h w e) to a level F_i (b d h w c)."""
        z = self.norm1(self.reduce(x)).movedim(-1, 1)  # b c d h w
        return self.norm2(self.mix(z).movedim(1, -1))
