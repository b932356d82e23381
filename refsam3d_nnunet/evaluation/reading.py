"""A prediction and its ground truth, checked to be of one image."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import (
    LIST_OF_IO_CLASSES,
    recursive_find_reader_writer_by_name,
)

from refsam3d_nnunet.evaluation.labels import Labels

# How far two files of one image may lie apart: as a part of a voxel, of the spacing, and of the
# unit vectors of the axes. NIfTI stores single precision, and other formats rounded text.
GEOMETRY_TOLERANCE = 1e-3
# nnU-Net's readers give a 2D image slices 999 times as thick as its pixels are wide.
_FLAT = 998


@dataclass(frozen=True, eq=False)
class Pair:
    """Label maps of one case.

    Args:
        prediction: `d h w`, or `h w` for an image of one slice; whole numbers.
        reference: The same of the ground truth.
        spacing: Of the axes of the arrays, in mm.
        voxel: Volume of a voxel in mm^3; a 2D image counts as 1 mm thick.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, ...]
    voxel: float


def readers_for(labels: Labels) -> list[type[BaseReaderWriter]]:
    """nnU-Net's readers that may read the files of a data set, first choice first.

    Raises:
        ValueError: If dataset.json names a reader that nnU-Net does not have, or there is none
            for the file ending.
    """
    if labels.reader is not None:
        try:
            return [recursive_find_reader_writer_by_name(labels.reader)]
        except RuntimeError as error:
            raise ValueError(
                f"dataset.json asks for the reader {labels.reader!r}, which nnU-Net lacks."
            ) from error
    ending = labels.ending.lower()
    found = [reader for reader in LIST_OF_IO_CLASSES if ending in reader.supported_file_endings]
    if not found:
        raise ValueError(f"nnU-Net has no reader for files that end in {labels.ending!r}.")
    return found


def read_pair(prediction: Path, reference: Path, labels: Labels) -> Pair:
    """Reads and checks both files of a case.

    Args:
        prediction: Label file.
        reference: Label file.
        labels: Labels that may occur; the ignore label only in the reference.

    Raises:
        ValueError: If a file cannot be read, has more than one channel or unknown labels, or the
            two differ in shape, spacing, origin or direction.
    """
    paths = (prediction, reference)
    (predicted, about_prediction), (truth, about_reference) = _read(paths, labels)
    for path, array in zip(paths, (predicted, truth), strict=True):
        if len(array) != 1:
            raise ValueError(f"{path} has {len(array)} channels, want one label per voxel.")
    predicted, truth = predicted[0], truth[0]
    if predicted.shape != truth.shape:
        raise _different(prediction, reference, "shape", predicted.shape, truth.shape)
    _check_geometry(prediction, reference, about_prediction, about_reference)
    _check_labels(prediction, predicted, labels.known)
    _check_labels(reference, truth, labels.known | ({labels.ignore} - {None}))
    spacing = tuple(float(value) for value in about_reference["spacing"])
    if spacing[0] >= _FLAT * max(spacing[1:]):
        spacing = (1.0, *spacing[1:])
    voxel = float(np.prod(spacing))
    if len(truth) == 1:  # a surface in 3D would have a front and a back in every pixel
        return Pair(predicted[0], truth[0], spacing[1:], voxel)
    return Pair(predicted, truth, spacing, voxel)


def _read(paths: Sequence[Path], labels: Labels) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Arrays `c d h w` and properties from the first reader that manages all files."""
    failures = []
    for reader in readers_for(labels):
        images = []
        for path in paths:
            try:
                images.append(reader().read_seg(str(path)))
            except Exception as error:  # noqa: BLE001 - each library raises its own
                failures.append((path, error))
                break
        else:
            return images
    path, error = failures[0]
    reason = " ".join(str(error).split())[-200:]
    raise ValueError(f"{path} cannot be read; it may be damaged ({reason}).") from error


def _check_labels(path: Path, array: np.ndarray, known: Set[int]) -> None:
    unknown = sorted(set(np.unique(array).tolist()) - known)
    if unknown:
        raise ValueError(
            f"{path} has the label{'s' * (len(unknown) > 1)} "
            f"{', '.join(f'{value:g}' for value in unknown[:5])}{', ...' * (len(unknown) > 5)}, "
            f"which dataset.json does not know; it has {', '.join(map(str, sorted(known)))}."
        )


def _check_geometry(
    prediction: Path, reference: Path, predicted: dict[str, Any], truth: dict[str, Any]
) -> None:
    a, b = _geometry(predicted), _geometry(truth)
    voxel = min(b["spacing"])
    for name, limit in (
        ("spacing", GEOMETRY_TOLERANCE * voxel),
        ("origin", GEOMETRY_TOLERANCE * voxel),
        ("direction", GEOMETRY_TOLERANCE),
        ("affine", GEOMETRY_TOLERANCE * voxel),
    ):
        if name in a and not np.allclose(a[name], b[name], rtol=0, atol=limit):
            raise _different(prediction, reference, name, a[name], b[name])


def _geometry(properties: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a reader tells: SimpleITK origin and direction, nibabel the affine, others nothing."""
    itk, nibabel = properties.get("sitk_stuff", {}), properties.get("nibabel_stuff", {})
    known = {
        "spacing": properties["spacing"],
        "origin": itk.get("origin"),
        "direction": itk.get("direction"),
        "affine": nibabel.get("original_affine"),
    }
    return {name: np.asarray(value) for name, value in known.items() if value is not None}


def _different(
    prediction: Path, reference: Path, what: str, predicted: object, truth: object
) -> ValueError:
    return ValueError(
        f"{prediction} and {reference} differ in {what}: {_plain(predicted)} and {_plain(truth)}. "
        f"Measure the prediction on the grid of its ground truth."
    )


def _plain(value: object) -> str:
    return " ".join(np.array2string(np.asarray(value), separator=", ", precision=5).split())
