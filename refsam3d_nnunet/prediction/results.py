"""What `refsam3d predict` writes of an image: labels, probabilities, masks, a record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from refsam3d_nnunet.files import replacing
from refsam3d_nnunet.prediction.images import Case, Volume
from refsam3d_nnunet.prediction.matching import Match
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor
from refsam3d_nnunet.text.phrases import background_of


@dataclass(frozen=True)
class Structure:
    """A structure that was asked for.

    Args:
        value: Its label value.
        phrase: What it is called.
        record: What the record says of it beside value and voxels.
    """

    value: int
    phrase: str
    record: dict[str, Any]


def asked_structures(matches: Sequence[Match]) -> list[Structure]:
    """Those of prompts: label i + 1 is prompt i."""
    return [Structure(value, one.prompt, asdict(one)) for value, one in enumerate(matches, 1)]


def trained_structures(predictor: RefSAM3DPredictor) -> list[Structure]:
    """Those of the training, in the order of the network's channels, without background."""
    order = predictor.label_manager.regions_class_order  # of regions; the later one is on top
    background = background_of(predictor.classes)
    return [
        Structure(
            channel if background is not None else int(order[channel]),
            one.canonical,
            {"label": one.label, "canonical": one.canonical},
        )
        for channel, one in enumerate(predictor.classes)
        if channel != background
    ]


def label_image(
    volume: Volume, labels: np.ndarray, structures: Sequence[Structure]
) -> SimpleITK.Image:
    """A label image in the geometry of the image that was read.

    Args:
        volume: The image.
        labels: Label values z y x, as the predictor gave them.
        structures: All that may be in it.

    Raises:
        ValueError: If the geometry could not be restored.
    """
    kind = np.uint8 if max(one.value for one in structures) < 256 else np.uint16
    return volume.restored(labels.astype(kind))


def write_more(
    out: Path,
    case: Case,
    volume: Volume,
    *,
    labels: np.ndarray,
    chances: np.ndarray,
    structures: Sequence[Structure],
    masks: bool,
    probabilities: bool,
    before: Mapping[str, Any],
) -> None:
    """Writes probabilities and masks.

    Args:
        out: Folder to write to.
        case: Names the files.
        volume: The image.
        labels: Label values z y x.
        chances: Probabilities k z y x, background first unless the model has regions.
        structures: What was asked for.
        masks: Whether a mask of each is wanted.
        probabilities: Whether ``chances`` are wanted.
        before: What the folder's record says of the image, whose masks are replaced.

    Raises:
        OSError: If a file cannot be written.
    """
    regions = len(chances) == len(structures)
    if probabilities:
        back = [SimpleITK.GetArrayFromImage(volume.restored(one)) for one in chances]
        with replacing(out / f"{case.name}.npz") as temporary:
            np.savez_compressed(temporary, probabilities=np.stack(back))
    if not masks:
        return
    folder = out / f"{case.name}_masks"
    folder.mkdir(exist_ok=True)
    for one in before.get("prompts") or before.get("classes") or ():
        name = _mask_name(one["value"], one.get("prompt") or one["canonical"])
        (folder / f"{name}{case.ending}").unlink(missing_ok=True)
    for i, one in enumerate(structures):
        mask = chances[i] > 0.5 if regions else labels == one.value  # regions may overlap
        name = _mask_name(one.value, one.phrase)
        image = volume.restored(mask.astype(np.uint8))
        write_image(image, folder / f"{name}{case.ending}")


def _mask_name(value: int, phrase: str) -> str:
    return f"{value}_{re.sub(r'[^a-z0-9]+', '_', phrase.lower()).strip('_')[:60]}"


def write_image(image: SimpleITK.Image, path: Path) -> None:
    """Writes under a name of the same ending, then renames, so that no half file is left.

    Raises:
        OSError: If the folder is missing.
        RuntimeError: If SimpleITK cannot write the file.
    """
    if path.name.endswith(".mhd"):  # two files, which name each other
        SimpleITK.WriteImage(image, str(path))
        return
    with replacing(path) as temporary:
        SimpleITK.WriteImage(image, str(temporary), useCompression=True)


def image_record(
    case: Case, volume: Volume, structures: Sequence[Structure], labels: np.ndarray
) -> dict[str, Any]:
    """What the record says of one image."""
    return {
        "files": [str(file) for file in case.files],
        "segmentation": f"{case.name}{case.ending}",
        "orientation": volume.code,
        "predicted_in_orientation": volume.oriented_code,
        "prompts" if "prompt" in structures[0].record else "classes": [
            {"value": one.value, **one.record, "voxels": int((labels == one.value).sum())}
            for one in structures
        ],
    }
