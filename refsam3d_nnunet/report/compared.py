"""Intervals and paired differences, as `refsam3d compare` defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from refsam3d_nnunet.comparison.arguments import DEFAULT_RESAMPLES, DEFAULT_SEED
from refsam3d_nnunet.comparison.paired import ALL, differences_of, means_of
from refsam3d_nnunet.report.study import Method, Study

TOLERANCE = 1e-6
NAN = float("nan")


def means(study: Study) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Mean and interval of the compared metric by method and class, and "all" for their mean.

    They are those of the comparison, and computed here for a method that was compared with none.

    Args:
        study: A cross-validation.
    """
    known = (study.comparison or {}).get("means", {})
    return {m.name: known.get(m.name) or _means(study, m) for m in study.methods}


def _means(study: Study, method: Method) -> dict[str, dict[str, Any]]:
    folds = pd.Series(method.evaluation.folds)
    how = {"resamples": DEFAULT_RESAMPLES, "seed": DEFAULT_SEED}
    return means_of(values(method, study.metric), folds, method.name, **how)


def values(method: Method, metric: str) -> pd.DataFrame:
    """Values as they are compared, cases x classes: errors of volumes without their sign.

    Args:
        method: The method.
        metric: The metric.
    """
    grid = method.evaluation.values(metric)
    return grid.abs() if metric == "volume_error" else grid


def differences(study: Study, method: Method, baseline: Method) -> pd.DataFrame:
    """Paired differences over the cases that both have, cases x classes; "all" for their mean.

    Args:
        study: A cross-validation with a comparison.
        method: The method.
        baseline: What it is compared with.
    """
    grids = {m.name: values(m, study.metric) for m in (method, baseline)}
    shared = grids[method.name].index.intersection(grids[baseline.name].index)
    names = grids[method.name].columns
    grids = {name: grid.reindex(index=shared, columns=names) for name, grid in grids.items()}
    folds = pd.Series(method.evaluation.folds)
    named = {"baseline": baseline.name, "metric": study.metric}
    table = differences_of(grids, folds, method.name, **named)
    grid = table.pivot(index="case", columns="class", values="difference")
    return grid.reindex(columns=[*names, ALL])


def check_comparison(study: Study) -> None:
    """Warns if comparison.json is not of the evaluations that lie beside it, but older.

    Args:
        study: A cross-validation; warnings are added to it.
    """
    comparison = study.comparison or {}
    baseline = next((m for m in study.methods if m.name == comparison.get("baseline")), None)
    if study.comparison and baseline is None:
        study.warnings.append("The baseline of the comparison is none of the evaluated methods.")
    for method in study.methods:
        told = {
            p["class"]: p["difference"]
            for p in comparison.get("pairs", [])
            if p["method"] == method.name and p["difference"] is not None
        }
        if baseline is None or not told:
            continue
        here = differences(study, method, baseline).mean()
        wrong = [n for n, value in told.items() if not abs(value - here.get(n, NAN)) <= TOLERANCE]
        if wrong:
            study.warnings.append(
                f"The comparison of {method.name} with {baseline.name} is not that of the cases in "
                f"this report ({', '.join(wrong)}): run `refsam3d compare` again."
            )
