"""Convolutions on the image itself, for the detail that tokens cannot hold."""

import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent, NetworkConfig


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm, on a CPU as a group norm with one channel a group.

    That is the same function, and torch computes it in a third of the time there. On a GPU it
    would be the slower one, and autocast would compute it in single precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises each channel of ``x`` (b c D H W) over its voxels."""
        if x.device.type != "cpu":
            return super().forward(x)
        return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)


class ConvNormAct(nn.Sequential):
    """3D convolution, instance norm, leaky ReLU, as in nnU-Net's U-Nets.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Extent of the convolution, odd.
        stride: Step of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Extent, stride: Extent = (1, 1, 1)
    ) -> None:
        padding = tuple(k // 2 for k in kernel)
        super().__init__(
            nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False),
            InstanceNorm(out_channels, affine=True),
            nn.LeakyReLU(inplace=True),
        )
        nn.init.kaiming_normal_(self[0].weight, a=1e-2)


class ImageStem(nn.Module):
    """Image features at each resolution between voxel and token, skips of the mask decoder.

    The paper concatenates the image with the decoder's full-resolution features; the stem makes
    that U-shaped. Plain ViTs without it trail nnU-Net's U-Nets. More than one convolution at a
    resolution, as in a U-Net's encoder, learns faster: see documentation/search.md.

    Args:
        config: Architecture.
        in_channels: All input channels.
    """

    def __init__(self, config: NetworkConfig, in_channels: int) -> None:
        super().__init__()
        stages, more = [], []
        for level, channels in enumerate(config.stem_channels):
            here, above = config.stride_of(level), config.stride_of(max(level - 1, 0))
            depth, height, width = (s // a for s, a in zip(here, above, strict=True))
            # The first convolution of a resolution strides with the kernel it arrives from.
            kernel = config.kernel_of(max(level - 1, 0))
            stages.append(ConvNormAct(in_channels, channels, kernel, (depth, height, width)))
            again = (channels, channels, config.kernel_of(level))
            further = range(config.stem_convolutions_of(level) - 1)
            more.append(nn.Sequential(*(ConvNormAct(*again) for _ in further)))
            in_channels = channels
        self.stages = nn.ModuleList(stages)
        self.more = nn.ModuleList(more)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Skips (b c D' H' W'), full resolution first, for the image ``x`` (b c D H W)."""
        skips = []
        for stage, more in zip(self.stages, self.more, strict=True):
            x = more(stage(x))
            skips.append(x)
        return skips
