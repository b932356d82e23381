"""What dataset.json says about the labels and files of a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from refsam3d_nnunet.evaluation.table import read_object


@dataclass(frozen=True)
class Labels:
    """Labels of a data set, as nnU-Net reads them.

    Args:
        classes: Name -> label values, in the order of dataset.json: one value for a label, more
            for a region. Without background and the ignore label.
        known: All label values that a file may hold, the ignore label excepted.
        ignore: Value of the ignore label, or None.
        ending: Ending of the label files.
        reader: Name of nnU-Net's reader if dataset.json sets one, else None.
    """

    classes: dict[str, tuple[int, ...]]
    known: frozenset[int]
    ignore: int | None
    ending: str
    reader: str | None


def find_dataset_json(prediction: Path, reference: Path) -> Path:
    """Looks for dataset.json where nnU-Net leaves it.

    Args:
        prediction: Folder of predictions; also the two folders above it are tried, because the
            file lies two above nnU-Net's `fold_0/validation`.
        reference: Folder of the ground truth; also the folder above it is tried.

    Raises:
        FileNotFoundError: If it is in none of them.
    """
    prediction, reference = prediction.resolve(), reference.resolve()
    folders = [prediction, *prediction.parents[:2], reference, *reference.parents[:1]]
    for folder in folders:
        if (folder / "dataset.json").is_file():
            return folder / "dataset.json"
    raise FileNotFoundError(
        f"There is no dataset.json in {', '.join(map(str, folders))}: name it with --dataset-json."
    )


def read_labels(path: Path) -> Labels:
    """Reads a dataset.json.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If nnU-Net would not accept its labels, or it names no file ending.
    """
    content = read_object(path)
    try:
        labels = content["labels"]
        manager = LabelManager(labels, content.get("regions_class_order"))
        values = {
            name: tuple(map(int, value if isinstance(value, list | tuple) else (value,)))
            for name, value in labels.items()
            if name != "ignore"
        }
        ending = content["file_ending"]
    except KeyError as error:
        raise ValueError(f"{path} has no {error}, which nnU-Net's dataset.json has.") from error
    except (AssertionError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has labels that nnU-Net does not accept: {error}.") from error
    reader = content.get("overwrite_image_reader_writer")
    return Labels(
        classes={name: value for name, value in values.items() if set(value) != {0}},
        known=frozenset(map(int, manager.all_labels)) | {0},
        ignore=manager.ignore_label,
        ending=ending,
        reader=None if reader in (None, "None") else reader,
    )


def tolerances_of(
    labels: Labels, default: float, exceptions: Mapping[str, float]
) -> dict[str, float]:
    """Tolerance of each class.

    Args:
        labels: Labels of the data set.
        default: In mm, for classes that ``exceptions`` does not name.
        exceptions: Class -> mm.

    Raises:
        ValueError: If a class is unknown, or a tolerance is no number of mm from 0 up.
    """
    unknown = [name for name in exceptions if name not in labels.classes]
    if unknown:
        raise ValueError(
            f"There is no class {unknown[0]!r} to set a tolerance for; the classes are "
            f"{', '.join(map(repr, labels.classes))}."
        )
    for name, value in {"--tolerance": default, **exceptions}.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            raise ValueError(f"The tolerance of {name} must be mm from 0 up, got {value!r}.")
    return {name: float(exceptions.get(name, default)) for name in labels.classes}
