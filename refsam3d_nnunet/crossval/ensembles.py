"""The best model or ensemble of two, found by nnU-Net."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from shutil import rmtree
from typing import Any

from refsam3d_nnunet.crossval.conclude import accumulate, is_newer
from refsam3d_nnunet.crossval.dataset import Dataset, make_folds, read_json, read_splits
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.folds import Fold, Method, Stage, parse_method, stage_of

INFORMATION, INSTRUCTIONS = "inference_information.json", "inference_instructions.txt"


@dataclass(frozen=True)
class Model:
    """A method in one configuration.

    Attributes:
        method: What is trained.
        configuration: Of nnU-Net.
        folds: Its folds; their probabilities are wanted.
    """

    method: Method
    configuration: str
    folds: tuple[Fold, ...]

    @property
    def named(self) -> dict[str, str]:
        """As nnU-Net's find_best_configuration wants it."""
        trainer, plans = self.method.trainer, self.method.plans
        return {"plans": plans, "configuration": self.configuration, "trainer": trainer}


def models_of(dataset: Dataset, folds: Sequence[Fold], args: argparse.Namespace) -> list[Model]:
    """Lists what ``--ensemble`` asks for, before anything is trained.

    Args:
        dataset: What is trained on.
        folds: All folds of this cross-validation.
        args: Its arguments.

    Returns:
        The methods of this cross-validation, and models that are done; none without the option.

    Raises:
        ValueError: If there are fewer than two models, or one that was to be done is not.
    """
    if not args.ensemble and not args.ensemble_with:
        return []
    methods = dict.fromkeys(fold.method for fold in folds)
    models = [
        Model(method, args.configuration, tuple(fold for fold in folds if fold.method == method))
        for method in methods
    ]
    numbers = sorted({fold.number for fold in folds})
    for text in dict.fromkeys(args.ensemble_with):
        model = _done_model(dataset, text, numbers)
        models += [model] if model not in models else []
    if len(models) < 2:
        raise ValueError(
            "--ensemble needs two models or more: name more --trainers, or what is done already "
            "with --ensemble-with TRAINER:PLANS:CONFIGURATION"
        )
    return models


def _done_model(dataset: Dataset, text: str, numbers: Sequence[int]) -> Model:
    name, _, configuration = text.rpartition(":")
    if name.count(":") != 1 or not configuration:
        raise ValueError(f"--ensemble-with {text!r} is not TRAINER:PLANS:CONFIGURATION")
    method = parse_method(name)
    folds = make_folds(dataset, [method], configuration, numbers, npz=True)
    missing = [str(fold.number) for fold in folds if stage_of(fold) is not Stage.DONE]
    if missing:
        raise ValueError(
            f"--ensemble-with {text}: fold {', '.join(missing)} in {folds[0].model} is not trained "
            f"and validated with --npz; run `refsam3d crossval {dataset.name} -c {configuration} "
            f"--trainers {name} --folds {' '.join(map(str, numbers))} --npz` first"
        )
    return Model(method, configuration, tuple(folds))


def find_best(
    dataset: Dataset,
    models: Sequence[Model],
    *,
    logs: Path,
    display: Display,
    processes: int | None = None,
) -> dict[str, float]:
    """Has nnU-Net ensemble all pairs of models; what is up to date is kept.

    Args:
        dataset: What was trained on.
        models: Two or more; all their folds are done.
        logs: Folder for what nnU-Net prints.
        display: Is told what was found.
        processes: Of nnU-Net; its default if None.

    Returns:
        Dice of each model and each ensemble of two, the mean over classes and validation cases.

    Raises:
        ValueError: If nnU-Net fails.
    """
    merged = {
        model: accumulate(dataset, model.folds, model.configuration, logs, display)
        for model in models
    }
    summaries = [folder / "summary.json" for folder in merged.values()]
    path = dataset.results / INFORMATION
    numbers = [fold.number for fold in models[0].folds]
    known = read_json(path) if is_newer(path, summaries) else {}
    asked = {"considered_models": [model.named for model in models], "folds": numbers}
    if not known.items() >= asked.items():
        _tell_part(dataset, numbers, display)
        log = logs / "ensemble.log"
        display.line(f"ensembling {len(models)} models (log: {log})")
        _remove_old_ensembles(dataset, merged)
        known = _run(dataset, asked, log, processes)
    _tell(known, dataset.results / INSTRUCTIONS, display)
    return known["all_results"]


def _run(
    dataset: Dataset, asked: Mapping[str, Any], log: Path, processes: int | None
) -> dict[str, Any]:
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    try:
        with log.open("w", encoding="utf-8") as file, redirect_stdout(file):
            return find_best_configuration(
                dataset.name,
                asked["considered_models"],
                allow_ensembling=True,
                num_processes=processes or default_num_processes,
                overwrite=False,  # the merged validation cases are up to date
                folds=asked["folds"],
            )
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"nnU-Net's find_best_configuration failed: {error} (log: {log})"
        ) from error


def _remove_old_ensembles(dataset: Dataset, merged: Mapping[Model, Path]) -> None:
    """Removes what nnU-Net would keep of ensembles of models that were trained again since."""
    from nnunetv2.utilities.file_path_utilities import get_ensemble_name

    for pair in combinations(merged, 2):
        numbers = tuple(fold.number for fold in pair[0].folds)
        name = get_ensemble_name(*(str(model.folds[0].model) for model in pair), numbers)
        folder = dataset.results / "ensembles" / name
        if not is_newer(folder / "summary.json", [merged[one] / "summary.json" for one in pair]):
            rmtree(folder, ignore_errors=True)


def _tell_part(dataset: Dataset, numbers: Sequence[int], display: Display) -> None:
    count = len(read_splits(dataset) or [])
    if len(numbers) < count:
        display.line(
            f"Ensembles are chosen by the validation cases of {len(numbers)} of {count} folds; "
            "nnU-Net advises all, above all for its post-processing"
        )


def _tell(found: Mapping[str, Any], instructions: Path, display: Display) -> None:
    results = found["all_results"]
    ensembles = [name for name in results if name.startswith("ensemble___")]
    for title, names in (
        ("Best model", [name for name in results if name not in ensembles]),
        ("Best ensemble", ensembles),
    ):
        best = max(names, key=results.get)
        parts = best.split("___")[1:-1] if best in ensembles else [best]
        display.line(f"{title}: {' + '.join(parts)}, Dice {results[best]:.4f}")
    display.line(f"How to predict with nnU-Net's choice: {instructions}")
