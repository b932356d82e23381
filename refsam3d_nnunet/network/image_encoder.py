"""SAM's image encoder, adapted to volumes."""

import torch
from torch import Tensor, nn

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.network.block import Block3D
from refsam3d_nnunet.network.neck import Neck3D
from refsam3d_nnunet.network.patch_embedding import PatchEmbedding3D


class ImageEncoder3D(nn.Module):
    """Volume -> four levels of features, all at the resolution of the tokens.

    Tokens get SAM's in-plane position table and a depth table that starts at zero, then pass
    SAM's blocks; the outputs V_1..V_4 of the four stage ends go through a neck each. Parameters
    that SAM has carry SAM's names.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, sec. 3.1.

    Args:
        config: Architecture.
        image_channels: Modalities.
        label_channels: One-hot channels of a cascade's previous stage.
    """

    def __init__(self, config: NetworkConfig, image_channels: int, label_channels: int = 0) -> None:
        super().__init__()
        grid = config.grid_size
        self.level_blocks = config.level_blocks
        self.patch_embed = PatchEmbedding3D(
            image_channels, config.embed_dim, config.token_size, label_channels
        )
        self.from_stem = _from_stem(config) if config.stem_tokens else None
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[1], grid[2], config.embed_dim))
        self.pos_embed_depth = nn.Parameter(torch.zeros(1, grid[0], 1, 1, config.embed_dim))
        self.blocks = nn.ModuleList(
            Block3D(
                config.embed_dim,
                config.num_heads,
                grid_size=grid,
                window_size=config.window_of(i),
                adapter_dim=config.adapter_dim,
                relative_position=config.relative_position,
            )
            for i in range(max(config.level_blocks) + 1)
        )
        self.necks = nn.ModuleList(
            Neck3D(config.embed_dim, config.decoder_dim, grid) for _ in config.level_blocks
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a ViT's initial weights; adapters start as identities."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            block.adapter.reset_parameters()

    def stages(self, x: Tensor, detail: Tensor | None = None) -> list[Tensor]:
        """Outputs V_1..V_4 (b d h w e) of the level blocks; arguments as of :meth:`forward`."""
        x = self.patch_embed(x) + self.pos_embed[:, None] + self.pos_embed_depth
        if self.from_stem is not None:
            x = x + self.from_stem(detail).movedim(1, -1)
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.level_blocks:
                outputs.append(x)
        return outputs

    def forward(self, x: Tensor, detail: Tensor | None = None) -> list[Tensor]:
        """Encodes a volume.

        Args:
            x: Volume, b c D H W.
            detail: The image stem's coarsest features, b s D' H' W', if tokens are to have them.

        Returns:
            Levels F_1..F_4 (b d h w c), shallow to deep.
        """
        return [neck(v) for neck, v in zip(self.necks, self.stages(x, detail), strict=True)]


def _from_stem(config: NetworkConfig) -> nn.Conv3d:
    """From the image stem's coarsest features to tokens, at first nothing."""
    stride = config.stride_of(config.halvings - 1)
    step = tuple(t // s for t, s in zip(config.token_size, stride, strict=True))
    layer = nn.Conv3d(config.stem_channels[-1], config.embed_dim, step, step)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
