"""SAM's transformer block over volumes, with the 3D adapter in front of its attention."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent
from refsam3d_nnunet.network.adapter import Adapter3D
from refsam3d_nnunet.network.attention import VolumeAttention
from refsam3d_nnunet.network.rebuilding import rebuilding


class Mlp(nn.Module):
    """Two linear layers with a GELU between them; the names are SAM's."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.lin2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``x`` (... c) to the same shape."""
        z = self.lin1(x)
        active, kept = self.act(z), z.detach()
        with rebuilding((active, lambda: self.act(kept))):
            return self.lin2(active)


class Block3D(nn.Module):
    """Adapter, windowed or global attention, MLP; pre-norm and residual.

    With a grid of one slice and a fresh adapter this is SAM's 2D block.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        grid_size: The whole grid's (depth, height, width), in tokens.
        window_size: Extent of a window, in tokens; clamped to the grid along each axis, so that
            a thin volume is never padded to a cube. A window as large as the grid is global.
        adapter_dim: Width of the adapter's bottleneck.
        relative_position: Whether attention has relative positions.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        grid_size: Extent,
        window_size: Extent,
        adapter_dim: int,
        relative_position: bool = True,
    ) -> None:
        super().__init__()
        depth, height, width = (min(w, g) for w, g in zip(window_size, grid_size, strict=True))
        self.window = (depth, height, width)
        self.windowed = self.window != tuple(grid_size)
        kernel = tuple(3 if g > 1 else 1 for g in grid_size)
        self.adapter = Adapter3D(dim, adapter_dim, kernel)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = VolumeAttention(dim, num_heads, self.window, relative_position)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens ``x`` (b d h w c) to the same shape."""
        x = self.adapter(x)
        z = _through(self.attn, self._attention_input, x)
        x = x + (join_windows(z, x.shape) if self.windowed else z)
        return x + _through(self.mlp, self.norm2, x)

    def _attention_input(self, x: Tensor) -> Tensor:
        z = self.norm1(x)
        return partition_windows(z, self.window) if self.windowed else z


def _through(module: nn.Module, prepare: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """module(prepare(x)), keeping ``x`` alone for backward, as the norm does anyway."""
    z, kept = prepare(x), x.detach()
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        # Norms give single precision, which the matrix product would not keep but copy.
        z = z.to(torch.get_autocast_dtype(device))
    dtype = z.dtype
    with rebuilding((z, lambda: prepare(kept).to(dtype))):
        return module(z)


def partition_windows(x: Tensor, window: Extent) -> Tensor:
    """Cuts tokens (b d h w c) into windows, padded at the far ends with zeros as SAM does.

    Returns:
        Windows, (b * number of windows) d h w c with the window's extent.
    """
    b, c = x.shape[0], x.shape[-1]
    pad = [-size % w for size, w in zip(x.shape[1:4], window, strict=True)]
    x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
    nd, nh, nw = (size // w for size, w in zip(x.shape[1:4], window, strict=True))
    x = x.view(b, nd, window[0], nh, window[1], nw, window[2], c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, *window, c)


def join_windows(windows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inverse of :func:`partition_windows`: back to tokens of ``shape`` (b d h w c)."""
    b, d, h, w, c = shape
    wd, wh, ww = windows.shape[1:4]
    nd, nh, nw = -(-d // wd), -(-h // wh), -(-w // ww)
    x = windows.view(b, nd, nh, nw, wd, wh, ww, c).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, nd * wd, nh * wh, nw * ww, c)[:, :d, :h, :w]
