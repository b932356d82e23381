"""Which cases there are to measure, and in which fold each was held out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path


def find_cases(
    prediction: Path, reference: Path, ending: str, *, allow_missing: bool = False
) -> list[str]:
    """Names of the cases that have both a prediction and a ground truth, sorted.

    Args:
        prediction: Folder of predictions.
        reference: Folder of the ground truth.
        ending: Ending of the label files.
        allow_missing: Whether ground truth without a prediction is left out silently.

    Raises:
        FileNotFoundError: If a folder is missing or has no label file.
        ValueError: If a prediction has no ground truth, or the reverse.
    """
    predicted, truth = (_names(folder, ending) for folder in (prediction, reference))
    lost = sorted(predicted - truth)
    if lost:
        raise ValueError(
            f"{_some(lost)} in {prediction} {_have(lost)} no ground truth in {reference}. Remove "
            f"what is no prediction of this data set, or name the right folder."
        )
    missing = sorted(truth - predicted)
    if missing and not allow_missing:
        raise ValueError(
            f"{_some(missing)} in {reference} {_have(missing)} no prediction in {prediction}. "
            f"Predict them, or pass --allow-missing to measure the {len(predicted)} that are there."
        )
    return sorted(predicted)


def find_missing(cases: Sequence[str], reference: Path, ending: str) -> list[str]:
    """Names of the cases that have a ground truth and are not among these, sorted."""
    return sorted(_names(reference, ending) - set(cases))


def folds_of(
    cases: Sequence[str], splits: Path, numbers: Sequence[int] | None = None
) -> dict[str, str]:
    """Case -> fold in whose validation set it is.

    Args:
        cases: Cases that are measured.
        splits: nnU-Net's splits_final.json: a list of `{"train": [...], "val": [...]}`.
        numbers: Folds to look at, of a repeated cross-validation; all if None.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such list, or a case is in the validation sets of no fold or more.
    """
    try:
        content = json.loads(splits.read_text(encoding="utf-8"))
        validation = [list(map(str, fold["val"])) for fold in content]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{splits} must look like nnU-Net's splits_final.json, "
            f'[{{"train": [...], "val": [...]}}, ...] ({type(error).__name__}: {error}).'
        ) from error
    folds = {
        case: [
            str(number)
            for number, names in enumerate(validation)
            if case in names and (numbers is None or number in numbers)
        ]
        for case in cases
    }
    for case, found in folds.items():
        if len(found) != 1:
            where = f"of the folds {' and '.join(found)}" if found else "of no fold"
            raise ValueError(f"{case} is in the validation set {where} of {splits}, want one fold.")
    return {case: found[0] for case, found in folds.items()}


def _names(folder: Path, ending: str) -> set[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    names = {file.name for file in folder.iterdir() if file.is_file() and file.name[0] != "."}
    found = {name.removesuffix(ending) for name in names if name.endswith(ending)}
    if not found:
        raise FileNotFoundError(
            f"{folder} has no file that ends in {ending}, the file_ending of dataset.json."
        )
    return found


def _some(names: Sequence[str]) -> str:
    return f"{_listed(names[:5])}{f' and {len(names) - 5} more' * (len(names) > 5)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
