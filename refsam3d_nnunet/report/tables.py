"""The tables of the report: text to read and, behind it, numbers to sort by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refsam3d_nnunet.report.agreement import ALL, TOLERANCE, Agreement
from refsam3d_nnunet.report.compared import differences, means
from refsam3d_nnunet.report.study import Study

NAMES = {
    "dice": "Dice",
    "nsd": "NSD",
    "hd95": "HD95",
    "assd": "ASSD",
    "volume_error": "Volume error",
    "volume_prediction": "Volume, predicted",
    "volume_reference": "Volume, true",
}
COSTS = {
    "hours": ("Hours of training, all folds", ".3g"),
    "memory_gb": ("Memory, GB", ".3g"),
    "parameters": ("Parameters", ",.0f"),
    "checkpoint_mb": ("Checkpoint, MB", ".1f"),
}
BY_CASE = f"{ALL}, case by case"
# With more columns a table of all cases shows means only: metrics.csv has the rest.
MAX_COLUMNS = 24


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What is read.
        key: What it is sorted by; None for text.
        alarm: Whether it must not be overlooked.
    """

    text: str
    key: float | None = None
    alarm: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
        caption: What it shows.
        head: Names of the columns.
        rows: Cells; the first of a row names it.
    """

    caption: str
    head: list[str]
    rows: list[list[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds numbers."""
        return [any(row[i].key is not None for row in self.rows) for i in range(len(self.head))]


def number(value: float | None, form: str = ".3f") -> Cell:
    """A cell with a number; one that is undefined is a dash, and sorts last.

    Args:
        value: The number.
        form: How to write it.
    """
    if value is None or math.isnan(value):
        return Cell("–", math.nan)
    return Cell("∞" if math.isinf(value) else f"{value:{form}}".replace("-", "−"), float(value))


def interval(entry: Mapping[str, Any], middle: str, form: str = ".3f") -> Cell:
    """A cell with a mean and its interval, sorted by the mean.

    Args:
        entry: Mapping with ``middle``, ``low`` and ``high``.
        middle: Name of the mean.
        form: How to write the three.
    """
    mean, low, high = (number(entry.get(key), form) for key in (middle, "low", "high"))
    # A narrow screen breaks it before the bracket.
    return Cell(f"{mean.text} [{low.text},\N{NO-BREAK SPACE}{high.text}]", mean.key)


def metric_name(study: Study, metric: str) -> str:
    """Name of a metric with its unit.

    Args:
        study: A cross-validation.
        metric: As in metrics.csv.
    """
    described = study.methods[0].evaluation.info.get("metrics", {}).get(metric, {})
    unit = described.get("unit") or ""
    name = NAMES.get(metric, metric)
    return f"{name}, {unit}" if unit and unit not in ("1", "none") else name


def metrics_of(study: Study) -> list[str]:
    """Metrics that all methods have, without the plain volumes.

    Args:
        study: A cross-validation.
    """
    shared = [set(m.evaluation.table["metric"]) for m in study.methods]
    return [
        name
        for name in NAMES
        if "volume_" not in name or name == "volume_error"
        if all(name in metrics for metrics in shared)
    ]


def scores(study: Study) -> Table:
    """Means of all metrics by class and method, and the interval of the compared one.

    Args:
        study: A cross-validation.
    """
    metrics = metrics_of(study)
    head = ["Class", "Method", *(metric_name(study, metric) for metric in metrics), "Cases"]
    intervals = means(study)
    grids = {m.name: {k: m.evaluation.values(k) for k in metrics} for m in study.methods}
    names = dict.fromkeys(name for m in study.methods for name in m.evaluation.classes)
    rows = []
    for name in [*names, ALL]:
        found = [
            _scores(grids[m.name], name, entry, study.metric, label=m.label)
            for m in study.methods
            if name == ALL or name in m.evaluation.classes
            for entry in [intervals[m.name].get("all" if name == ALL else name)]
        ]
        rows += [first for first, *_ in found] + [row for _, *others in found for row in others]
    caption = (
        "Means over the cases in which a metric is defined and finite, with 95% bootstrap "
        f"intervals for {NAMES.get(study.metric, study.metric)}."
    )
    return Table(caption, head, rows)


def _scores(
    grids: Mapping[str, pd.DataFrame],
    name: str,
    entry: Mapping[str, Any] | None,
    compared: str,
    *,
    label: str,
) -> list[list[Cell]]:
    """The row of a class and method, and one of its own for an interval of another mean."""
    cells = {metric: _mean(grid, name, metric) for metric, grid in grids.items()}
    grid = next(iter(grids.values()))
    # For all classes: cases in which any of them is defined.
    count = number((grid.mean(axis=1) if name == ALL else grid[name]).notna().sum(), ".0f")
    if not entry or compared not in cells:
        return [[Cell(name), Cell(label), *cells.values(), count]]
    known = {compared: interval(entry, "mean")}
    if _same(entry["mean"], cells[compared].key):
        return [[Cell(name), Cell(label), *(cells | known).values(), count]]
    own = Cell(BY_CASE if name == ALL else f"{name}, as compared")
    others = dict.fromkeys(cells, number(None)) | known
    return [
        [Cell(name), Cell(label), *cells.values(), count],
        [own, Cell(label), *others.values(), count],
    ]


