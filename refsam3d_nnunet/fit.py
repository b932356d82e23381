"""The largest patch and batch that a memory target allows, and the encoder that goes with them."""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import (
    MOST_TOKENS,
    default_preset,
    design_network,
    parts_for,
)
from refsam3d_nnunet.memory import Task, most_samples, step_gb

# Voxels of the patch to start from, by dimensions; it is then cut to the image and to the memory.
# Memory to spare goes into the batch: larger patches would have coarser tokens.
LARGEST_PATCH = {2: 512**2, 3: 128**3}
# But from this memory target on, in GB, a 3D patch may be larger, and have more tokens by as much.
# Global attention grows with their square, so what vit_s saves beside nnU-Net's U-Net on the same
# patch shrinks with the patch; see documentation/planning.md.
LARGE_MEMORY_GB = 20
LARGER_PATCH = 160**3


@dataclass(frozen=True)
class Fitted:
    """A patch with its architecture and batch.

    Args:
        patch_size: Voxels along (depth, height, width), or (height, width).
        batch_size: Samples in a step.
        config: Architecture for that patch.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    config: NetworkConfig


class TooLittleMemory(ValueError):  # noqa: N818 - it is the target that is wrong
    """A memory target that not even the smallest patch fits."""


def plan_patch(
    spacing: Sequence[float],
    median_shape: Sequence[float],
    *,
    preset: str | None,
    task: Task,
    memory_gb: float,
    smallest_batch: int = 2,
) -> Fitted:
    """Patch, batch and architecture for images of a spacing and shape.

    Without a preset this takes ``vit_s``; or ``vit_t`` where the patch of ``vit_s`` would have
    fewer than 64^3 voxels, because images are small or the memory is.

    Args:
        spacing: Millimetres of a voxel along (depth, height, width), or (height, width).
        median_shape: Voxels of the median image along the same axes.
        preset: Name of the image encoder's size, None to choose.
        task: Channels, prompts and tuning mode.
        memory_gb: Memory target, in GB.
        smallest_batch: Fewest samples in a step.

    Raises:
        TooLittleMemory: If not even one token per axis fits.
        ValueError: If the preset is unknown.
    """

    def fitted(size: str) -> Fitted:
        start, most_tokens = starting_patch(spacing, median_shape, size, memory_gb)
        return fit_to_memory(
            start,
            spacing,
            median_shape,
            preset=size,
            task=task,
            memory_gb=memory_gb,
            smallest_batch=smallest_batch,
            most_tokens=most_tokens,
        )

    if preset is not None:
        return fitted(preset)
    with suppress(TooLittleMemory):
        found = fitted("vit_s")
        if default_preset(found.patch_size) == "vit_s":
            return found
    return fitted("vit_t")


def starting_patch(
    spacing: Sequence[float], median_shape: Sequence[float], preset: str, memory_gb: float
) -> tuple[list[int], int]:
    """Patch to start from, and the most tokens that it may have.

    With much memory it is larger, if its tokens are those of the usual patch.

    Args:
        spacing: Millimetres of a voxel along (depth, height, width), or (height, width).
        median_shape: Voxels of the median image along the same axes.
        preset: Name of the image encoder's size.
        memory_gb: Memory target, in GB.
    """
    usual = largest_patch(spacing, median_shape, LARGEST_PATCH[len(spacing)])
    most = MOST_TOKENS[preset]
    if len(spacing) == 3 and memory_gb >= LARGE_MEMORY_GB:
        token = design_network(usual, spacing, preset).token_size
        larger = largest_patch(spacing, median_shape, LARGER_PATCH)
        for budget in (most, most * LARGER_PATCH // LARGEST_PATCH[3]):
            if design_network(larger, spacing, preset, budget).token_size == token:
                return larger, budget
    return usual, most


def fit_to_memory(
    patch_size: Sequence[int],
    spacing: Sequence[float],
    median_shape: Sequence[float],
    *,
    preset: str,
    task: Task,
    memory_gb: float,
    smallest_batch: int = 2,
    most_tokens: int | None = None,
) -> Fitted:
    """Shrinks a patch until the smallest batch fits, then enlarges the batch.

    As in nnU-Net's planner, the axis on which the patch covers most of the median image gives
    way first; it shrinks by whole tokens.

    Args:
        patch_size: Patch to start from, in voxels.
        spacing: Millimetres of a voxel along the same axes.
        median_shape: Voxels of the median image along the same axes.
        preset: Name of the image encoder's size.
        task: Channels, prompts and tuning mode.
        memory_gb: Memory target, in GB.
        smallest_batch: Fewest samples in a step.
        most_tokens: Budget of tokens; the preset's if None.

    Raises:
        TooLittleMemory: If not even one token per axis fits.
    """
    design = partial(
        design_network,
        spacing=spacing,
        preset=preset,
        most_tokens=most_tokens,
        **parts_for(task.tuning, task.channels - task.label_channels),
    )
    patch = [int(p) for p in patch_size]
    while True:
        patch = list(design(patch).padded_size[-len(patch) :])
        config = design(patch)
        needed = step_gb(config, task, smallest_batch)
        if needed <= memory_gb:
            break
        token = config.token_size[-len(patch) :]
        coverage = [
            p / m if p > t else 0.0 for p, m, t in zip(patch, median_shape, token, strict=True)
        ]
        if not any(coverage):
            smaller = "" if preset == "vit_t" else ", or set REFSAM3D_PRESET to a smaller encoder"
            raise TooLittleMemory(
                f"A memory target of {memory_gb:g} GB is too small for {preset} in tuning mode "
                f"{task.tuning!r}: a batch of {smallest_batch} with a patch of only "
                f"{tuple(patch)} voxels takes {needed:.1f} GB. Raise -gpu_memory_target{smaller}."
            )
        axis = coverage.index(max(coverage))
        patch[axis] -= token[axis]
    larger = range(smallest_batch + 1, most_samples(config) + 1)
    more = bisect_right(larger, memory_gb, key=partial(step_gb, config, task))
    return Fitted(tuple(patch), smallest_batch + more, config)


def largest_patch(
    spacing: Sequence[float], median_shape: Sequence[float], voxels: int
) -> list[int]:
    """Patch to start from: about a cube in mm of so many voxels, no larger than the image.

    Args:
        spacing: Millimetres of a voxel along (depth, height, width), or (height, width).
        median_shape: Voxels of the median image along the same axes.
        voxels: Size of the patch before it is cut to the image.
    """
    density = [1 / s for s in spacing]
    product = 1.0
    for value in density:
        product *= value
    scale = (voxels / product) ** (1 / len(density))
    return [
        max(1, min(round(d * scale), round(m))) for d, m in zip(density, median_shape, strict=True)
    ]


def smaller_batch(config: NetworkConfig, task: Task, batch_size: int, memory_gb: float) -> int:
    """The batch, or fewer samples where a plan made for another network is too large."""
    while batch_size > 2 and step_gb(config, task, batch_size) > memory_gb:
        batch_size -= 1
    return batch_size
