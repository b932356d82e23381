"""A data set in nnU-Net's folders, and its folds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsam3d_nnunet.crossval.folds import Fold, Method

SPLITS = "splits_final.json"
N_SPLITS = 5  # of nnU-Net, where the data set has no splits of its own


@dataclass(frozen=True)
class Dataset:
    """Where nnU-Net keeps a data set.

    Attributes:
        name: ``DatasetXXX_Name``.
        raw: Its folder in nnUNet_raw, which need not exist once it is preprocessed.
        preprocessed: Its folder in nnUNet_preprocessed.
        results: Its folder in nnUNet_results.
    """

    name: str
    raw: Path
    preprocessed: Path
    results: Path

    def description(self) -> dict[str, Any]:
        """Content of dataset.json."""
        return read_json(self._described())

    def labels(self, files: Sequence[str]) -> Path:
        """Folder of the ground truth: nnU-Net's copy only where the raw data lack a file.

        Args:
            files: Names that must be there.
        """
        raw = self.raw / "labelsTr"
        complete = all((raw / file).is_file() for file in files)
        return raw if complete else self.preprocessed / "gt_segmentations"

    def _described(self) -> Path:
        raw = self.raw / "dataset.json"
        return raw if raw.is_file() else self.preprocessed / "dataset.json"


def find_dataset(name: str) -> Dataset:
    """Finds a data set by name or number.

    Raises:
        ValueError: If nnU-Net's folders are not set, or do not have it.
    """
    variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    missing = [variable for variable in variables if not os.environ.get(variable)]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set; nnU-Net needs to know its folders")
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    try:
        found = str(maybe_convert_to_dataset_name(name))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"there is no data set {name!r}: {error}") from error
    raw, preprocessed, results = (Path(os.environ[variable]) / found for variable in variables)
    dataset = Dataset(found, raw, preprocessed, results)
    if not dataset._described().is_file():
        raise ValueError(f"there is no {raw / 'dataset.json'}; is {name!r} a data set of nnU-Net?")
    return dataset


def check_trainers(methods: Sequence[Method]) -> None:
    """Checks that nnU-Net finds the trainers.

    Raises:
        ValueError: If there is none of that name.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    for trainer in dict.fromkeys(method.trainer for method in methods):
        try:
            # It tells where it searches, and passes modules that warn.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                recursive_find_trainer_class_by_name(trainer)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"--trainers: nnU-Net finds no trainer {trainer!r}; check the name, or name its "
                f"folder in nnUNet_extTrainer"
            ) from error


def read_splits(dataset: Dataset) -> list[dict[str, list[str]]] | None:
    """Reads the splits of a data set; None if nnU-Net has not made any yet.

    Raises:
        ValueError: If the file is damaged.
    """
    path = dataset.preprocessed / SPLITS
    return read_json(path) if path.is_file() else None


def check_folds(folds: Sequence[int], dataset: Dataset) -> None:
    """Checks that the splits have the folds.

    nnU-Net would make a random split for a fold beyond them, whose cases overlap with others.

    Raises:
        ValueError: If they do not, or a case is held out in more than one of the folds.
    """
    splits = read_splits(dataset)
    count = N_SPLITS if splits is None else len(splits)
    beyond = [fold for fold in folds if fold >= count]
    if beyond:
        where = f"nnU-Net makes {count}" if splits is None else f"{SPLITS} has {count}"
        raise ValueError(
            f"--folds asks for {', '.join(map(str, beyond))}, but {where}: 0 to {count - 1}"
        )
    held_out = Counter(case for fold in folds for case in (splits[fold]["val"] if splits else ()))
    twice = [case for case, times in held_out.items() if times > 1]
    if twice:
        raise ValueError(
            f"{twice[0]} is held out in more than one of the folds {', '.join(map(str, folds))} of "
            f"{SPLITS}; a cross-validation has each case once. Choose others with --folds"
        )


def make_folds(
    dataset: Dataset,
    methods: Sequence[Method],
    configuration: str,
    numbers: Sequence[int],
    *,
    npz: bool = False,
) -> list[Fold]:
    """Lists the folds of all methods, fold by fold.

    Args:
        dataset: What is trained on.
        methods: What is trained.
        configuration: Of all of them.
        numbers: Which folds.
        npz: Whether probabilities of the validation cases are wanted.

    Raises:
        ValueError: If the splits do not have a fold.
    """
    check_folds(numbers, dataset)
    splits = read_splits(dataset) or []
    ending = dataset.description()["file_ending"]
    return [
        Fold(
            method=method,
            number=number,
            model=dataset.results / f"{method.name}__{configuration}",
            cases=tuple(splits[number]["val"]),
            ending=ending,
            npz=npz,
        )
        for number in numbers
        for method in methods
    ]


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Reads a JSON file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
