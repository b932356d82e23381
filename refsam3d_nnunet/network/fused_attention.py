"""torch's fused attention, by the kernels that can be trusted."""

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

# Not cuDNN's, which torch prefers on Hopper and Blackwell: its backward gives NaN for some lengths
# of a masked key (pytorch issue 196678), its forward wrong results elsewhere (193893).
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(scale · q k^T) v.

    Args:
        q: Queries, b a n c.
        k: Keys, b a m c.
        v: Values, b a m c.
        mask: True where a key may be looked at; broadcast to b a n m.
        scale: 1 / sqrt(c) if None.

    Returns:
        b a n c.
    """
    with sdpa_kernel(_KERNELS):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
