"""The trainable path through which a frozen SAM block sees its neighbouring slices."""

from torch import Tensor, nn

from refsam3d_nnunet.network.rebuilding import rebuilding


class Adapter3D(nn.Module):
    """Residual bottleneck with a depth-wise 3D convolution inside it.

    ::

        y = x + W_up · gelu(conv3d(W_down · x))

    ``W_up`` starts at zero: a fresh adapter is the identity, so the block around it still
    computes what SAM's checkpoint computed. Training moves away from that point.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, eq. 1 and fig. 1C.
        Houlsby et al. 2019, arXiv:1902.00751, sec. 2.1: the near-identity start.

    Args:
        dim: Channels of the token grid.
        bottleneck_dim: Channels inside the bottleneck, fewer than ``dim``.
        kernel_size: Extent of the convolution along (depth, height, width), in tokens.

    Raises:
        ValueError: If the bottleneck does not narrow, or a kernel extent is even.
    """

    def __init__(
        self, dim: int, bottleneck_dim: int, kernel_size: tuple[int, int, int] = (3, 3, 3)
    ) -> None:
        super().__init__()
        if not 1 <= bottleneck_dim < dim:
            raise ValueError(f"bottleneck_dim must lie in [1, {dim}), got {bottleneck_dim}")
        if any(k % 2 == 0 for k in kernel_size):
            raise ValueError(f"kernel_size must be odd along every axis, got {kernel_size}")

        self.down = nn.Linear(dim, bottleneck_dim)
        self.mix = nn.Conv3d(
            bottleneck_dim,
            bottleneck_dim,
            kernel_size,
            padding=tuple(k // 2 for k in kernel_size),
            groups=bottleneck_dim,
        )
        self.act = nn.GELU()
        self.up = nn.Linear(bottleneck_dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts the adapter as the identity."""
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adds context from adjacent tokens to ``x`` (b d h w c); the shape stays."""
        z = self.down(x).movedim(-1, 1)  # b r d h w
        if z.device.type != "cpu":
            # Channels last, as it lies here, it would go to cuDNN, which is slow at this; else to
            # torch's own depth-wise kernel. On a CPU channels last is the faster one.
            z = z.contiguous()
        z = self.mix(z).movedim(1, -1).contiguous()  # b d h w r
        active, kept = self.act(z), z.detach()
        with rebuilding((active, lambda: self.act(kept))):
            return x + self.up(active)
