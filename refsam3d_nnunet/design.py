"""From a patch and its spacing to an architecture: what the planner and the trainer share."""

import math
from collections.abc import Sequence

from refsam3d_nnunet.config import Extent, NetworkConfig, preset_named

# Channels of stem and decoder, full resolution first: few where voxels are many.
STEM_CHANNELS = (16, 32, 64, 128, 128)
# Fine tokens are what small structures need; large encoders pay for each of them.
MOST_TOKENS = {"vit_t": 6144, "vit_s": 6144, "vit_b": 2048, "vit_l": 2048, "vit_h": 2048}
# Up to so many tokens every block attends to all of them.
MOST_GLOBAL_TOKENS = 1024
FINEST_TOKEN, COARSEST_TOKEN = 8, 32
# Of the image stem, at each resolution but the full one; see documentation/search.md.
STEM_CONVOLUTIONS = 2
# Volumes smaller than this hold no structure that a larger encoder would see.
SMALL_PATCH_VOXELS = 64**3


def as_volume(extent: Sequence[float]) -> list[float]:
    """Extent or spacing as (depth, height, width); a 2D one gets 1 for its depth."""
    return [*([1] * (3 - len(extent))), *extent]


def default_preset(patch_size: Sequence[int]) -> str:
    """Preset for a network without pretrained weights."""
    return "vit_t" if math.prod(patch_size) < SMALL_PATCH_VOXELS else "vit_s"


def parts_for(tuning: str, modalities: int) -> dict[str, bool]:
    """Parts of the network that depend on how it is tuned.

    Relative positions are there for pretrained weights: without, they cost operations and gain
    nothing over the tables of absolute positions, see documentation/planning.md and
    documentation/search.md. A frozen token embedding sees the mean of the modalities alone, so the
    stem's features, which tell them apart, are added to its tokens.

    Args:
        tuning: Mode of tuning.
        modalities: Input channels of the image.

    Returns:
        Arguments of :func:`design_network`.
    """
    return {
        "relative_position": tuning != "scratch",
        "stem_tokens": tuning == "adapter" and modalities > 1,
    }


def token_size(patch_size: Extent, spacing: Sequence[float], most_tokens: int) -> Extent:
    """Token extent, in voxels: about isotropic in mm, powers of two, within a token budget.

    Args:
        patch_size: Voxels along (depth, height, width).
        spacing: Millimetres of a voxel along the same axes.
        most_tokens: Budget; tokens are doubled until it is met or they are at their coarsest.
    """
    finest = min(s for s, p in zip(spacing, patch_size, strict=True) if p > 1)
    longest = FINEST_TOKEN
    while True:
        token = tuple(
            min(_power_of_two(longest * finest / s, longest), _covering_power_of_two(p))
            for s, p in zip(spacing, patch_size, strict=True)
        )
        tokens = math.prod(math.ceil(p / t) for p, t in zip(patch_size, token, strict=True))
        if tokens <= most_tokens or longest == COARSEST_TOKEN:
            return token[0], token[1], token[2]
        longest *= 2


def window_size(grid: Extent) -> Extent:
    """Attention window of the blocks that are not global, in tokens.

    Windows split each axis evenly, so that little padding takes part in the attention; SAM's
    14 is the most in a plane, 3DSAM-adapter's 8 in a volume.
    """
    if math.prod(grid) <= MOST_GLOBAL_TOKENS:
        return grid
    most = 14 if grid[0] == 1 else 8
    d, h, w = (math.ceil(g / math.ceil(g / most)) for g in grid)
    return d, h, w


def design_network(
    patch_size: Sequence[int],
    spacing: Sequence[float],
    preset: str,
    most_tokens: int | None = None,
    *,
    relative_position: bool = True,
    stem_tokens: bool = False,
) -> NetworkConfig:
    """Architecture of a preset for a patch.

    Args:
        patch_size: Voxels along (depth, height, width) or (height, width).
        spacing: Millimetres of a voxel along the same axes.
        preset: Name of the image encoder's size.
        most_tokens: Budget of tokens; the preset's in ``MOST_TOKENS`` if None.
        relative_position: Whether attention has SAM's, see :func:`parts_for`.
        stem_tokens: Whether the stem's coarsest features are added to the tokens.

    Raises:
        ValueError: If the preset is unknown.
    """
    size = preset_named(preset)
    d, h, w = (int(p) for p in as_volume(patch_size))
    token = token_size((d, h, w), as_volume(spacing), most_tokens or MOST_TOKENS[preset])
    halvings = max(token).bit_length() - 1
    gd, gh, gw = (math.ceil(p / t) for p, t in zip((d, h, w), token, strict=True))
    return NetworkConfig(
        patch_size=(d, h, w),
        token_size=token,
        window_size=window_size((gd, gh, gw)),
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        global_blocks=size.global_blocks,
        level_blocks=size.global_blocks,
        adapter_dim=size.adapter_dim,
        decoder_dim=size.decoder_dim,
        stem_channels=STEM_CHANNELS[:halvings],
        auxiliary_masks=min(2, halvings - 1),
        relative_position=relative_position,
        residual_class_tokens=True,
        stem_tokens=stem_tokens,
        stem_convolutions=STEM_CONVOLUTIONS,
        decoder_convolutions=size.decoder_convolutions,
        preset=preset,
    )


def _power_of_two(wanted: float, most: int) -> int:
    """Power of two nearest to ``wanted`` on a logarithmic scale, from 1 to ``most``."""
    return 2 ** min(max(round(math.log2(wanted)), 0), int(math.log2(most)))


def _covering_power_of_two(size: int) -> int:
    """Smallest power of two that is no smaller than ``size``."""
    return 1 << (size - 1).bit_length()
