"""A torso with known truth, drawn from a seed: data for the demo without any download.

Every case is a child-sized trunk as a fat-suppressed T2 scan might show it. The anatomy is
written in millimetres of the patient (LPS: +x left, +y posterior, +z superior), jittered,
bent by a smooth random field and then sampled on a voxel grid of the case's own. The kidneys
look alike and so do aorta and vena cava: only their side of the body tells them apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from refsam3d_nnunet.files import replacing

Field = NDArray[np.float64]
Rng = np.random.Generator

_CLASSES = ("background", "liver", "spleen", "left kidney", "right kidney", "spine", "aorta")
LABELS = {name: value for value, name in enumerate(_CLASSES)}

# Mean signal of each tissue in arbitrary units; the order is that of the codes on the canvas.
_SIGNAL = {
    "air": 0.0,
    "fat": 75.0,
    "muscle": 55.0,
    "mesentery": 80.0,
    "lung": 20.0,
    "heart": 150.0,
    "bowel": 200.0,
    "stomach": 300.0,
    "gallbladder": 400.0,
    "liver": 150.0,
    "spleen": 235.0,
    "left kidney": 285.0,
    "right kidney": 285.0,
    "spine": 140.0,
    "disc": 250.0,
    "cerebrospinal fluid": 420.0,
    "aorta": 35.0,
    "vena cava": 35.0,
}
_CODE = {name: code for code, name in enumerate(_SIGNAL)}
_PART_OF = {"disc": "spine"}

# Extent that is scanned, in mm along x, y, z: the body with a margin of air.
_FIELD_OF_VIEW = (208.0, 168.0, 176.0)


class Ellipsoid(NamedTuple):
    """A piece of an organ in the coordinates of the patient.

    Attributes:
        center: Position along x, y, z in mm.
        semi_axes: Half of the extent along its own three axes, in mm.
        tilt: Rotation about y (in the coronal plane) in degrees, positive from +z towards +x.
    """

    center: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    tilt: float = 0.0


class Organ(NamedTuple):
    """A union of ellipsoids, without what others cut from it.

    Attributes:
        tissue: Name of the tissue that it is made of.
        pieces: What belongs to it.
        cuts: What is taken away again, such as the hilum of a kidney.
    """

    tissue: str
    pieces: tuple[Ellipsoid, ...]
    cuts: tuple[Ellipsoid, ...] = ()


# Later organs displace earlier ones where they touch, as the kidney dents the liver.
ORGANS = (
    Organ("heart", (Ellipsoid((12, -14, 82), (34, 28, 26)),)),
    Organ("stomach", (Ellipsoid((32, -18, 24), (22, 20, 26), -25),)),
    Organ(
        "liver",
        (
            Ellipsoid((-43, -2, 26), (36, 46, 42), 8),
            Ellipsoid((2, -25, 34), (40, 20, 22), -12),
        ),
    ),
    Organ("gallbladder", (Ellipsoid((-26, -30, -2), (9, 9, 15), 20),)),
    Organ(
        "spleen",
        (Ellipsoid((60, 16, 24), (18, 27, 32), -12),),
        (Ellipsoid((41, 4, 22), (11, 15, 17)),),
    ),
    Organ(
        "left kidney",
        (Ellipsoid((42, 26, -22), (18, 19, 34), -12),),
        (Ellipsoid((24, 21, -22), (9, 8, 10)),),
    ),
    Organ(
        "right kidney",
        (Ellipsoid((-42, 26, -32), (18, 19, 34), 12),),
        (Ellipsoid((-24, 21, -32), (9, 8, 10)),),
    ),
)


def make_case(
    index: int, seed: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.uint8], tuple[float, float, float]]:
    """Draws one case; the same index and seed give the same arrays.

    Args:
        index: Number of the case, 0 or more.
        seed: Seed of the data set, 0 or more.

    Returns:
        Image and labels (see ``LABELS``), both ``d h w`` = z, y, x with patient left at the
        high end of x, posterior at that of y and superior at that of z; and the voxel's
        size in mm in the same order z, y, x.

    Raises:
        ValueError: If index or seed is negative.
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be 0 or more, got {index} and {seed}")
    rng = np.random.default_rng([seed, index])
    in_plane = float(np.round(rng.uniform(3.0, 3.5), 2))
    spacing = (float(np.round(rng.uniform(4.0, 4.8), 2)), in_plane, in_plane)
    shape = tuple(int(n) for n in np.round(np.divide(_FIELD_OF_VIEW[::-1], spacing)))
    tissue = _draw(_body_coordinates(shape, spacing, rng), rng)
    classes = [LABELS.get(_PART_OF.get(name, name), 0) for name in _SIGNAL]
    return _scan(tissue, spacing, rng), np.array(classes, dtype=np.uint8)[tissue], spacing


