"""How the axes of a stored image lie in the patient, and which one runs from right to left."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsam3d_nnunet.files import write_json

_log = logging.getLogger(__name__)

_SIDES = ("LR", "PA", "SI")  # of the patient, along the positive and negative axes of LPS


def left_right_axis(properties: Mapping[str, Any], transpose_forward: Sequence[int]) -> int | None:
    """Finds the left-right axis of a preprocessed case.

    nnU-Net's readers hand over arrays with the file's axes reversed (z, y, x) and keep the
    geometry they found: SimpleITK's direction matrix, or nibabel's affine. Its columns are the
    file's axes, its first row is the patient's left-right in both conventions (LPS and RAS differ
    in sign alone). In an oblique image the axis with the largest left-right component counts,
    voxel size aside. Sources without geometry (PNG, TIFF) are taken to show the left-right
    horizontally, that is along the last axis.

    Args:
        properties: What nnU-Net's reader returned with the image, or what nnU-Net stored beside
            the preprocessed case; the first case of a data set will do.
        transpose_forward: Permutation of the axes from the plans.

    Returns:
        Index into the three spatial axes after ``transpose_forward``, slices included also for a
        2D image; None if there is a geometry but it is unusable (zero or not finite).

    Raises:
        ValueError: If ``transpose_forward`` is no permutation of the three axes, or the geometry
            has neither 4, 9 nor 16 numbers.
    """
    order = [int(axis) for axis in transpose_forward]
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"transpose_forward must order the axes 0, 1, 2, got {transpose_forward}")
    columns = _direction(properties)
    if columns is None:
        return order.index(2)
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        return None
    file_axis = int(np.argmax(np.abs(columns[0] / lengths)))
    return order.index(2 - file_axis)


def axes_that_keep_sides(
    axes: Sequence[int], transposed: Sequence[int], left_right: Sequence[int | None]
) -> tuple[int, ...] | None:
    """Those axes of a patch that may be mirrored without swapping the patient's sides.

    Args:
        axes: Axes of the patch that nnU-Net would mirror.
        transposed: Stored axis of each axis of the patch.
        left_right: Stored axes that run along the left-right in some case, see :func:`geometries`.

    Returns:
        The axes; None if there are none, as nnU-Net wants it.
    """
    if None in left_right:  # a geometry that says nothing: any axis may be the one
        return None
    return tuple(axis for axis in axes if transposed[axis] not in left_right) or None


def geometries(
    folder: Path, cache: Path, read: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """How the cases of a preprocessed data set lie in the patient, before any transposition.

    The properties that nnU-Net stores can be large, so the answer is kept in a file.

    Args:
        folder: Where the cases' .pkl files lie.
        cache: File to look into first, and to write if the folder may be written to.
        read: Reads the properties of one case.

    Returns:
        "axes": the different left-right axes found, as from :func:`left_right_axis` without
        transposition; "orientations": the number of cases of each :func:`orientation`, the most
        common first; "cases": their names; "newest": when the last of them was written.
    """
    files = sorted(folder.glob("*.pkl"))
    # The same cases may have been preprocessed again, turned otherwise.
    newest = max((file.stat().st_mtime_ns for file in files), default=0)
    about = {"cases": [file.stem for file in files], "newest": newest}
    if cache.is_file():
        known = json.loads(cache.read_text(encoding="utf-8"))
        if about.items() <= known.items():
            return known
    axes, codes = set(), Counter()
    for case in map(read, files):
        axes.add(left_right_axis(case, (0, 1, 2)))
        codes[orientation(case)] += 1
    answer = {
        "axes": list(axes),
        "orientations": {code: count for code, count in codes.most_common() if code is not None},
        **about,
    }
    try:
        write_json(cache, answer)
    except OSError as error:
        _log.warning("Could not store how the cases lie in %s: %s", cache, error)
    return answer


def orientation(properties: Mapping[str, Any]) -> str | None:
    """Names the directions in which the axes of a 3D image file run, such as "LPS".

    Args:
        properties: As for :func:`left_right_axis`.

    Returns:
        For each of the file's axes x, y, z the letter of the patient's side it runs to, as
        SimpleITK's DICOMOrient names them: "LPS" for the identity. Oblique axes get the nearest
        such order. None without a usable 3D geometry.
    """
    columns = _direction(properties)
    if columns is None or columns.shape != (3, 3) or not np.isfinite(columns).all():
        return None
    lengths = np.linalg.norm(columns, axis=0)
    if not (lengths > 0).all():
        return None
    columns = columns / lengths
    if "nibabel_stuff" in properties:  # an affine points to the right, anterior, superior
        columns = np.diag([-1, -1, 1]) @ columns
    letters, free = ["", "", ""], np.abs(columns)
    for _ in range(3):  # the clearest axis first; each patient axis is given away once
        patient, file = np.unravel_index(np.argmax(free), free.shape)
        letters[file] = _SIDES[patient][int(columns[patient, file] < 0)]
        free[patient], free[:, file] = -1, -1
    return "".join(letters)


def _direction(properties: Mapping[str, Any]) -> np.ndarray | None:
    """The file's axes as columns in patient space [2 or 3, 2 or 3]; None without geometry."""
    if "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        # The reader that reorients stores both; the array it returns follows the second.
        affine = stuff.get("reoriented_affine", stuff["original_affine"])
        return np.asarray(affine, dtype=float)[:3, :3]
    if "sitk_stuff" not in properties:
        return None
    numbers = np.asarray(properties["sitk_stuff"]["direction"], dtype=float)
    if numbers.size not in (4, 9, 16):
        raise ValueError(
            f"An image direction has 4, 9 or 16 numbers (2D, 3D, 3D with channels), "
            f"got {numbers.size}: {numbers.tolist()}"
        )
    matrix = numbers.reshape(int(numbers.size**0.5), -1)
    return matrix[:3, :3]  # of a 4D image: the fourth axis holds the channels
