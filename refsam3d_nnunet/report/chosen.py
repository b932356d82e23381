"""Which cases the report shows, where their files are, and pictures of them."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from refsam3d_nnunet.demo.figure import HeldOut, save_slices
from refsam3d_nnunet.evaluation.table import read_object
from refsam3d_nnunet.report.study import Method, Study, raw_folder

MAX_CASES = 4
MAX_METHODS = 4  # rows of a picture

Classes = Mapping[str, int | tuple[int, ...]]


class Chosen(NamedTuple):
    """A case that is shown, and why.

    Attributes:
        case: Name of the case.
        reasons: Such as "worst of RefSAM3DTrainer".
        scores: Mean Dice over the classes by label of the method.
        image: First channel of its image.
        truth: Its label map.
        predictions: Predicted label map by label of the method.
    """

    case: str
    reasons: list[str]
    scores: dict[str, float]
    image: Path
    truth: Path
    predictions: dict[str, Path]


def choose(study: Study) -> list[Chosen]:
    """Chooses the worst and the median case of each method, by mean Dice over the classes.

    Cases whose files are gone are added to what the study misses.

    Args:
        study: A cross-validation.
    """
    means = {m.label: m.evaluation.values("dice").mean(axis=1).dropna() for m in study.methods}
    reasons: dict[str, list[str]] = {}
    for rank, place in (("worst", 0.0), ("median", 0.5)):
        for label, scores in means.items():
            if len(scores):
                reasons.setdefault(_at(scores, place), []).append(f"{rank} of {label}")
    if len(study.methods) > MAX_METHODS:
        study.missing.append(f"Pictures show the first {MAX_METHODS} methods only.")
    images = _images(study)
    chosen = []
    for case in list(reasons)[:MAX_CASES]:
        scores = {label: float(series[case]) for label, series in means.items() if case in series}
        try:
            files = _files(study, case, images)
        except FileNotFoundError as error:
            study.missing.append(
                f"The case {case} ({', '.join(reasons[case])}) is not shown: {error}"
            )
            continue
        chosen.append(Chosen(case, reasons[case], scores, *files))
    if skipped := list(reasons)[MAX_CASES:]:
        study.missing.append(f"Not shown, as {MAX_CASES} cases are: {', '.join(skipped)}.")
    return chosen


def _at(scores: pd.Series, place: float) -> str:
    """The case at a place between worst and best; of two in the middle the worse one."""
    return str(scores.sort_values(kind="stable").index[int(place * (len(scores) - 1))])


def class_values(evaluation_labels: Mapping[str, str]) -> dict[str, int | tuple[int, ...]]:
    """Values of each class or region, from the way that metrics.csv writes them.

    Args:
        evaluation_labels: Label by name; the values of a region are joined by a plus.
    """
    values = {name: tuple(map(int, text.split("+"))) for name, text in evaluation_labels.items()}
    return {name: v[0] if len(v) == 1 else v for name, v in values.items()}


def classes_of(study: Study) -> dict[str, int | tuple[int, ...]]:
    """Classes of the data set with their label values.

    Args:
        study: A cross-validation.
    """
    table = study.methods[0].evaluation.table.drop_duplicates("name")
    return class_values(dict(zip(table["name"], table["label"], strict=True)))


def picture(chosen: Chosen, classes: Classes) -> str:
    """Draws three planes of each method with contours of truth and prediction.

    Args:
        chosen: The case.
        classes: The label of each class, or the labels that a region unites.

    Returns:
        A PNG as the address of an ``<img>``.

    Raises:
        RuntimeError: If a file cannot be read as an image with three axes.
        ValueError: Likewise, or if truth and prediction do not fit the image.
    """
    rows = [
        HeldOut(f"{label}, Dice {chosen.scores.get(label, float('nan')):.3f}", *files)
        for label, path in list(chosen.predictions.items())[:MAX_METHODS]
        for files in [(chosen.image, chosen.truth, path)]
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slices.png")
        save_slices(path, rows, classes)
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _images(study: Study) -> dict[str, Path]:
    """First channel of each case in nnUNet_raw; nothing where that is not found."""
    raw = raw_folder(study)
    if raw is None:
        return {}
    description = read_object(raw / "dataset.json")
    if listed := description.get("dataset"):
        return {case: raw / entry["images"][0] for case, entry in listed.items()}
    ending = f"_0000{description['file_ending']}"
    files = (raw / "imagesTr").glob(f"*{ending}")
    return {file.name.removesuffix(ending): file for file in files}


def _files(
    study: Study, case: str, images: Mapping[str, Path]
) -> tuple[Path, Path, dict[str, Path]]:
    if case not in images or not images[case].is_file():
        raise FileNotFoundError("its image is not in nnUNet_raw.")
    first = study.methods[0]
    truth = Path(first.evaluation.info["reference"], case + first.file_ending)
    if not truth.is_file():
        raise FileNotFoundError(f"there is no {truth}.")
    found = {m.label: path for m in study.methods if (path := _prediction(m, case))}
    if not found:
        raise FileNotFoundError("no prediction of it is left.")
    return images[case], truth, found


def _prediction(method: Method, case: str) -> Path | None:
    name = case + method.file_ending
    candidates = [Path(method.evaluation.info["prediction"], name)]
    if method.model_folder:
        candidates += method.model_folder.glob(f"fold_*/validation/{name}")
    return next((path for path in candidates if path.is_file()), None)