def to_image(array: NDArray, spacing: tuple[float, float, float]) -> SimpleITK.Image:
    """Puts a ``z y x`` array of :func:`make_case` into patient space.

    Args:
        array: Voxels ``d h w``.
        spacing: Size of a voxel in mm along z, y, x.

    Returns:
        The image with axes along L, P, S and the patient's centre at the origin.
    """
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-(np.array(array.shape) - 1) / 2 * spacing)[::-1].tolist())
    return image


def write_dataset(folder: Path, n_train: int = 20, n_test: int = 4, seed: int = 0) -> None:
    """Writes phantoms as a raw data set of nnU-Net.

    Args:
        folder: The data set's own folder, such as ``nnUNet_raw/Dataset001_TorsoPhantom``.
        n_train: Cases for ``imagesTr`` and ``labelsTr``.
        n_test: Held-out cases for ``imagesTs`` and ``labelsTs``.
        seed: Seed of the data set.

    Raises:
        ValueError: If there is no training case or a count is negative.
    """
    if n_train < 1 or n_test < 0:
        raise ValueError(f"need n_train >= 1 and n_test >= 0, got {n_train} and {n_test}")
    for index in range(n_train + n_test):
        part = "Tr" if index < n_train else "Ts"
        image, labels, spacing = make_case(index, seed)
        name = f"torso_{index:03d}"
        _write(to_image(image, spacing), folder / f"images{part}" / f"{name}_0000.nii.gz")
        _write(to_image(labels, spacing), folder / f"labels{part}" / f"{name}.nii.gz")
    description = {
        "name": "TorsoPhantom",
        "description": f"Synthetic torso in the manner of a fat-suppressed T2 scan, seed {seed}",
        "channel_names": {"0": "MR"},
        "labels": LABELS,
        "numTraining": n_train,
        "file_ending": ".nii.gz",
    }
    with replacing(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _write(image: SimpleITK.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        SimpleITK.WriteImage(image, str(temporary), useCompression=True)


def _body_coordinates(shape: tuple[int, ...], spacing: tuple[float, ...], rng: Rng) -> Field:
    """Where each voxel's centre lies in the undeformed patient: ``3 d h w`` = x, y, z in mm."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1])  # x y z
    pose = np.deg2rad(rng.uniform(-5, 5, size=3))
    points = np.einsum("ij,jdhw->idhw", _rotation(pose), points)
    points *= rng.uniform(0.95, 1.05, size=3)[:, None, None, None]
    points += rng.uniform(-4, 4, size=3)[:, None, None, None]
    bend = [_smooth_noise(shape, spacing, 24.0, rng) for _ in range(3)]
    return points + 3.0 * np.stack(bend)


def _rotation(angles: Field) -> Field:
    """Rotation about x, then y, then z by angles in radians: a matrix ``3 3``."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _smooth_noise(
    shape: tuple[int, ...], spacing: tuple[float, ...], width: float, rng: Rng
) -> Field:
    """Random field ``d h w`` of mean 0 and deviation 1, smooth over ``width`` mm."""
    sigma = [width / step for step in spacing]
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def _column(values: ArrayLike) -> Field:
    return np.asarray(values, dtype=np.float64)[:, None, None, None]


def _jittered(points: Field, organ: Organ, rng: Rng) -> Field:
    """Moves, scales and turns the coordinates about an organ's centre, ``3 d h w``."""
    center = _column(organ.pieces[0].center)
    shift, scale = rng.normal(0, 2.5, size=3).clip(-5, 5), rng.uniform(0.9, 1.1, size=3)
    turn = _rotation(np.deg2rad(rng.uniform(-6, 6, size=3)))
    local = (points - center - _column(shift)) / _column(scale)
    return np.einsum("ij,jdhw->idhw", turn, local) + center


def _union(points: Field, pieces: tuple[Ellipsoid, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(points.shape[1:], dtype=bool)
    for piece in pieces:
        turn = _rotation(np.deg2rad([0.0, -piece.tilt, 0.0]))
        local = np.einsum("ij,jdhw->idhw", turn, points - _column(piece.center))
        mask |= np.sum((local / _column(piece.semi_axes)) ** 2, axis=0) < 1
    return mask


def _draw(points: Field, rng: Rng) -> NDArray[np.uint8]:
    """Paints the tissues from the outside in: codes ``d h w`` in the order of ``_SIGNAL``."""
    x, y, z = points
    tissue = np.zeros(x.shape, dtype=np.uint8)
    fat, muscle = rng.uniform(7, 11), rng.uniform(6, 8)
    for name, depth in (("fat", 0.0), ("muscle", fat), ("mesentery", fat + muscle)):
        tissue[np.hypot(x / (98 - depth), y / (76 - depth)) < 1] = _CODE[name]
    cavity = tissue == _CODE["mesentery"]
    bowel = _smooth_noise(x.shape, (1.0, 1.0, 1.0), 2.2, rng) > 0.5
    tissue[cavity & bowel & (z < 10) & (y < 15)] = _CODE["bowel"]
    dome = rng.uniform(62, 70) - 45 * ((x / 82) ** 2 + (y / 60) ** 2)
    chest = cavity & (z > dome)
    tissue[chest] = _CODE["lung"]
    for organ in ORGANS:
        local = _jittered(points, organ, rng)
        room = chest if organ.tissue == "heart" else cavity & ~chest
        mask = _union(local, organ.pieces) & ~_union(local, organ.cuts)
        tissue[room & mask] = _CODE[organ.tissue]
    _draw_columns(points, tissue, rng)
    return tissue


def _draw_columns(points: Field, tissue: NDArray[np.uint8], rng: Rng) -> None:
    """Paints what runs through all slices: back muscles, spine, its canal, great vessels."""
    x, y, z = points
    column, offset = rng.uniform(15, 17), rng.uniform(0, 26)
    sway = rng.uniform(2, 4) * np.sin(z / 40 + rng.uniform(0, 2 * np.pi))
    for side in (-1, 1):
        tissue[np.hypot((x - side * 21) / 17, (y - 54) / 12) < 1] = _CODE["muscle"]
    spine = np.hypot(x, (y - 37) / 0.85) < column
    tissue[spine] = _CODE["spine"]
    tissue[spine & ((z + offset) % 26 < 5)] = _CODE["disc"]
    tissue[np.hypot(x, y - 57) < 5.5] = _CODE["cerebrospinal fluid"]
    for name, center, radius in (("aorta", 10.5, 9.5), ("vena cava", -11.5, 9.0)):
        wide = radius * rng.uniform(0.92, 1.08)
        tissue[np.hypot(x - center - sway, y - 14) < wide] = _CODE[name]


def _scan(tissue: NDArray[np.uint8], spacing: tuple[float, ...], rng: Rng) -> NDArray[np.int16]:
    """Turns tissue codes into the signal that a scanner would give, ``d h w``."""
    shape = tissue.shape
    signal = np.array(list(_SIGNAL.values()))
    signal = signal * rng.uniform(0.93, 1.07, size=signal.size)
    for name, low, high in (("stomach", 40, 380), ("bowel", 120, 280)):
        signal[_CODE[name]] = rng.uniform(low, high)
    signal[_CODE["right kidney"]] = signal[_CODE["left kidney"]]
    signal[_CODE["vena cava"]] = signal[_CODE["aorta"]]
    image = signal[tissue] * (1 + 0.07 * _smooth_noise(shape, spacing, 4.0, rng))
    image = ndimage.gaussian_filter(image, 0.5)  # partial volume
    image *= np.exp(0.12 * _smooth_noise(shape, spacing, 60.0, rng))
    image = rng.uniform(0.7, 1.4) * (image + rng.normal(0, 9.0, size=shape))
    return np.round(image).clip(0, 4095).astype(np.int16)
