"""The numbers that determine the network, and the sizes of the image encoders.

Everything here is plain JSON in ``plans.json`` (``architecture.arch_kwargs``); nothing imports
torch, so that planners and command lines stay light.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

Extent = tuple[int, int, int]

TUNING_MODES = ("adapter", "full", "scratch")


@dataclass(frozen=True)
class Preset:
    """Size of an image encoder and of the decoder that goes with it.

    Args:
        embed_dim: Channels of a token.
        depth: Number of transformer blocks.
        num_heads: Attention heads of a block.
        global_blocks: Blocks that attend over the whole grid; their outputs are the four levels.
        adapter_dim: Width of the 3D adapter's bottleneck.
        decoder_dim: Channels of necks, text tokens and mask decoder.
        decoder_convolutions: Convolutions of the mask decoder at each resolution but the full.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, int, int, int]
    adapter_dim: int
    decoder_dim: int
    decoder_convolutions: int = 1


PRESETS: dict[str, Preset] = {
    # The second convolution was tried with this size alone, see documentation/search.md.
    "vit_t": Preset(192, 12, 3, (2, 5, 8, 11), 48, 128, decoder_convolutions=2),
    "vit_s": Preset(384, 12, 6, (2, 5, 8, 11), 96, 192),
    "vit_b": Preset(768, 12, 12, (2, 5, 8, 11), 384, 256),
    "vit_l": Preset(1024, 24, 16, (5, 11, 17, 23), 512, 256),
    "vit_h": Preset(1280, 32, 16, (7, 15, 23, 31), 640, 256),
}


