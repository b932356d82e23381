"""The metrics of one class in one image, and their definitions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from refsam3d_nnunet.evaluation.extra import crossval_extra

with crossval_extra():
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

_DISTANCE_EMPTY = "undefined if both masks are empty, infinite if one is"

# What metrics.json says of each metric; METRICS of table.py gives the order.
DEFINITIONS: dict[str, dict[str, Any]] = {
    "dice": {
        "unit": "",
        "definition": "2 TP / (2 TP + FP + FN), in voxels, as nnU-Net's summary.json",
        "better": "higher",
        "empty": "undefined if both masks are empty, 0 if one is",
    },
    "nsd": {
        "unit": "",
        "definition": "normalized surface Dice: part of both surfaces, by area of the surface "
        "elements, that lies within the tolerance of the other surface",
        "better": "higher",
        "empty": "undefined if both masks are empty, 0 if one is",
    },
    "hd95": {
        "unit": "mm",
        "definition": "95th percentile of the distances from the border voxels of one mask to "
        "those of the other, the larger one of the two directions",
        "better": "lower",
        "empty": _DISTANCE_EMPTY,
    },
    "assd": {
        "unit": "mm",
        "definition": "mean of the distances from the border voxels of one mask to those of the "
        "other, both directions pooled",
        "better": "lower",
        "empty": _DISTANCE_EMPTY,
    },
    "volume_error": {
        "unit": "",
        "definition": "(predicted volume - true volume) / true volume",
        "better": "nearer 0",
        "empty": "undefined if both masks are empty, infinite if only the ground truth is",
    },
    "volume_prediction": {
        "unit": "ml",
        "definition": "voxels of the prediction times their volume",
        "better": "nearer volume_reference",
        "empty": "0",
    },
    "volume_reference": {
        "unit": "ml",
        "definition": "voxels of the ground truth times their volume",
        "better": "",
        "empty": "0",
    },
}


def measure(
    prediction: np.ndarray,
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    voxel: float,
    tolerance: float,
) -> dict[str, float]:
    """All metrics of one class, as `DEFINITIONS` has them.

    What lies at the edge of the volume has a surface there, as if background went on outside.

    Args:
        prediction: Mask, bool, `d h w` or `h w`.
        reference: The same of the ground truth.
        spacing: Of the axes of the masks, in mm.
        voxel: Volume of a voxel in mm^3.
        tolerance: Of NSD, in mm.
    """
    predicted, truth = int(prediction.sum()), int(reference.sum())
    values = {
        "dice": math.nan,
        "nsd": math.nan,
        "hd95": math.nan,
        "assd": math.nan,
        "volume_error": math.nan,
        "volume_prediction": predicted * voxel / 1000,
        "volume_reference": truth * voxel / 1000,
    }
    if predicted or truth:
        overlap = int((prediction & reference).sum())
        values["dice"] = 2 * overlap / (predicted + truth)
        values["volume_error"] = (predicted - truth) / truth if truth else math.inf
    if predicted and truth:
        values |= _surface_metrics(prediction, reference, spacing, tolerance)
    elif predicted or truth:
        values |= {"nsd": 0.0, "hd95": math.inf, "assd": math.inf}
    return values


def _surface_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float
) -> dict[str, float]:
    masks = [
        torch.from_numpy(np.ascontiguousarray(mask))[None, None]
        for mask in _cropped(prediction, reference)
    ]
    how = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes itself
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        nsd = compute_surface_dice(*masks, class_thresholds=[tolerance], use_subvoxels=True, **how)
        hd95 = compute_hausdorff_distance(*masks, percentile=95, **how)
        assd = compute_average_surface_distance(*masks, symmetric=True, **how)
    return {"nsd": nsd.item(), "hd95": hd95.item(), "assd": assd.item()}


def _cropped(*masks: np.ndarray) -> list[np.ndarray]:
    """The box that holds all masks; MONAI puts background around it.

    Distances do not change by it, and large volumes with small structures take a fraction of
    the time.
    """
    where = np.any(masks, axis=0)
    box = []
    for axis in range(where.ndim):
        others = tuple(i for i in range(where.ndim) if i != axis)
        inside = np.flatnonzero(where.any(axis=others))
        box.append(slice(inside[0], inside[-1] + 1))
    return [mask[tuple(box)] for mask in masks]
