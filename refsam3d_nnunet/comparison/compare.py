"""Paired comparison of methods over the same cases."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from refsam3d_nnunet.comparison.arguments import (
    DEFAULT_MARGIN,
    DEFAULT_METRIC,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
)
from refsam3d_nnunet.comparison.cautions import cautions
from refsam3d_nnunet.comparison.checks import check_comparable
from refsam3d_nnunet.comparison.paired import (
    ALL,
    HIGHER_IS_BETTER,
    differences_of,
    means_of,
    pairs_of,
    values_of,
)
from refsam3d_nnunet.comparison.schedule import Schedule
from refsam3d_nnunet.comparison.statistics import CONFIDENCE
from refsam3d_nnunet.evaluation.extra import crossval_extra
from refsam3d_nnunet.evaluation.table import Evaluation, without_nan

with crossval_extra():
    import pandas as pd

FORMAT = 1
COSTS = ("hours", "memory_gb", "parameters", "checkpoint_mb")
_IN_MM = ("hd95", "assd")
_VERSIONS = ("refsam3d_nnunet", "scipy", "statsmodels", "numpy", "pandas")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of a comparison.

    Args:
        info: Content of comparison.json.
        differences: One row per method (but the baseline), class and case that enters it, with
            the columns method, baseline, class, case, fold, value, baseline_value, difference.
            The class "all" is the mean over the classes.
        values: One row per method, class and case: what challenger.csv holds.
    """

    info: dict[str, Any]
    differences: pd.DataFrame
    values: pd.DataFrame


def compare(
    evaluations: Mapping[str, Evaluation],
    *,
    baseline: str | None = None,
    metric: str = DEFAULT_METRIC,
    margin: float | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
    costs: Mapping[str, Mapping[str, float]] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
) -> Comparison:
    """Compares each method with the baseline, case by case.

    Where both masks are empty for one method of a pair and not for the other, the
    former was exactly right: its undefined value counts as the best one. Where they are for both,
    the case does not enter.

    Args:
        evaluations: Method -> its metrics.
        baseline: Name of one of them; the first if None.
        metric: One of "dice", "nsd", "hd95", "assd", "volume_error" (by absolute value).
        margin: Of non-inferiority, in units of the metric; 0.01 if None, but for metrics in mm.
        resamples: Of the bootstrap, 100 or more.
        seed: Of the bootstrap.
        costs: Method -> hours, memory_gb, parameters, checkpoint_mb, as far as known.
        schedules: Method -> how long it was trained, where that is known.

    Raises:
        ValueError: If methods differ in cases, folds, classes or ground truth, or an argument is
            out of range; the message says which.
    """
    baseline = next(iter(evaluations), "") if baseline is None else baseline
    check_comparable(evaluations, baseline, metric)
    margin = _checked_margin(metric, margin)
    if resamples < 100 or seed < 0:
        raise ValueError(
            f"There are {resamples} resamples and the seed is {seed}; want 100 or more, and a "
            f"seed from 0 up."
        )
    costs = _checked_costs(evaluations, costs or {})
    first = evaluations[baseline]
    if ALL in first.classes:
        raise ValueError(f"A class is called {ALL!r}, the name of the mean over the classes.")
    folds = pd.Series(first.folds)
    grids = {
        name: _oriented(one.values(metric), metric).loc[first.cases, first.classes]
        for name, one in evaluations.items()
    }
    how = {"resamples": resamples, "seed": seed}
    means = {name: means_of(grid, folds, name, **how) for name, grid in grids.items()}
    differences = pd.concat(
        [
            differences_of(grids, folds, name, baseline=baseline, metric=metric)
            for name in grids
            if name != baseline
        ],
        ignore_index=True,
    )
    pairs = pairs_of(differences, [*first.classes, ALL], metric=metric, margin=margin, **how)
    info = {
        "format": FORMAT,
        "methods": list(evaluations),
        "baseline": baseline,
        "metric": metric,
        "unit": "mm" if metric in _IN_MM else "",
        "better": "higher" if metric in HIGHER_IS_BETTER else "lower",
        "margin": margin,
        "confidence": CONFIDENCE,
        "seed": seed,
        "resamples": resamples,
        "cases": len(first.cases),
        "folds": sorted(set(folds) - {""}),
        "classes": first.classes,
        "warning": cautions(evaluations, differences, grids, folds, schedules=schedules or {}),
        "means": means,
        "pairs": pairs,
        "costs": costs,
        "schedules": {name: asdict(one) for name, one in (schedules or {}).items()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _VERSIONS},
    }
    return Comparison(without_nan(info), differences, values_of(grids, metric))


def _oriented(grid: pd.DataFrame, metric: str) -> pd.DataFrame:
    return grid.abs() if metric == "volume_error" else grid


def _checked_margin(metric: str, margin: float | None) -> float:
    if margin is None and metric in _IN_MM:
        raise ValueError(f"{metric} is in mm: say with --margin how many mm would be accepted.")
    margin = DEFAULT_MARGIN if margin is None else float(margin)
    if not math.isfinite(margin) or margin < 0:
        raise ValueError(f"The margin is {margin}, want a loss from 0 up.")
    return margin


def _checked_costs(
    evaluations: Mapping[str, Evaluation], costs: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float | None]]:
    unknown = [name for name in costs if name not in evaluations]
    if unknown:
        raise ValueError(
            f"There are costs of {unknown[0]!r}, which is none of the methods "
            f"{', '.join(map(repr, evaluations))}."
        )
    for name, given in costs.items():
        wrong = [key for key in given if key not in COSTS]
        if wrong:
            raise ValueError(f"The costs of {name} have {wrong[0]!r}; want {', '.join(COSTS)}.")
    return {name: {key: costs.get(name, {}).get(key) for key in COSTS} for name in evaluations}
