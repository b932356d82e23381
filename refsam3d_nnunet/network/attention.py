"""Self-attention over a volume of tokens, with SAM's decomposed relative positions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent
from refsam3d_nnunet.network.fused_attention import fused_attention
from refsam3d_nnunet.network.rebuilding import rebuilding


class VolumeAttention(nn.Module):
    """Multi-head attention over all tokens of a volume.

    SAM adds to the score of query i and key j, at grid places (d_i, h_i, w_i) and
    (d_j, h_j, w_j), one dot product per axis, here with a third axis::

        score = q_i · k_j / sqrt(c) + q_i · R_d[d_i - d_j] + q_i · R_h[h_i - h_j] + q_i · R_w[..]

    ``q_i · R_h[h_i - h_j]`` is the dot product of a vector that belongs to the query, one number
    per row of the grid, with the one-hot code of the key's row. So both are appended to query
    and key, and a plain fused attention gives SAM's scores without a bias of n x n.

    References:
        Kirillov et al. 2023 (SAM), arXiv:2304.02643; Li et al. 2022 (MViTv2), arXiv:2112.01526,
        sec. 4.1: the decomposition.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        extent: The volume's (depth, height, width), in tokens.
        relative_position: Whether the tables R exist; an axis of one token has none.
    """

    def __init__(
        self, dim: int, num_heads: int, extent: Extent, relative_position: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.extent = extent
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position = relative_position
        if relative_position:
            depth, height, width = extent
            head_dim = dim // num_heads
            if depth > 1:
                self.rel_pos_d = nn.Parameter(torch.zeros(2 * depth - 1, head_dim))
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * height - 1, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * width - 1, head_dim))
            axes = (0, 1, 2) if depth > 1 else (1, 2)
            rows, codes = _places(axes, extent)
            self.register_buffer("table_rows", rows, persistent=False)
            self.register_buffer("place_codes", codes, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attends over ``x`` (b d h w c), whose grid must be ``extent``; the shape stays."""
        shape, head_dim = x.shape, x.shape[-1] // self.num_heads
        qkv = self.qkv(x).view(shape[0], -1, 3, self.num_heads, head_dim)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # 3 b a n c
        if self.relative_position:
            out = self._with_places(qkv)
        else:
            out = fused_attention(*qkv)
        kept = out.detach()

        def joined(heads: Tensor) -> Tensor:
            return heads[..., :head_dim].transpose(1, 2).reshape(shape)

        z = joined(out)
        with rebuilding((z, lambda: joined(kept))):
            return self.proj(z)

    def _with_places(self, qkv: Tensor) -> Tensor:
        """Attention with relative-position products in queries and place codes in keys."""
        names = ("rel_pos_d", "rel_pos_h", "rel_pos_w")
        table = torch.cat([getattr(self, name) for name in names if hasattr(self, name)])
        kept = qkv.detach()
        q, k, v = qkv  # unbound at once: backward writes their gradients into one tensor
        q = q.contiguous()
        with rebuilding((q, kept[0].contiguous)):
            products = q @ table.to(q.dtype).T
        products = products.gather(3, self.table_rows.expand(*q.shape[:-1], -1))
        known = products.detach()
        q, k, v = self._queries(q, products), self._keys(k), self._values(v)
        with rebuilding(
            (q, lambda: self._queries(kept[0], known)),
            (k, lambda: self._keys(kept[1])),
            (v, lambda: self._values(kept[2])),
        ):
            return fused_attention(q, k, v, scale=1.0)

    # Fused kernels want one width for queries, keys and values, in multiples of eight.

    def _queries(self, q: Tensor, products: Tensor) -> Tensor:
        q = torch.cat([q / math.sqrt(q.shape[-1]), products], dim=-1)
        return F.pad(q, (0, -q.shape[-1] % 8))

    def _keys(self, k: Tensor) -> Tensor:
        codes = self.place_codes.to(k.dtype)
        k = torch.cat([k, codes.expand(*k.shape[:-1], -1)], dim=-1)
        return F.pad(k, (0, -k.shape[-1] % 8))

    def _values(self, v: Tensor) -> Tensor:
        width = v.shape[-1] + self.place_codes.shape[-1]
        return F.pad(v, (0, width - v.shape[-1] + -width % 8))


def _places(axes: tuple[int, ...], extent: Extent) -> tuple[Tensor, Tensor]:
    """For each token of a volume, per axis: rows of its table for all keys, and its own place.

    Returns:
        Rows of the concatenated tables, n x (sum of extents); one-hot places, of the same shape.
    """
    places = torch.cartesian_prod(*(torch.arange(s) for s in extent)).view(-1, 3)
    rows, codes, start = [], [], 0
    for axis in axes:
        size = extent[axis]
        rows.append(start + places[:, axis, None] - torch.arange(size) + size - 1)
        codes.append(F.one_hot(places[:, axis], size))
        start += 2 * size - 1
    return torch.cat(rows, 1), torch.cat(codes, 1).float()
