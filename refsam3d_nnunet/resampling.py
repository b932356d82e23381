"""Logits on the grid of the image: interpolated when they are looked at, a few slices at a time.

nnU-Net resamples the logits of all classes before it takes the largest, which for 100 classes and
a CT of 512 x 512 x 400 voxels is an array of 42 GB. Here only the slices in hand exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Voxels of one class in a slab. Its arrays take 8 MB each and about six are alive: small enough
# for the processor's cache, large enough that few source slices are interpolated twice.
SLAB_VOXELS = 2**21


class DeferredLogits:
    """Logits that are still on the network's grid, and the grid on which they are wanted.

    Interpolation is trilinear, as by ``torch.nn.functional.interpolate`` with ``align_corners``
    false, which nnU-Net's own torch function calls.

    Args:
        logits: k d h w, of any type and on any device.
        shape: D H W that are wanted.

    Attributes:
        shape: k D H W, as if they had been interpolated.

    Raises:
        ValueError: If there are not three spatial axes in both, or one of them is empty.
    """

    def __init__(self, logits: np.ndarray | Tensor, shape: Sequence[int]) -> None:
        if isinstance(logits, np.ndarray):
            logits = torch.from_numpy(logits)
        wanted = tuple(int(size) for size in shape)
        if logits.ndim != 4 or len(wanted) != 3 or min(*logits.shape, *wanted) < 1:
            raise ValueError(
                f"Logits of shape k z y x are resampled to a shape z y x, none of them empty; got "
                f"logits of shape {tuple(logits.shape)} and the shape {wanted}."
            )
        self._logits = logits
        self._lower, self._upper, self._weight = _neighbours(logits.shape[1], wanted[0])
        self.shape = (logits.shape[0], *wanted)

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self._logits.device

    def slabs(self) -> Iterator[slice]:
        """Cuts the first axis of the wanted grid.

        Yields:
            Consecutive slices, of at most ``SLAB_VOXELS`` voxels but at least one slice thick.
        """
        depth = self.shape[1]
        plane = max(prod(self.shape[2:]), prod(self._logits.shape[2:]))
        step = max(1, SLAB_VOXELS // plane)
        for start in range(0, depth, step):
            yield slice(start, min(start + step, depth))

    @torch.no_grad()
    def slab(self, channel: int, slices: slice) -> Tensor:
        """Interpolates one channel in a slab, float32 [slices, H, W].

        In the plane first, and then between the two neighbouring slices, which is the same as
        trilinear with less arithmetic. Where nothing changes it is a view of the logits.
        """
        if self._logits.shape[1] == self.shape[1]:
            return self._in_plane(self._logits[channel, slices])
        lower, upper = self._lower[slices], self._upper[slices]
        sources = sorted({*lower, *upper})
        planes = dict(zip(sources, self._in_plane(self._logits[channel, sources]), strict=True))
        result = self._empty(len(lower), *self.shape[2:])
        weights = self._weight[slices]
        for below, above, weight, out in zip(lower, upper, weights, result, strict=True):
            torch.lerp(planes[below], planes[above], weight, out=out)
        return result

    def full(self) -> Tensor:
        """Interpolates everything, float32 [k, D, H, W]."""
        result = self._empty(*self.shape)
        for slices in self.slabs():
            for channel in range(self.shape[0]):
                result[channel, slices] = self.slab(channel, slices)
        return result

    def probabilities(self, nonlinearity: Callable[[Tensor], Tensor]) -> Tensor:
        """Interpolates everything and makes probabilities of it in place, float32 [k, D, H, W].

        Args:
            nonlinearity: Probabilities of logits k n, for any number of voxels n.
        """
        result = self.full()
        for voxels in result.flatten(1).split(max(1, SLAB_VOXELS // len(result)), dim=1):
            voxels.copy_(nonlinearity(voxels))
        return result

    def float(self) -> Tensor:
        """Refuses: whoever asks takes this for a tensor.

        Raises:
            TypeError: Always; it says what the plan lacks.
        """
        raise TypeError(
            "A plan that names 'refsam3d_resample_logits' must name 'RefSAM3DLabelManager' as its "
            "label_manager too; this one has another. Add it to plans.json."
        )

    __array__ = float

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def _in_plane(self, planes: Tensor) -> Tensor:
        planes = planes.float()
        if planes.shape[1:] == self.shape[2:]:
            return planes
        # As a batch, since torch rounds channels differently when there are many of them.
        return F.interpolate(planes[:, None], self.shape[2:], mode="bilinear")[:, 0]


def refsam3d_resample_logits(
    data: np.ndarray | Tensor,
    new_shape: Sequence[int],
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> DeferredLogits:
    """Resamples logits for nnU-Net's export, where a plan names it.

    What it returns is understood by ``RefSAM3DLabelManager``, which the plan must name too.

    Args:
        data: Logits, k z y x.
        new_shape: z y x of the image.
        current_spacing: Not used: the shapes say all.
        new_spacing: Not used.

    Returns:
        The logits, to be interpolated when they are looked at.

    Raises:
        ValueError: If there are not three spatial axes, or one of them is empty.
    """
    return DeferredLogits(data, new_shape)


def _neighbours(size: int, wanted: int) -> tuple[list[int], list[int], list[float]]:
    """The two source slices of each wanted one, and the weight of the second.

    In float64: in float32, as torch computes them, rounding moves the far slices of a long volume
    by 1e-5 slices.
    """
    centres = torch.arange(wanted, dtype=torch.float64) + 0.5
    position = (centres * (size / wanted) - 0.5).clamp(0, size - 1)
    lower = position.long()
    upper = (lower + 1).clamp(max=size - 1)
    return lower.tolist(), upper.tolist(), (position - lower).tolist()