def _mean(grid: pd.DataFrame, name: str, metric: str) -> Cell:
    """Mean of a class, or of the classes' means; it says how many infinite values it leaves out."""
    infinite = int(np.isinf(grid.to_numpy() if name == ALL else grid[name].to_numpy()).sum())
    finite = grid.where(np.isfinite(grid))
    mean = finite.mean().mean(skipna=False) if name == ALL else finite[name].mean()
    cell = number(mean, ".2f" if metric in ("hd95", "assd") else ".3f")
    return Cell(f"{cell.text} ({infinite} ∞)", cell.key) if infinite else cell


def _same(mean: float | None, shown: float | None) -> bool:
    """Whether an interval is of the mean beside it.

    The comparison takes the mean of the classes case by case, nnU-Net class by class: where a
    class is missing in some cases these are two numbers, and the interval is of the first.
    """
    return mean is not None and shown is not None and abs(mean - shown) <= TOLERANCE


def pairs(study: Study, entries: Sequence[Mapping[str, Any]]) -> Table:
    """Paired differences of a method and the baseline.

    Args:
        study: A cross-validation.
        entries: Their entries in comparison.json.
    """
    name = NAMES.get(study.metric, study.metric)
    head = ["Class", "Cases", f"Difference in {name} [95% interval]", "p", "p, Holm", "Verdict"]
    rows = [
        [
            Cell(entry["class"]),
            number(entry["n"], ".0f"),
            interval(entry, "difference", "+.4f"),
            number(entry.get("p"), ".2g"),
            number(entry.get("p_holm"), ".2g"),
            Cell(entry["verdict"]),
        ]
        for entry in entries
    ]
    caption = "Method minus baseline over cases. Wilcoxon's signed-rank test, adjusted by Holm."
    return Table(caption, head, rows)


def costs(study: Study) -> Table | None:
    """What the methods cost; None, noted in the study, if no one has counted.

    Args:
        study: A cross-validation.
    """
    counted = (study.comparison or {}).get("costs") or study.record.get("costs") or {}
    shown = {m.label: counted[m.name] for m in study.methods if counted.get(m.name)}
    known = {
        k: how for k, how in COSTS.items() if any(c.get(k) is not None for c in shown.values())
    }
    if not known:
        study.missing.append(
            "Costs are left out: neither crossval.json nor the comparison has any."
        )
        return None
    rows = [
        [Cell(label), *(number(cost.get(key), form) for key, (_, form) in known.items())]
        for label, cost in shown.items()
    ]
    measured = study.record.get("costs_measured") or {}
    notes = [f"{COSTS[key][0]}: {measured[key]}." for key in known if key in measured]
    head = ["Method", *(name for name, _ in known.values())]
    return Table(" ".join(["Cost of each method.", *notes]), head, rows)


def cases(study: Study) -> Table:
    """The compared metric of every case: mean over the classes, and each class if there is room.

    Args:
        study: A cross-validation.
    """
    grids = {m.label: m.evaluation.values(study.metric) for m in study.methods}
    columns = {label: grid.mean(axis=1) for label, grid in grids.items()}
    if len(study.methods) == 2 and study.comparison:
        columns["Difference"] = differences(study, *study.methods)["all"]
    names = list(dict.fromkeys(name for grid in grids.values() for name in grid.columns))
    detailed = len(names) > 1 and len(names) * len(grids) <= MAX_COLUMNS
    for name in names if detailed else []:
        columns |= {f"{name}: {label}": grid[name] for label, grid in grids.items() if name in grid}
    folds = {case: fold for m in study.methods for case, fold in m.evaluation.folds.items()}
    rows = [
        [Cell(case), _fold(fold), *(number(column.get(case)) for column in columns.values())]
        for case, fold in sorted(folds.items())
    ]
    caption = f"{NAMES.get(study.metric, study.metric)} of every case: {ALL}"
    caption += ", then each class." if detailed else "; metrics.csv has each class."
    return Table(caption, ["Case", "Fold", *columns], rows)


def _fold(fold: str) -> Cell:
    return Cell(fold or "–", float(fold) if fold.isdigit() else None)


def agreement(found: Iterable[Agreement]) -> Table:
    """Dice of the report beside nnU-Net's.

    Args:
        found: Results of the check.
    """
    rows = [
        [
            Cell(name),
            Cell(one.method.label),
            *(number(value, ".8f") for value in (ours, theirs)),
            _apart(abs(ours - theirs)),
        ]
        for one in found
        for name, ours, theirs in one.rows
    ]
    head = ["Class", "Method", "Dice, this report", "Dice, nnU-Net", "Difference"]
    return Table("Mean Dice; a difference above 0.000001 is marked.", head, rows)


def _apart(difference: float) -> Cell:
    cell = number(difference, ".1e" if difference else ".0f")
    alarm = not difference <= TOLERANCE
    return Cell(f"{cell.text} differs" if alarm else cell.text, cell.key, alarm)
