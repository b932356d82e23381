"""From voxels to tokens: SAM's 2D kernel in the plane, a depth-wise kernel across slices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent


class PatchEmbedding3D(nn.Module):
    """Token = depth kernel applied to SAM's embedding of each of its slices.

    The two convolutions, (1, k, k) and a depth-wise (k, 1, 1), compose into one projection::

        W[e, c, z, y, x] = W_depth[e, z] · W_plane[e, c, y, x]
        bias[e] = b_depth[e] + b_plane[e] · sum_z W_depth[e, z]

    That small kernel is built at each forward and applied as one matrix product, which spares
    an intermediate of all slices in all token channels. The depth kernel starts as the mean
    over slices: at first a token is SAM's embedding of its mean slice.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, sec. 3.1.

    Args:
        image_channels: Modalities.
        embed_dim: Channels of a token.
        token_size: Extent of a token, in voxels.
        label_channels: Further input channels, behind the modalities, that hold the one-hot
            labels of a cascade's previous stage. Their kernel starts at zero and is always tuned.
    """

    def __init__(
        self, image_channels: int, embed_dim: int, token_size: Extent, label_channels: int = 0
    ) -> None:
        super().__init__()
        depth, height, width = token_size
        self.token_size = token_size
        self.proj = nn.Conv2d(image_channels, embed_dim, (height, width), (height, width))
        self.depth_weight = nn.Parameter(torch.full((embed_dim, depth), 1 / depth))
        self.depth_bias = nn.Parameter(torch.zeros(embed_dim))
        if label_channels:
            kernel = torch.zeros(embed_dim, label_channels, height, width)
            self.label_weight = nn.Parameter(kernel)

    def composed(self) -> tuple[Tensor, Tensor]:
        """Kernel (e c z y x) and bias (e) of the one projection that equals both convolutions."""
        plane = self.proj.weight
        if hasattr(self, "label_weight"):
            plane = torch.cat([plane, self.label_weight], dim=1)
        kernel = plane[:, :, None] * self.depth_weight[:, None, :, None, None]
        return kernel, self.depth_bias + self.proj.bias * self.depth_weight.sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """Projects ``x`` (b c D H W), whole tokens along each axis, to tokens (b d h w e)."""
        kernel, bias = self.composed()
        b, c = x.shape[:2]
        (td, th, tw), (d, h, w) = self.token_size, self._grid(x)
        x = x.view(b, c, d, td, h, th, w, tw).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return F.linear(x.reshape(b, d, h, w, -1), kernel.flatten(1), bias)

    def _grid(self, x: Tensor) -> Extent:
        d, h, w = (s // t for s, t in zip(x.shape[2:], self.token_size, strict=True))
        return d, h, w
