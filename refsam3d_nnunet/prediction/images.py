"""Images in any of the common formats, turned to the training's orientation and back."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from refsam3d_nnunet.orientation import orientation

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_CHANNEL = re.compile(r"(.+)_(\d{4})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """Files of one image.

    Args:
        name: Name of the outputs, without ending.
        files: One file per channel; a folder stands for the DICOM series in it.
        ending: Ending of the outputs.
    """

    name: str
    files: tuple[Path, ...]
    ending: str


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in the orientation of the training.

    Args:
        array: Intensities, c z y x, float32.
        oriented: First channel, oriented.
        original: First channel as it was read.
        code: Orientation as it was read, such as "RAS".
        oriented_code: Orientation now.
    """

    array: np.ndarray
    oriented: SimpleITK.Image
    original: SimpleITK.Image
    code: str
    oriented_code: str

    def properties(self) -> dict:
        """What nnU-Net's preprocessing wants to know."""
        return {"spacing": list(self.oriented.GetSpacing()[::-1])}

    def restored(self, array: np.ndarray) -> SimpleITK.Image:
        """Brings a result (z y x, oriented) back to the image's own axes and geometry.

        Raises:
            ValueError: If the geometry could not be restored.
        """
        result = SimpleITK.GetImageFromArray(array)
        result.CopyInformation(self.oriented)
        result = SimpleITK.DICOMOrient(result, self.code)
        if not same_geometry(result, self.original):
            raise ValueError(
                "The result could not be brought back to the geometry of the image, whose axes "
                "are halfway between two orientations. Resample the image to straight axes."
            )
        result.CopyInformation(self.original)  # exactly, rounding aside
        return result


def find_cases(source: Path, channels: int) -> list[Case]:
    """Finds the images in a folder, or the one that a file is.

    Args:
        source: Image file, folder of image files, or folder of a DICOM series.
        channels: Files of one image.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in it.
        ValueError: If an image lacks channels, or the format is not known.
    """
    if not source.exists():
        raise FileNotFoundError(f"There is no {source}.")
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    images = {file: ending for file in files if (ending := _ending(file))}
    if not images and source.is_dir():
        return [_dicom(source, channels)]
    if not images:
        raise ValueError(f"{source} is of no known format; there are {', '.join(ENDINGS)}.")
    found: dict[str, dict[int, Path]] = {}
    for file, ending in images.items():
        stem = file.name[: -len(ending)]
        numbered = _CHANNEL.fullmatch(stem)
        name, channel = (numbered[1], int(numbered[2])) if numbered else (stem, 0)
        if channel in found.setdefault(name, {}):
            raise ValueError(f"Both {found[name][channel]} and {file} are channel 0 of {name!r}.")
        found[name][channel] = file
    for name, parts in found.items():
        if sorted(parts) != list(range(channels)):
            raise ValueError(
                f"The model wants {channels} channel(s) of an image, {name!r} has "
                f"{sorted(file.name for file in parts.values())}; wanted are "
                f"{name}_0000 to {name}_{channels - 1:04d}, in a folder given with -i."
            )
    return [
        Case(name, tuple(parts[i] for i in range(channels)), images[parts[0]])
        for name, parts in found.items()
    ]


def read_volume(case: Case, trained: Sequence[str]) -> Volume:
    """Reads an image and turns it to the training's orientation.

    Args:
        case: Its files.
        trained: Orientations of the training cases, the most common first; an image in any of
            them stays as it is, as does every image if there is none.

    Raises:
        ValueError: If it cannot be read, is not 3D, or its channels differ in size, spacing or
            orientation.
    """
    images = [_read(file) for file in case.files]
    first = images[0]
    code = _code(first)
    for file, image in zip(case.files, images, strict=True):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise ValueError(f"{file} is not one 3D image of numbers; use nnUNetv2_predict.")
        if not _same_grid(image, first) or _code(image) != code:
            raise ValueError(
                f"{file} does not lie on {case.files[0]}: {image.GetSize()} voxels of "
                f"{image.GetSpacing()} mm, stored as {_code(image)}, and {first.GetSize()} of "
                f"{first.GetSpacing()}, stored as {code}."
            )
        if not same_geometry(image, first):
            # nnU-Net too stacks channels as they are stored, in training and in prediction.
            _log.warning(
                "WARNING: %s has origin %s and direction %s, %s has %s and %s; taken as the latter",
                file,
                *(image.GetOrigin(), image.GetDirection(), case.files[0]),
                *(first.GetOrigin(), first.GetDirection()),
            )
            image.CopyInformation(first)
    if code is None:
        raise ValueError(f"{case.files[0]} has the unusable direction {first.GetDirection()}.")
    wanted = code if not trained or code in trained else trained[0]
    oriented = [SimpleITK.DICOMOrient(image, wanted) for image in images]
    array = np.stack([SimpleITK.GetArrayFromImage(image) for image in oriented]).astype(np.float32)
    return Volume(array, oriented[0], first, code, wanted)


def same_geometry(one: SimpleITK.Image, other: SimpleITK.Image) -> bool:
    """Whether two images have the same size, origin, spacing and direction, but for rounding."""
    scale = min(other.GetSpacing())
    return (
        _same_grid(one, other)
        and np.allclose(one.GetOrigin(), other.GetOrigin(), rtol=0, atol=0.01 * scale)
        and np.allclose(one.GetDirection(), other.GetDirection(), atol=1e-3)
    )


def _code(image: SimpleITK.Image) -> str | None:
    return orientation({"sitk_stuff": {"direction": image.GetDirection()}})


def _same_grid(one: SimpleITK.Image, other: SimpleITK.Image) -> bool:
    return one.GetSize() == other.GetSize() and np.allclose(
        one.GetSpacing(), other.GetSpacing(), rtol=1e-4
    )


def _ending(file: Path) -> str | None:
    return next((ending for ending in ENDINGS if file.name.lower().endswith(ending)), None)


def _dicom(folder: Path, channels: int) -> Case:
    series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise FileNotFoundError(f"{folder} holds no image ({', '.join(ENDINGS)}) and no DICOM.")
    if len(series) > 1 or channels > 1:
        raise ValueError(
            f"{folder} holds {len(series)} DICOM series, wanted is one, and a model of one channel "
            f"(this one has {channels}). Convert them to NIfTI."
        )
    return Case(folder.resolve().name, (folder,), ".nii.gz")


def _read(path: Path) -> SimpleITK.Image:
    try:
        if not path.is_dir():
            return SimpleITK.ReadImage(str(path))
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        return reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path} cannot be read as an image: {reason}") from error
