"""Volumes for the slice viewer of the report, small enough to live in the page.

NiiVue was the other candidate for the viewer. One file of it has 2.3-2.9 MB (0.69, npm), as much
as all volumes of a report together, and needs WebGL 2, which many a remote desktop or a browser
under test lacks. What the report needs of it - three planes, contours, wheel and keys - is
one short script over uint8 arrays. A report has 1-2 MB for small volumes such as the
hippocampus, and stays below 10 MB with four cases and two methods of any size: each volume is cut
to the labelled part and thinned until it has ``MAX_VOXELS``.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from refsam3d_nnunet.demo.figure import PALETTE
from refsam3d_nnunet.report.chosen import Chosen, Classes

MAX_VOXELS = 1_000_000
MARGIN_MM = 25.0


def viewer_volumes(chosen: Chosen, classes: Classes) -> dict[str, Any]:
    """Reads a case as the viewer wants it.

    Args:
        chosen: The case.
        classes: The label of each class, or the labels that a region unites.

    Returns:
        For JSON: ``shape`` and ``spacing`` (mm) along z, y, x, which run to superior, posterior
        and left; ``image`` and ``labels`` (truth and each method) as gzipped uint8 in base64;
        ``classes`` with the bytes that belong to them; ``thinned``, the step along each axis.

    Raises:
        RuntimeError: If a file cannot be read.
        ValueError: If it has not three axes, if the sizes differ or if there are too many labels.
    """
    image, spacing = _read(chosen.image)
    maps = {"truth": chosen.truth} | chosen.predictions
    labels = {name: _read(path)[0] for name, path in maps.items()}
    for name, array in labels.items():
        if array.shape != image.shape:
            raise ValueError(f"{name} has the size {array.shape}, its image {image.shape}")
    box = _box(np.any([array > 0 for array in labels.values()], axis=0), spacing)
    step = _step([part.stop - part.start for part in box], spacing)
    place = tuple(slice(p.start, p.stop, s) for p, s in zip(box, step, strict=True))
    values = np.unique([v for array in labels.values() for v in np.unique(array[place])])
    if len(values) > 256:
        raise ValueError(f"it has {len(values)} labels, and the viewer shows 256 at most")
    return {
        "case": chosen.case,
        "shape": list(image[place].shape),
        "spacing": [mm * s for mm, s in zip(spacing, step, strict=True)],
        "thinned": list(step),
        "image": _packed(_gray(image, place)),
        "labels": {
            name: _packed(np.searchsorted(values, array[place])) for name, array in labels.items()
        },
        "classes": _classes(classes, values),
    }


def _read(path: Path) -> tuple[NDArray, tuple[float, float, float]]:
    """Array ``z y x`` with axes along S, P, L, and its voxel sizes in the same order."""
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() != 3:
        raise ValueError(f"{path.name} has {image.GetDimension()} axes, the viewer shows 3")
    image = SimpleITK.DICOMOrient(image, "LPS")
    return SimpleITK.GetArrayFromImage(image), image.GetSpacing()[::-1]


def _box(foreground: NDArray[np.bool_], spacing: Sequence[float]) -> list[slice]:
    """The labelled part with a margin; everything if nothing is labelled."""
    box = []
    for axis, (size, mm) in enumerate(zip(foreground.shape, spacing, strict=True)):
        others = tuple(i for i in range(3) if i != axis)
        found = np.flatnonzero(foreground.any(axis=others))
        first, last = (found[0], found[-1]) if len(found) else (0, size - 1)
        margin = math.ceil(MARGIN_MM / mm)
        box.append(slice(max(0, int(first) - margin), min(size, int(last) + 1 + margin)))
    return box


def _step(shape: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Steps along the axes that leave at most ``MAX_VOXELS``; the finest axis is thinned first."""
    step = [1, 1, 1]
    while math.prod(math.ceil(n / s) for n, s in zip(shape, step, strict=True)) > MAX_VOXELS:
        step[int(np.argmin([mm * s for mm, s in zip(spacing, step, strict=True)]))] += 1
    return step


def _gray(image: NDArray, place: tuple[slice, ...]) -> NDArray:
    low, high = np.percentile(image, (1, 99.5))
    scaled = (image[place].astype(np.float32) - low) / max(high - low, 1e-6)
    return scaled.clip(0, 1) * 255


def _packed(array: NDArray) -> str:
    data = np.ascontiguousarray(array, dtype=np.uint8).tobytes()
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _classes(classes: Classes, values: NDArray) -> list[dict[str, Any]]:
    found = []
    for i, (name, members) in enumerate(classes.items()):
        indices = np.flatnonzero(np.isin(values, members)).tolist()
        found.append({"name": name, "values": indices, "color": PALETTE[i % len(PALETTE)]})
    return found
