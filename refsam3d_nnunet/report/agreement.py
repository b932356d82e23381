"""Checks the Dice of the report against that of nnU-Net's own evaluation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from refsam3d_nnunet.report.study import Method, Study

TOLERANCE = 1e-6
ALL = "mean of the classes"


class Agreement(NamedTuple):
    """Dice of one method, by this package and by ``nnUNetv2_accumulate_crossval_results``.

    Attributes:
        method: The method.
        source: nnU-Net's summary.json.
        rows: For each class, and last for their mean: name, our mean, nnU-Net's.
        worst_case: Largest difference of a single case and class.
        problem: What differs; empty if nothing does.
    """

    method: Method
    source: Path
    rows: list[tuple[str, float, float]]
    worst_case: float
    problem: str


class _Summary(NamedTuple):
    """Dice of a summary.json: cases x labels, of each label, of all; labels as in metrics.csv."""

    source: Path
    cases: pd.DataFrame
    means: dict[str, float]
    foreground: float


def check(study: Study) -> list[Agreement]:
    """Compares every method with nnU-Net's summary of its folds.

    What cannot be compared is added to what the study misses, and what differs by more than
    ``TOLERANCE`` to its warnings.

    Args:
        study: A cross-validation.
    """
    found = []
    for method in study.methods:
        agreement = _check_method(method)
        if agreement is None:
            study.missing.append(
                f"{method.name}: Dice is not checked against nnU-Net's, whose summary.json of the "
                f"folds is missing; nnUNetv2_accumulate_crossval_results writes it."
            )
            continue
        found.append(agreement)
        if agreement.problem:
            study.warnings.append(f"{method.name} {agreement.problem} ({agreement.source}).")
    return found


def _check_method(method: Method) -> Agreement | None:
    ours = method.evaluation.values("dice")
    summaries = [s for path in _summaries(method) if (s := _read_summary(path, method.file_ending))]
    if not summaries:
        return None
    # Other folds leave other folders: the one with these cases counts, or the nearest to it.
    wanted = set(ours.index)
    theirs = min(summaries, key=lambda summary: len(set(summary.cases.index) ^ wanted))
    labels = method.evaluation.table.drop_duplicates("name").set_index("name")["label"]
    columns = [_key(label) for label in labels.loc[ours.columns]]
    if set(theirs.cases.index) != set(ours.index) or not set(columns) <= set(theirs.cases.columns):
        problem = "has other cases or classes than nnU-Net's summary"
        return Agreement(method, theirs.source, [], math.nan, problem)
    cases = theirs.cases.loc[ours.index, columns].set_axis(ours.columns, axis=1)
    rows = [
        (name, ours[name].mean(), theirs.means[key])
        for name, key in zip(ours.columns, columns, strict=True)
    ]
    rows.append((ALL, ours.mean().mean(skipna=False), theirs.foreground))
    worst = float((ours - cases).abs().max().max())
    return Agreement(method, theirs.source, rows, worst, _problem(ours, cases, rows))


def _problem(
    ours: pd.DataFrame, theirs: pd.DataFrame, means: list[tuple[str, float, float]]
) -> str:
    if (ours.isna() != theirs.isna()).to_numpy().any():
        return "has cases whose Dice is defined here and not in nnU-Net's summary, or the reverse"
    apart = [*(ours - theirs).abs().to_numpy().ravel(), *(abs(a - b) for _, a, b in means)]
    largest = max((value for value in apart if not math.isnan(value)), default=0.0)
    return f"differs from nnU-Net's Dice by up to {largest:.2g}" if largest > TOLERANCE else ""


def _summaries(method: Method) -> list[Path]:
    folder = method.model_folder
    return sorted(folder.glob("crossval_results_folds_*/summary.json")) if folder else []


def _read_summary(path: Path, ending: str) -> _Summary | None:
    """Reads a summary.json; None if it is damaged, or of another program."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = {_case(e, ending): _dice(e["metrics"]) for e in content["metric_per_case"]}
        foreground = float(content["foreground_mean"]["Dice"])
        cases = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
        return _Summary(path, cases, _dice(content["mean"]), foreground)
    except (ValueError, KeyError, TypeError):
        return None


def _case(entry: Mapping[str, Any], ending: str) -> str:
    return Path(entry["prediction_file"]).name.removesuffix(ending)


def _dice(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {_key(label): scores["Dice"] for label, scores in metrics.items()}


def _key(label: str) -> str:
    """One spelling of a label: nnU-Net writes the region of 1 and 2 as "(1, 2)", we as "1+2"."""
    return "+".join(re.findall(r"\d+", label))
