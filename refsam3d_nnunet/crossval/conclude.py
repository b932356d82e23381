"""From trained folds to the report: accumulates, evaluates, compares."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refsam3d_nnunet.crossval.dataset import SPLITS, Dataset
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.folds import Fold, Method
from refsam3d_nnunet.crossval.record import Record
from refsam3d_nnunet.demo.runner import run_command

if TYPE_CHECKING:
    from refsam3d_nnunet.evaluation.table import Evaluation


def conclude(
    out: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    *,
    configuration: str,
    record: Record,
    display: Display,
    baseline: Method,
    processes: int | None = None,
    margin: float | None = None,
) -> Path:
    """Accumulates, evaluates, compares and reports; what is up to date is kept.

    Args:
        out: Folder of the cross-validation.
        dataset: What was trained on.
        folds: All folds of all methods; they are done.
        configuration: Which was trained.
        record: Is told where the results lie.
        display: Is told about each step.
        baseline: What the other methods are compared with.
        processes: To evaluate with.
        margin: Of non-inferiority; that of ``refsam3d compare`` if None.

    Returns:
        The report.

    Raises:
        ValueError: If a step fails.
        OSError: If a result cannot be written.
    """
    from refsam3d_nnunet.comparison.compare import compare
    from refsam3d_nnunet.comparison.run import write_comparison
    from refsam3d_nnunet.comparison.schedule import shared_schedules
    from refsam3d_nnunet.report.run import write_report

    evaluations = {}
    for method in dict.fromkeys(fold.method for fold in folds):
        mine = [fold for fold in folds if fold.method == method]
        merged = accumulate(dataset, mine, configuration, out / "jobs", display)
        evaluation = _evaluate(out, dataset, mine, merged, display, processes)
        evaluations[method.name] = evaluation
        dice = evaluation.info["foreground_mean"]["dice"]
        undefined = dice is None or math.isnan(dice)  # a class may be in no case at all
        told = "undefined" if undefined else f"{dice:.4f}"
        display.line(f"{method.name}: Dice {told}, mean of {evaluation.info['cases']} cases")
    costs = _costs(folds, record)
    if len(evaluations) > 1:
        display.line(f"comparing with {baseline.name}")
        comparison = compare(
            evaluations,
            baseline=baseline.name,
            margin=margin,
            costs=costs,
            schedules=shared_schedules(_folders(folds)),
        )
        write_comparison(out / "comparison", comparison)
    return write_report(out, out / "report.html")


def accumulate(
    dataset: Dataset, folds: Sequence[Fold], configuration: str, logs: Path, display: Display
) -> Path:
    """Brings the validation cases of all folds of a method together, by nnU-Net's command.

    Returns:
        The folder with their predictions and nnU-Net's summary.json.

    Raises:
        ValueError: If the command fails.
    """
    method, numbers = folds[0].method, [str(fold.number) for fold in folds]
    merged = folds[0].model / f"crossval_results_folds_{'_'.join(numbers)}"
    summary = merged / "summary.json"
    if is_newer(summary, [fold.summary for fold in folds]):
        return merged
    named = ["-c", configuration, "-tr", method.trainer, "-p", method.plans]
    arguments = ["accumulate_crossval_results", dataset.name, *named, "-f", *numbers]
    display.line(f"$ nnUNetv2_{' '.join(arguments)}")
    last = [""]

    def on_line(line: str) -> None:
        last[:] = [line.strip()] if line.strip() else last

    command = [sys.executable, "-m", "refsam3d_nnunet", *arguments]
    logs.mkdir(parents=True, exist_ok=True)  # no job has made it if all folds were there
    log = logs / "accumulate.log"
    if status := run_command(command, os.environ, log, on_line):
        raise ValueError(
            f"nnUNetv2_{arguments[0]} failed with exit status {status}: {last[0]} (log: {log})"
        )
    return merged


def _evaluate(
    out: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    merged: Path,
    display: Display,
    processes: int | None,
) -> Evaluation:
    from refsam3d_nnunet.evaluation.evaluate import evaluate
    from refsam3d_nnunet.evaluation.table import read_evaluation

    folder = out / folds[0].method.name
    cases = [case for fold in folds for case in fold.cases]
    if is_newer(folder / "metrics.json", [merged / "summary.json"]):
        known = read_evaluation(folder)
        # An earlier call may have measured other folds.
        if known.info["prediction"] == str(merged.resolve()) and set(known.cases) == set(cases):
            return known
    display.line(f"evaluating {folds[0].method.name}")
    return evaluate(
        merged,
        dataset.labels([case + folds[0].ending for case in cases]),
        out=folder,
        dataset_json=folds[0].model / "dataset.json",
        splits=dataset.preprocessed / SPLITS,
        folds=[fold.number for fold in folds],
        allow_missing=True,  # other folds' cases; those of these folds have been checked
        processes=processes,
    )


def _costs(folds: Sequence[Fold], record: Record) -> dict[str, dict[str, float]]:
    from refsam3d_nnunet.crossval.costs import MEASURED, costs_of

    jobs = {fold: record.folder(fold) for fold in folds}
    costs = {
        method.name: costs_of([fold for fold in folds if fold.method == method], jobs)
        for method in dict.fromkeys(fold.method for fold in folds)
    }
    record.note(costs=costs, costs_measured=MEASURED)
    return {
        name: {key: value for key, value in known.items() if value is not None}
        for name, known in costs.items()
    }


def _folders(folds: Sequence[Fold]) -> dict[str, list[Path]]:
    folders: dict[str, list[Path]] = {}
    for fold in folds:
        folders.setdefault(fold.method.name, []).append(fold.folder)
    return folders


def is_newer(result: Path, sources: Sequence[Path]) -> bool:
    """Tells whether a result is there, and no older than any of its sources.

    Args:
        result: A file.
        sources: Files that it was made of; they are there.
    """
    if not result.is_file():
        return False
    return all(result.stat().st_mtime_ns >= source.stat().st_mtime_ns for source in sources)
