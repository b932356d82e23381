"""What a reader of a comparison has to know before believing it."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from refsam3d_nnunet.comparison.schedule import Schedule
from refsam3d_nnunet.comparison.statistics import strata_of
from refsam3d_nnunet.evaluation.extra import crossval_extra
from refsam3d_nnunet.evaluation.table import Evaluation

with crossval_extra():
    import pandas as pd

SMALL_SAMPLE = 50  # below, rare failures make intervals too short: see benchmarks/intervals.py


def cautions(
    evaluations: Mapping[str, Evaluation],
    differences: pd.DataFrame,
    grids: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    *,
    schedules: Mapping[str, Schedule],
) -> list[str]:
    """Warnings, one sentence or two each.

    Args:
        evaluations: Method -> its metrics.
        differences: As `Comparison.differences`.
        grids: Method -> values of the metric, cases x classes.
        folds: Fold of each case, empty if unknown.
        schedules: Method -> how long it was trained, where that is known.
    """
    return [
        *_about_sample(folds),
        *about_schedules(schedules),
        *_about_missed(differences),
        *_about_undefined(grids),
        *_about_versions({str(one.info.get("library")) for one in evaluations.values()}),
    ]


def about_schedules(schedules: Mapping[str, Schedule]) -> list[str]:
    """Warns if methods were trained for different numbers of steps.

    Args:
        schedules: Method -> how long it was trained, where that is known.
    """
    if len({schedule.total for schedule in schedules.values()}) < 2:
        return []
    told = [f"{name} {one.total} steps ({one})" for name, one in schedules.items()]
    return [
        f"Trained for different lengths: {', '.join(told)}. A difference may come from that as "
        f"well as from the methods."
    ]


def _about_sample(folds: pd.Series) -> list[str]:
    texts = []
    if len(folds) < SMALL_SAMPLE:
        texts.append(
            f"Small sample: {len(folds)} cases. Below {SMALL_SAMPLE}, intervals are too short "
            f"where a few cases fail badly, and only large differences are found."
        )
    if (folds == "").all():
        texts.append("The folds are unknown (evaluate with --splits): not stratified by fold.")
    elif len(strata_of(np.zeros(len(folds)), list(folds))) < folds.nunique():
        texts.append("A fold has a single case: not stratified by fold.")
    return texts


def _about_missed(differences: pd.DataFrame) -> list[str]:
    missed = differences[np.isinf(differences["difference"])]
    return [
        f"{method}, {name}: the value of one of the pair is infinite in {len(rows)} cases (a class "
        f"that was missed, or is not there), so there is no mean difference. Dice and NSD count "
        f"such cases as 0."
        for (method, name), rows in missed.groupby(["method", "class"], sort=False)
    ]


def _about_undefined(grids: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        f"{name}, {column}: {int(values.isna().sum())} cases are undefined, the class being "
        f"neither in the ground truth nor predicted."
        for name, grid in grids.items()
        for column, values in grid.items()
        if values.isna().any()
    ]


def _about_versions(libraries: Set[str]) -> list[str]:
    if len(libraries) < 2:
        return []
    return [f"The metrics come from different versions: {'; '.join(sorted(libraries))}."]
