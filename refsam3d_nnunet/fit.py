"""The largest patch and batch that a memory target allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.memory import Task, step_gb


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


def fit_to_memory(
    patch_size: Sequence[int],
    spacing: Sequence[float],
    median_shape: Sequence[float],
    *,
    preset: str,
    task: Task,
    memory_gb: float,
    smallest_batch: int = 2,
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

    Raises:
        ValueError: If not even one token per axis fits.
    """
    patch = [int(p) for p in patch_size]
    while True:
        config = design_network(patch, spacing, preset)
        patch = list(config.padded_size[-len(patch) :])
        config = design_network(patch, spacing, preset)
        needed = step_gb(config, task, smallest_batch)
        if needed <= memory_gb:
            break
        token = config.token_size[-len(patch) :]
        coverage = [
            p / m if p > t else 0.0 for p, m, t in zip(patch, median_shape, token, strict=True)
        ]
        if not any(coverage):
            raise ValueError(
                f"A memory target of {memory_gb:g} GB is too small for {preset} in tuning mode "
                f"{task.tuning!r}: a batch of {smallest_batch} with a patch of only "
                f"{tuple(patch)} voxels takes {needed:.1f} GB. Raise -gpu_memory_target, or set "
                f"REFSAM3D_PRESET to a smaller encoder."
            )
        axis = coverage.index(max(coverage))
        patch[axis] -= token[axis]
    sample = step_gb(config, task, 1) - step_gb(config, task, 0)
    batch = int((memory_gb - step_gb(config, task, 0)) / sample)
    return Fitted(tuple(patch), max(batch, smallest_batch), config)


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
