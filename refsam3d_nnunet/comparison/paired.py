"""Paired differences of methods over cases, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refsam3d_nnunet.comparison.statistics import (
    holm,
    mean_interval,
    paired_test,
    signed_ranks,
    verdict,
)
from refsam3d_nnunet.evaluation.extra import crossval_extra

with crossval_extra():
    import pandas as pd

ALL = "all"
HIGHER_IS_BETTER = ("dice", "nsd")
BEST = {"dice": 1.0, "nsd": 1.0, "hd95": 0.0, "assd": 0.0, "volume_error": 0.0}
_DIGITS = 12  # differences below are rounding errors of means over classes, and count as ties


def means_of(
    grid: pd.DataFrame, folds: pd.Series, name: str, *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Mean of the finite values of each class, and of the mean over the classes.

    Args:
        grid: Values of one method, cases x classes.
        folds: Fold of each case.
        name: Of the method.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        Class -> mean, low, high, n (finite values), infinite (how many are not).
    """
    result = {}
    for column, values in _with_all(grid).items():
        finite = values[np.isfinite(values)]
        low, high = mean_interval(
            finite.to_numpy(),
            list(folds[finite.index]),
            resamples=resamples,
            seed=seed,
            key=f"{name} {column}",
        )
        result[column] = {
            "mean": float(finite.mean()) if len(finite) else math.nan,
            "low": low,
            "high": high,
            "n": len(finite),
            "infinite": int(np.isinf(values).sum()),
        }
    return result


def differences_of(
    grids: Mapping[str, pd.DataFrame], folds: pd.Series, name: str, *, baseline: str, metric: str
) -> pd.DataFrame:
    """Differences of a method from the baseline, one row per class and case that enters.

    Args:
        grids: Method -> values, cases x classes.
        folds: Fold of each case.
        name: Of the method.
        baseline: Name of the baseline.
        metric: What the values are.

    Returns:
        As `Comparison.differences`.
    """
    ours, theirs = grids[name], grids[baseline]
    enters = ours.notna() | theirs.notna()
    ours, theirs = (_with_all(grid.fillna(BEST[metric]).where(enters)) for grid in (ours, theirs))
    with np.errstate(invalid="ignore"):  # inf - inf: missed by both, which is a tie
        difference = (ours - theirs).mask((ours == theirs) & np.isinf(ours), 0).round(_DIGITS)
    parts = []
    for column in ours:
        known = ours.index[ours[column].notna()]
        parts.append(
            pd.DataFrame(
                {
                    "method": name,
                    "baseline": baseline,
                    "class": column,
                    "case": known,
                    "fold": folds[known].to_numpy(),
                    "value": ours.loc[known, column].to_numpy(),
                    "baseline_value": theirs.loc[known, column].to_numpy(),
                    "difference": difference.loc[known, column].to_numpy(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def pairs_of(
    differences: pd.DataFrame,
    names: Iterable[str],
    *,
    metric: str,
    margin: float,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean difference, interval, test and verdict of each method and class.

    Args:
        differences: Of all methods, as :func:`differences_of` gives them.
        names: Classes, with "all".
        metric: What was compared.
        margin: Of non-inferiority.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        The entries ``pairs`` of comparison.json.
    """
    pairs = []
    methods = differences[["method", "baseline"]].drop_duplicates().itertuples(index=False)
    for (method, baseline), name in ((pair, name) for pair in methods for name in names):
        where = (differences["method"] == method) & (differences["class"] == name)
        values = differences.loc[where, "difference"].to_numpy()
        mean = low = high = math.nan
        if len(values) and np.isfinite(values).all():
            mean = float(values.mean())
            strata, key = list(differences.loc[where, "fold"]), f"{method} - {baseline} {name}"
            low, high = mean_interval(values, strata, resamples=resamples, seed=seed, key=key)
        pair = {"method": method, "baseline": baseline, "class": name, "n": len(values)}
        interval = {"difference": mean, "low": low, "high": high, "p": paired_test(values)}
        pairs.append(pair | interval | {"signed_ranks": signed_ranks(values)})
    _add_verdicts(pairs, margin, higher_is_better=metric in HIGHER_IS_BETTER)
    return pairs


def _add_verdicts(pairs: list[dict[str, Any]], margin: float, *, higher_is_better: bool) -> None:
    # Two families of tests: whether a method is better at all, and for which classes it is.
    for overall in (True, False):
        family = [pair for pair in pairs if (pair["class"] == ALL) == overall]
        for pair, p in zip(family, holm([pair["p"] for pair in family]), strict=True):
            low, high = pair["low"], pair["high"]
            gain = (low, high) if higher_is_better else (-high, -low)
            agreed = (pair["signed_ranks"] > 0) == higher_is_better
            pair |= {"p_holm": p, "verdict": verdict(*gain, p, margin, agreed=agreed)}


def values_of(grids: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """Values of all methods in the form that challengeR reads.

    A value that is undefined for one method and not for all counts as the best, as in the
    differences; a case that is undefined for all methods in a class is left out.

    Args:
        grids: Method -> values, cases x classes.
        metric: What the values are.

    Returns:
        Columns algorithm, case, task (the class), value.
    """
    some = sum(grid.notna().astype(int) for grid in grids.values()) > 0
    parts = []
    for name, grid in grids.items():
        filled = grid.fillna(BEST[metric]).where(some).rename_axis(index="case", columns=None)
        part = filled.reset_index().melt(id_vars="case", var_name="task")
        parts.append(part.assign(algorithm=name))
    columns = ["algorithm", "case", "task", "value"]
    return pd.concat(parts, ignore_index=True)[columns].dropna(ignore_index=True)


def _with_all(grid: pd.DataFrame) -> pd.DataFrame:
    """Adds the mean over the classes that are defined, case by case."""
    return grid.assign(**{ALL: grid.mean(axis=1)})
