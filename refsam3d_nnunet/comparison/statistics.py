"""Interval, test and verdict of paired differences."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from scipy import stats

from refsam3d_nnunet.evaluation.extra import crossval_extra

with crossval_extra():
    from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95
MIN_CASES = 5
_BATCH = 1000  # resamples at a time, so that thousands of cases fit into memory


def mean_interval(
    values: np.ndarray, strata: Sequence[str], *, resamples: int, seed: int, key: str = ""
) -> tuple[float, float]:
    """95 % interval of a mean over cases: BCa bootstrap stratified by fold, or Student's t.

    Each end is the farther one of the two. BCa leans to the side of a skewed distribution, which
    t does not, and is not reliable for 20 cases, where it has to guess the skewness (coverage in
    benchmarks/intervals.py).

    Args:
        values: One per case, finite.
        strata: Fold of each case. Where a fold has a single value, all are drawn as one stratum.
        resamples: Bootstrap samples.
        seed: Together with ``key`` it fixes the samples.
        key: Name of what is resampled; results do not depend on what else is.

    Returns:
        Low and high end; NaN for fewer than ``MIN_CASES`` values, of which no resampling can tell
        more than their range.
    """
    if len(values) < MIN_CASES:
        return np.nan, np.nan
    groups = strata_of(values, strata)
    if all(np.ptp(group) == 0 for group in groups):
        return float(values.mean()), float(values.mean())
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    ends = np.array([bca_interval(groups, resamples, rng), student_interval(groups)])
    return float(np.nanmin(ends[:, 0])), float(np.nanmax(ends[:, 1]))


def bca_interval(
    groups: Sequence[np.ndarray], resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """SciPy's BCa bootstrap of the pooled mean, each stratum resampled on its own.

    Two corrections keep it from being too narrow. Resampling m cases spreads their mean
    (m - 1) / m too little, which folds of four cases make a quarter: the deviations from a
    stratum's mean are stretched by sqrt(m / (m - 1)). And the spread itself is estimated: the
    level is raised to what Student's t would need.

    References:
        Efron 1987, J. Am. Stat. Assoc. 82: BCa.
        Davison & Hinkley 1997, Bootstrap Methods and their Application, sec. 3.2: strata, and
        the stretching.
        Hesterberg 2015, Am. Stat. 69: the level.

    Args:
        groups: Values of each stratum, two or more each.
        resamples: Bootstrap samples.
        rng: Source of randomness.

    Returns:
        Low and high end; NaN where BCa is not defined.
    """
    stretched = [
        group.mean() + (group - group.mean()) * np.sqrt(len(group) / (len(group) - 1))
        for group in groups
    ]
    interval = stats.bootstrap(
        stretched,
        _pooled_mean,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        confidence_level=1 - 2 * stats.norm.sf(_quantile_of_t(groups)),
        method="BCa",
        rng=rng,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def student_interval(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Student's t of the pooled mean, with the variance within the strata.

    Args:
        groups: Values of each stratum, two or more each.
    """
    count = sum(map(len, groups))
    mean = sum(group.sum() for group in groups) / count
    error = np.sqrt(sum(len(group) * group.var(ddof=1) for group in groups)) / count
    reach = _quantile_of_t(groups) * error
    return float(mean - reach), float(mean + reach)


def strata_of(values: np.ndarray, strata: Sequence[str]) -> list[np.ndarray]:
    """Values of each stratum, or all of them as one if a stratum has fewer than two."""
    names = np.asarray(strata)
    groups = [values[names == name] for name in dict.fromkeys(strata)]
    return groups if min(map(len, groups), default=0) > 1 else [values]


def paired_test(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test.

    Equal pairs take part in the ranking and are then left out: without them in it, a sample of
    larger differences may be the less significant one (Pratt 1959). SciPy computes the exact
    distribution for up to 50 pairs without ties and up to 13 with, and the normal approximation
    otherwise.

    Args:
        differences: One per case; infinite ones get the highest ranks.

    Returns:
        1 if all are zero; NaN if there is none.
    """
    if not len(differences):
        return np.nan
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


def signed_ranks(differences: np.ndarray) -> float:
    """Sum of Wilcoxon's signed ranks: positive where the test speaks for positive differences."""
    return float((np.sign(differences) * stats.rankdata(np.abs(differences))).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts the p of a family by Holm's method; NaN is no member and stays NaN."""
    p = np.asarray(p_values, dtype=float)
    known = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted.tolist()


def verdict(low: float, high: float, p: float, margin: float, *, agreed: bool = True) -> str:
    """What an interval says, in the terms of the CONSORT extension for non-inferiority trials.

    References:
        Piaggio et al. 2012, JAMA 308, fig. 1.

    Args:
        low: Low end of the interval of the difference, oriented so that more is better.
        high: High end.
        p: Adjusted p of the paired test.
        margin: Loss that would still be accepted, from 0 up.
        agreed: Whether the test speaks for a gain: a few large gains may outweigh, in the mean,
            small losses in nearly all cases, by which p is small.

    Returns:
        "superior" if the interval lies above 0 and p is below 0.05 for a gain; otherwise
        "non-inferior" if it lies above -margin, "inferior" if it lies below -margin, else
        "inconclusive".
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return "inconclusive"
    if low > 0 and p < 1 - CONFIDENCE and agreed:
        return "superior"
    if low > -margin:
        return "non-inferior"
    return "inferior" if high < -margin else "inconclusive"


def _quantile_of_t(groups: Sequence[np.ndarray]) -> float:
    return stats.t.isf((1 - CONFIDENCE) / 2, sum(map(len, groups)) - len(groups))


def _pooled_mean(*groups: np.ndarray, axis: int) -> np.ndarray:
    count = sum(group.shape[axis] for group in groups)
    return sum(group.sum(axis=axis) for group in groups) / count