def preset_named(name: str) -> Preset:
    """Looks up a preset.

    Raises:
        ValueError: If there is no preset of that name; the message offers the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Unknown preset {name!r}; there are {', '.join(PRESETS)}.{hint}")


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of RefSAM3D, validated once.

    All extents are (depth, height, width); a 2D configuration is a volume of one slice.

    Args:
        patch_size: Extent of the input, in voxels.
        token_size: Extent of one token, in voxels; powers of two.
        window_size: Extent of an attention window, in tokens, of the blocks that are not global.
        embed_dim: Channels of a token.
        depth: Number of transformer blocks.
        num_heads: Attention heads of a block.
        global_blocks: Blocks that attend over the whole grid.
        level_blocks: Blocks whose outputs are the levels V_1..V_4, shallow to deep.
        adapter_dim: Width of the 3D adapter's bottleneck.
        decoder_dim: Channels of necks, text tokens and mask decoder.
        stem_channels: Channels of the image stem, full resolution first, one per halving of
            the token.
        stem_convolutions: Convolutions at each of the stem's resolutions; one at the full, where
            they cost most.
        decoder_convolutions: Convolutions of the mask decoder at each of the same resolutions; one
            at the full.
        auxiliary_masks: Resolutions below the full one that get a mask of their own for deep
            supervision.
        relative_position: Whether attention has SAM's decomposed relative positions.
        residual_class_tokens: Whether the class tokens' first look at each other is added to them,
            as all later ones are, and does not replace them as in SAM.
        stem_tokens: Whether the image stem's coarsest features are added to the tokens.
        preset: Name the sizes came from; for the record only.

    Raises:
        ValueError: If the numbers contradict each other.
    """

    patch_size: Extent
    token_size: Extent
    window_size: Extent
    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    level_blocks: tuple[int, ...]
    adapter_dim: int
    decoder_dim: int
    stem_channels: tuple[int, ...]
    auxiliary_masks: int = 2
    relative_position: bool = True
    residual_class_tokens: bool = False
    stem_tokens: bool = False
    stem_convolutions: int = 1
    decoder_convolutions: int = 1
    preset: str = ""

    def __post_init__(self) -> None:
        self._check_extents()
        self._check_encoder()
        self._check_decoder()

    def _check_extents(self) -> None:
        for name in ("patch_size", "token_size", "window_size"):
            extent = getattr(self, name)
            if len(extent) != 3 or any(int(e) != e or e < 1 for e in extent):
                raise ValueError(f"{name} must be three positive integers, got {extent}")
        if any(t & (t - 1) for t in self.token_size) or max(self.token_size) < 2:
            raise ValueError(
                f"token_size must be powers of two, one of them 2 at least, got {self.token_size}"
            )

    def _check_encoder(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}"
            )
        for name in ("global_blocks", "level_blocks"):
            blocks = getattr(self, name)
            if list(blocks) != sorted(set(blocks)) or any(not 0 <= i < self.depth for i in blocks):
                raise ValueError(
                    f"{name} must be ascending and lie in [0, {self.depth}), got {blocks}"
                )

    def _check_decoder(self) -> None:
        if self.decoder_dim % 16:
            raise ValueError(f"decoder_dim must be a multiple of 16, got {self.decoder_dim}")
        if len(self.stem_channels) != self.halvings:
            raise ValueError(
                f"stem_channels needs one entry per halving of the token {self.token_size}, "
                f"that is {self.halvings}, got {self.stem_channels}"
            )
        for name in ("stem_convolutions", "decoder_convolutions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 at least, got {getattr(self, name)}")
        if not 0 <= self.auxiliary_masks < self.halvings:
            raise ValueError(
                f"auxiliary_masks must lie in [0, {self.halvings}), got {self.auxiliary_masks}"
            )

    @property
    def halvings(self) -> int:
        """Number of times the decoder doubles the resolution from tokens to voxels."""
        return max(self.token_size).bit_length() - 1

    @property
    def grid_size(self) -> Extent:
        """Extent of the token grid, in tokens; the patch is padded up to whole tokens."""
        d, h, w = (math.ceil(p / t) for p, t in zip(self.patch_size, self.token_size, strict=True))
        return d, h, w

    @property
    def padded_size(self) -> Extent:
        """Extent of the patch rounded up to whole tokens, in voxels."""
        d, h, w = (g * t for g, t in zip(self.grid_size, self.token_size, strict=True))
        return d, h, w

    def window_of(self, block: int) -> Extent:
        """Attention window of a block, in tokens: the whole grid if the block is global."""
        if block in self.global_blocks:
            return self.grid_size
        d, h, w = (min(s, g) for s, g in zip(self.window_size, self.grid_size, strict=True))
        return d, h, w

    def stride_of(self, level: int) -> Extent:
        """Stride, in voxels, of the stem's and decoder's resolution ``level`` (0 = full).

        An axis with small tokens is pooled late: its voxels are thick, so the finest
        resolutions halve the other axes only, as nnU-Net's U-Nets do.
        """
        d, h, w = (max(1, token >> (self.halvings - level)) for token in self.token_size)
        return d, h, w

    def stem_convolutions_of(self, level: int) -> int:
        """Convolutions of the image stem at that resolution."""
        return self.stem_convolutions if level else 1

    def decoder_convolutions_of(self, level: int) -> int:
        """Convolutions of the mask decoder at that resolution."""
        return self.decoder_convolutions if level else 1

    def kernel_of(self, level: int) -> Extent:
        """Convolution kernel at that resolution: flat along an axis that is not pooled yet."""
        stride, below = self.stride_of(level), self.stride_of(min(level + 1, self.halvings))
        d, h, w = (3 if n > s or s > 1 else 1 for s, n in zip(stride, below, strict=True))
        return d, h, w

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, as ``arch_kwargs`` in the plan holds them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> NetworkConfig:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: If a number is missing or unknown, as in a plan of another version.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(numbers) - set(known))
        missing = sorted(
            name
            for name, field in known.items()
            if field.default is dataclasses.MISSING and name not in numbers
        )
        if unknown or missing:
            raise ValueError(
                f"The plan's architecture does not fit this version of refsam3d_nnunet: "
                f"unknown {unknown}, missing {missing}. Plan again with "
                f"'nnUNetv2_plan_experiment -d DATASET -pl RefSAM3DPlanner'."
            )
        return cls(
            **{
                key: tuple(value) if isinstance(value, (list, tuple)) else value
                for key, value in numbers.items()
            }
        )
