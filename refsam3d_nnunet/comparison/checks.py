"""Refuses to compare what is not comparable, and says what differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from refsam3d_nnunet.evaluation.table import Evaluation

COMPARABLE = ("dice", "nsd", "hd95", "assd", "volume_error")


def check_comparable(evaluations: Mapping[str, Evaluation], baseline: str, metric: str) -> None:
    """Whether methods were measured on the same cases, folds, classes and ground truth.

    Args:
        evaluations: Method -> what was measured.
        baseline: Name of one of them.
        metric: Metric to compare.

    Raises:
        ValueError: If there are fewer than two methods, baseline or metric is unknown, or a
            method differs from the baseline.
    """
    if len(evaluations) < 2:
        raise ValueError(f"Give two methods or more, got {', '.join(evaluations) or 'none'}.")
    if baseline not in evaluations:
        raise ValueError(
            f"The baseline {baseline!r} is none of the methods {', '.join(map(repr, evaluations))}."
        )
    if metric not in COMPARABLE:
        raise ValueError(f"Cannot compare by {metric!r}; want one of {', '.join(COMPARABLE)}.")
    for name in evaluations:
        if name != baseline:
            _check_pair(evaluations, name, baseline)
            if metric == "nsd":
                _check_tolerances(evaluations, name, baseline)


def _check_pair(evaluations: Mapping[str, Evaluation], name: str, baseline: str) -> None:
    a, b = evaluations[name], evaluations[baseline]
    for what, found, wanted in (
        ("cases", a.cases, b.cases),
        ("classes", a.classes, b.classes),
        ("folds", set(a.folds.values()), set(b.folds.values())),
    ):
        only = [(name, set(found) - set(wanted)), (baseline, set(wanted) - set(found))]
        if any(extra for _, extra in only):
            listed = "; ".join(f"only {who} has {_some(extra)}" for who, extra in only if extra)
            raise ValueError(f"{name} and {baseline} have different {what}: {listed}.")
    moved = [case for case in a.cases if a.folds[case] != b.folds[case]]
    if moved:
        raise ValueError(
            f"{name} and {baseline} have different folds: {_some(moved)}; {moved[0]} is held out "
            f"in fold {a.folds[moved[0]]} of {name} and in fold {b.folds[moved[0]]} of {baseline}. "
            f"Train both with the same splits_final.json."
        )
    truth, other = a.values("volume_reference"), b.values("volume_reference")[a.classes]
    same = np.isclose(truth, other.loc[truth.index], rtol=1e-6, atol=0)
    if not same.all():
        row, column = np.argwhere(~same)[0]
        raise ValueError(
            f"{name} and {baseline} were measured against different ground truth: "
            f"{truth.columns[column]} of {truth.index[row]} has {truth.iloc[row, column]:g} ml "
            f"and {other.loc[truth.index].iloc[row, column]:g} ml."
        )


def _check_tolerances(evaluations: Mapping[str, Evaluation], name: str, baseline: str) -> None:
    a, b = (evaluations[key].info.get("tolerance_mm", {}) for key in (name, baseline))
    if a != b:
        raise ValueError(
            f"{name} and {baseline} have NSD at different tolerances, in mm: {a} and {b}. Run "
            f"`refsam3d evaluate` with the same ones."
        )


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    shown = ", ".join(repr(name) if name else "no fold" for name in listed[:5])
    return f"{shown}{f' and {len(listed) - 5} more' * (len(listed) > 5)}"
