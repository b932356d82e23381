"""RefSAM3D: the parts of the paper's figure 1, wired."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.network.cross_attention import TextCrossAttention
from refsam3d_nnunet.network.image_encoder import ImageEncoder3D
from refsam3d_nnunet.network.image_stem import ImageStem
from refsam3d_nnunet.network.mask_decoder import MaskDecoder3D
from refsam3d_nnunet.network.prompt_masks import PromptMasks
from refsam3d_nnunet.network.slim import support_slim
from refsam3d_nnunet.network.text_prompts import TextPrompts
from refsam3d_nnunet.network.tuning import keep_frozen_in_eval

# nnU-Net sums up to 26 weighted logits in half precision; it overflows near 2500.
LARGEST_LOGIT = 500.0
# A hidden class is no higher: probability nothing, and in half precision a sum over more tiles.
HIDDEN_LOGIT = -100.0


class RefSAM3D(nn.Module):
    """Volume and stored prompts -> one logit volume per prompt.

    The keyword arguments behind ``num_classes`` are those of :class:`NetworkConfig`, as nnU-Net
    reads them from ``arch_kwargs`` in the plan.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605.

    Args:
        input_channels: Modalities, and the previous stage's labels in a cascade.
        num_classes: Output channels, one per prompt, background included.
        text_dim: Channels of the text encoder.
        text_words: Words of the longest phrase.
        text_phrases: Phrases of each class; one each if None.
        label_channels: How many of the input channels are labels of a previous stage.
        deep_supervision: Whether the auxiliary masks are returned as well.
        architecture: See :class:`NetworkConfig`.

    Raises:
        ValueError: If the architecture is contradictory, or no text was planned.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        text_dim: int = 0,
        text_words: int = 0,
        text_phrases: Sequence[int] | None = None,
        label_channels: int = 0,
        deep_supervision: bool = False,
        **architecture: Any,  # noqa: ANN401 - JSON numbers, validated by NetworkConfig
    ) -> None:
        super().__init__()
        if not text_dim:
            raise ValueError(
                "RefSAM3D needs text prompts, which RefSAM3DTrainer puts into the plan: train "
                "this configuration with '-tr RefSAM3DTrainer'."
            )
        self.config = config = NetworkConfig.from_json(architecture)
        self.deep_supervision = deep_supervision
        self.masks_as_products = False  # for a loss that can take them, see refsam3d_nnunet.loss
        self.image_encoder = ImageEncoder3D(config, input_channels - label_channels, label_channels)
        self.image_stem = ImageStem(config, input_channels)
        phrases = [1] * num_classes if text_phrases is None else text_phrases
        self.text = TextPrompts(phrases, text_words, text_dim, config.decoder_dim)
        self._hidden: list[int] = []
        self._background: int | None = None
        self.cross_attention = nn.ModuleList(
            TextCrossAttention(config.decoder_dim) for _ in config.level_blocks
        )
        self.mask_decoder = MaskDecoder3D(config)
        support_slim(self)

    def train(self, mode: bool = True) -> "RefSAM3D":
        """Sets the training mode; frozen parts stay in eval."""
        super().train(mode)
        keep_frozen_in_eval(self)
        return self

    def hide(self, heads: Sequence[int], *, background: int | None) -> None:
        """Leaves classes out of what is predicted; training and the other masks do not change.

        The classes stay in the text, so the others' logits stay as they are, and a voxel that
        would have gone to a hidden class goes to the background and to no neighbour. This is not
        part of the state dict.

        Args:
            heads: Output channels to leave out; empty to show all again.
            background: Output channel of the background, None if it has none (regions).
        """
        self._hidden, self._background = list(heads), background

    def forward(self, x: Tensor) -> Tensor | PromptMasks | list[Tensor] | list[PromptMasks]:
        """Segments a patch.

        Args:
            x: Image, b c D H W with the planned patch size, or b c H W for a 2D plan.

        Returns:
            Logits b k D H W (or b k H W), raw in training and bounded in evaluation; in training
            with ``masks_as_products`` the masks before they are multiplied out. With deep
            supervision a list of them, full resolution first.

        Raises:
            ValueError: If the patch is not of the planned size.
        """
        flat = x.dim() == 4
        x = x[:, :, None] if flat else x
        if tuple(x.shape[2:]) != self.config.patch_size:
            raise ValueError(
                f"The network is built for patches of {self.config.patch_size} voxels, "
                f"got {tuple(x.shape[2:])}; plan a configuration with that patch size."
            )
        masks = self._masks(self._padded(x), auxiliary=self.deep_supervision)
        masks = [self._cropped(mask, level) for level, mask in enumerate(masks)]
        if flat:
            masks = [mask.flat() for mask in masks]
        if not (self.training and self.masks_as_products):
            masks = [self._shown(mask.logits()) for mask in masks]
        return masks if self.deep_supervision else masks[0]

    def _shown(self, mask: Tensor) -> Tensor:
        if self.training:
            return mask
        mask = mask.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        if not self._hidden:
            return mask
        if self._background is not None:
            heads = [self._background, *self._hidden]
            mask[:, self._background] = mask[:, heads].amax(dim=1)
        lowest = mask.amin(dim=1, keepdim=True) - 1  # so that it never wins
        mask[:, self._hidden] = lowest.clamp(max=HIDDEN_LOGIT)
        return mask

    def _masks(self, x: Tensor, *, auxiliary: bool) -> list[PromptMasks]:
        text, real, sentences = self.text()
        skips = self.image_stem(x)
        levels = [
            attend(level, text, real)
            for attend, level in zip(
                self.cross_attention, self.image_encoder(x, skips[-1]), strict=True
            )
        ]
        return self.mask_decoder(levels, sentences, skips, auxiliary=auxiliary)

    def _padded(self, x: Tensor) -> Tensor:
        """Pads the far ends with zeros up to whole tokens."""
        d, h, w = (
            p - s for p, s in zip(self.config.padded_size, self.config.patch_size, strict=True)
        )
        return F.pad(x, (0, w, 0, h, 0, d)) if d or h or w else x

    def _cropped(self, mask: PromptMasks, level: int) -> PromptMasks:
        """Undoes the padding at the resolution ``level``, to the shape of nnU-Net's targets."""
        stride = self.config.stride_of(level)
        d, h, w = (
            max(1, round(p / s)) for p, s in zip(self.config.patch_size, stride, strict=True)
        )
        return mask.cropped((d, h, w))
