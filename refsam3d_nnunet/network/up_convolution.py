"""A transposed convolution and the convolution behind it, as one transposed convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent


def pays_off_on(device: torch.device) -> bool:
    """Whether :func:`up_convolution` is faster there than both convolutions.

    It is on a CPU; on a GPU that was not measured.
    """
    return device.type == "cpu"


def up_convolution(x: Tensor, up: nn.ConvTranspose3d, weight: Tensor, padding: Extent) -> Tensor:
    """conv(up(x)), without the tensor between them.

    ::

        y[o] = sum_t K[t] · (b + sum_j U[o + t - p - s j] · x[j])
             = sum_j W[o + p - s j] · x[j]  +  sum_{t inside} K[t] · b,
        W[k] = sum_t K[t] · U[k + t - 2p]

    W is the convolution of the kernel U with the kernel K, over its whole overlap. A voxel of y
    then needs two numbers of x along an axis that U doubles, where K needs three of up(x).

    Args:
        x: b c D H W.
        up: Transposed convolution whose kernel U is as large as its step s, with a bias b.
        weight: Kernel K of the convolution, o m kd kh kw, odd along each axis; m are the channels
            that ``up`` makes.
        padding: p of that convolution, half of its kernel.

    Returns:
        b o sD sH sW, up to rounding what both convolutions give one after the other.
    """
    kernel = F.conv3d(up.weight, weight, padding=[k - 1 for k in weight.shape[2:]])
    y = F.conv_transpose3d(x, kernel, None, up.stride, padding)
    y += _of_constant(up.bias, weight, y.shape[2:])
    return y


def _of_constant(constant: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
    """What the convolution makes of one number per channel, o D H W: less at the borders."""
    y = torch.einsum("omdhw,m->odhw", weight, constant)
    for extent in size:
        kernel = y.shape[1]
        ones = F.pad(y.new_ones(extent), (kernel // 2, kernel // 2))
        # Of each place of the kernel and each voxel: whether the one lies inside for the other.
        y = torch.tensordot(y, ones.unfold(0, extent, 1), dims=([1], [0]))
    return y
