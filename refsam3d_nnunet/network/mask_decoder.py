"""The 3D mask decoder: class tokens meet image tokens, then masks at full resolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import Extent, NetworkConfig
from refsam3d_nnunet.network.image_stem import ConvNormAct
from refsam3d_nnunet.network.mlp import mlp
from refsam3d_nnunet.network.position import FourierPosition
from refsam3d_nnunet.network.prompt_masks import PromptMasks
from refsam3d_nnunet.network.rebuilding import rebuilding
from refsam3d_nnunet.network.segment_anything_parts import TwoWayTransformer
from refsam3d_nnunet.network.up_convolution import pays_off_on, up_convolution


class HyperNetwork(nn.Module):
    """Turns each class token into the weights of its mask at one resolution.

    ::

        mask_k[v] = w_k · feature[v] + b_k,    (w_k, b_k) = MLP(class token k)

    One MLP serves all classes: no parameter belongs to a class.

    Args:
        dim: Channels of a class token.
        channels: Channels of the feature map.
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.mlp = mlp(dim, dim, channels + 1)
        nn.init.normal_(self.mlp[-1].weight, std=(dim * channels) ** -0.5)  # logits of order one

    def forward(self, tokens: Tensor, features: Tensor) -> PromptMasks:
        """Masks from class tokens (b k c) and features (b c D H W)."""
        weights, bias = self.mlp(tokens).tensor_split([-1], dim=-1)
        return PromptMasks(weights, bias, features)


class UpBlock(nn.Module):
    """One doubling of the resolution: transposed convolution, levels, skip, convolutions.

    Args:
        in_channels: Channels below.
        channels: Channels of this resolution, also of its skip.
        factor: Growth of the resolution along (depth, height, width), 1 or 2 each.
        kernel: Extent of the convolutions.
        convolutions: How many.
    """

    def __init__(
        self, in_channels: int, channels: int, factor: Extent, kernel: Extent, convolutions: int
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, channels, factor, factor)
        self.mix = ConvNormAct(2 * channels, channels, kernel)
        further = (ConvNormAct(channels, channels, kernel) for _ in range(convolutions - 1))
        self.more = nn.Sequential(*further)

    def forward(self, x: Tensor, skip: Tensor, laterals: list[Tensor]) -> Tensor:
        """Features (b c D H W) of this resolution from those below, its skip and its levels."""
        as_one = not laterals and pays_off_on(x.device)
        x = self._mixed_as_one(x, skip) if as_one else self._mixed(x, skip, laterals)
        return self.more(x)

    def _mixed(self, x: Tensor, skip: Tensor, laterals: list[Tensor]) -> Tensor:
        """Features behind the convolution in which all inputs meet."""
        x = self.up(x)
        for lateral in laterals:
            x = x + lateral
        both, kept = torch.cat([x, skip], dim=1), (x.detach(), skip.detach())
        with rebuilding((both, lambda: torch.cat(kept, dim=1))):
            return self.mix(both)

    def _mixed_as_one(self, x: Tensor, skip: Tensor) -> Tensor:
        """As :meth:`_mixed` without levels, but up and convolution are one."""
        conv, norm, act = self.mix
        of_x, of_skip = conv.weight.tensor_split(2, dim=1)
        y = F.conv3d(skip, of_skip, padding=conv.padding)
        y += up_convolution(x, self.up, of_x, conv.padding)
        return act(norm(y))


class MaskDecoder3D(nn.Module):
    """Levels G_1..G_4, class tokens and image skips -> one mask per prompt.

    Class token k is one learned mask token plus the projected sentence k. SAM's two-way
    transformer lets class tokens and the deepest level look at each other; transposed
    convolutions lead up to the voxels; shallower levels join at finer resolutions, like the
    skips of a U-Net, and the image stem's skips join at every one.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, sec. 3.4.
        Kirillov et al. 2023 (SAM), arXiv:2304.02643: two-way transformer, hyper-networks.
        Chen et al. 2023 (MA-SAM), arXiv:2309.08842: the U-shaped decoder.

    Args:
        config: Architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim, top = config.decoder_dim, config.halvings
        channels = (*config.stem_channels, dim)  # of each resolution, full first, tokens last
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.image_pe = FourierPosition(dim, config.grid_size)
        self.transformer = TwoWayTransformer(
            depth=2, embedding_dim=dim, mlp_dim=8 * dim, num_heads=8
        )
        # SAM's first self-attention replaces the class tokens. It is nearly uniform at first, so
        # they would all become their mean; SAM can afford that, since each of its few tokens has
        # a hyper-network of its own, and here one serves all.
        self.transformer.layers[0].skip_first_layer_pe = not config.residual_class_tokens
        # Level G_3 joins at the tokens, G_2 one doubling later, G_1 two: never the last one.
        self.joins_at = [min(i, top - 1) for i in range(len(config.level_blocks) - 1)]
        self.laterals = nn.ModuleList()
        for doublings in self.joins_at:
            resolution = top - doublings
            factor = _ratio(config.token_size, config.stride_of(resolution))
            self.laterals.append(
                nn.ConvTranspose3d(dim, channels[resolution], factor, factor, bias=False)
            )
        self.ups = nn.ModuleList(
            UpBlock(
                channels[resolution + 1],
                channels[resolution],
                _ratio(config.stride_of(resolution + 1), config.stride_of(resolution)),
                config.kernel_of(resolution),
                config.decoder_convolutions_of(resolution),
            )
            for resolution in reversed(range(top))
        )
        self.hyper_networks = nn.ModuleList(
            HyperNetwork(dim, channels[resolution])
            for resolution in range(config.auxiliary_masks + 1)
        )

    def forward(
        self, levels: list[Tensor], sentences: Tensor, skips: list[Tensor], *, auxiliary: bool
    ) -> list[PromptMasks]:
        """Decodes masks.

        Args:
            levels: G_1..G_4, b d h w c, shallow to deep.
            sentences: Projected sentences, k c.
            skips: Image features, b c D H W, full resolution first.
            auxiliary: Whether masks of lower resolutions are wanted too.

        Returns:
            Masks of all prompts, full resolution first.
        """
        *shallower, deepest = levels
        tokens, x = self._two_way(deepest, sentences)
        joining: list[list[Tensor]] = [[] for _ in range(len(self.ups) + 1)]
        for doublings, lateral, level in zip(
            self.joins_at, self.laterals, reversed(shallower), strict=True
        ):
            joining[doublings].append(lateral(level.movedim(-1, 1)))
        x = x + sum(joining[0])
        features = []
        for up, skip, laterals in zip(self.ups, reversed(skips), joining[1:], strict=True):
            x = up(x, skip, laterals)
            features.insert(0, x)
        wanted = self.hyper_networks if auxiliary else self.hyper_networks[:1]
        return [net(tokens, feature) for net, feature in zip(wanted, features, strict=False)]

    def _two_way(self, level: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
        """Class tokens (b k c) and image features (b c d h w) after looking at each other."""
        b, d, h, w, c = level.shape
        image = level.reshape(b, -1, c).transpose(1, 2)[..., None]  # b c n 1: dimension-free
        position = self.image_pe().view(1, -1, c).transpose(1, 2)[..., None]
        tokens = (self.mask_token + sentences).expand(b, -1, -1)
        tokens, image = self.transformer(image, position.to(image.dtype), tokens)
        return tokens, image.transpose(1, 2).reshape(b, c, d, h, w)


def _ratio(coarse: Extent, fine: Extent) -> Extent:
    d, h, w = (c // f for c, f in zip(coarse, fine, strict=True))
    return d, h, w
