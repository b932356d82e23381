"""Hierarchical cross-attention: each encoder level looks at the text."""

from torch import Tensor, nn

from refsam3d_nnunet.network.fused_attention import fused_attention


class TextCrossAttention(nn.Module):
    """One level of the hierarchical cross-attention.

    ::

        G_i = F_i + W_o · softmax(Q K^T / sqrt(c)) V,    Q = W_q F_i,  K = W_k T,  V = W_v T

    The paper writes V with the shape of the image feature, which cannot be multiplied with an
    attention over words (its eq. VII); here the values come from the text. ``W_o`` starts at
    zero: at first G_i = F_i.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, eq. VI-VII.

    Args:
        dim: Channels of image and text tokens.
        num_heads: Attention heads.
    """

    def __init__(self, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, level: Tensor, text: Tensor, real: Tensor) -> Tensor:
        """Adds what the text says to a level.

        Args:
            level: Image features F_i, b d h w c.
            text: Text tokens of all prompts, n c.
            real: Which text tokens are not padding, n.

        Returns:
            G_i, b d h w c.
        """
        b, c = level.shape[0], level.shape[-1]
        heads = (self.num_heads, c // self.num_heads)
        q = self.query(level).view(b, -1, *heads).transpose(1, 2)  # b a n c
        k, v = (
            one.view(1, -1, *heads).transpose(1, 2).expand(b, -1, -1, -1).contiguous()
            for one in (self.key(text), self.value(text))
        )
        mixed = fused_attention(q, k, v, mask=real[None, None, None])
        return level + self.out(mixed.transpose(1, 2).reshape(level.shape))
