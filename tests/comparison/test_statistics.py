"""Interval, test, correction and verdict against SciPy, hand-made values and known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from refsam3d_nnunet.comparison.statistics import (
    MIN_CASES,
    bca_interval,
    holm,
    mean_interval,
    paired_test,
    signed_ranks,
    strata_of,
    student_interval,
    verdict,
)

MANY = {"resamples": 2000, "seed": 0}


@pytest.fixture(scope="module")
def simulation(load_benchmark):
    return load_benchmark("intervals")


@pytest.mark.parametrize("scenario", ["equal", "skewed"])
@pytest.mark.parametrize("cases", [20, 50])
def test_coverage_and_false_positives(simulation, monkeypatch, scenario, cases):
    """A small edition of benchmarks/intervals.py; the bounds are 3.5 standard errors wide."""
    monkeypatch.setattr(simulation, "_TRUTH_CASES", 400_000)
    one = simulation.SCENARIOS[scenario]
    found = simulation.measure(one, cases, repetitions=500, resamples=400, seed=1)

    assert 0.915 <= found["interval"] <= 0.985
    assert found["uncorrected"] < found["bca"] <= found["interval"]
    if scenario == "equal":
        assert 0.015 <= found["rejected"] <= 0.085


def test_the_true_difference_of_equal_methods_is_nothing(simulation):
    assert simulation.true_difference(simulation.SCENARIOS["equal"]) == pytest.approx(0, abs=2e-4)


def test_many_cases_without_folds_give_scipys_bca():
    """Both corrections vanish with the number of cases."""
    values = np.random.default_rng(0).exponential(size=3000)
    ours = mean_interval(values, [""] * 3000, **MANY)
    theirs = stats.bootstrap(
        [values], np.mean, n_resamples=2000, rng=np.random.default_rng(5)
    ).confidence_interval

    assert ours == pytest.approx(theirs, abs=0.1 * (theirs.high - theirs.low))


def test_normal_values_in_folds_give_the_interval_of_student_within_folds():
    """For normal data the right answer is known: t with n - folds degrees of freedom."""
    rng = np.random.default_rng(3)
    values, folds = rng.normal(size=40), np.arange(40) % 4
    values -= stats.skew(values) * (values**2 - 1) / 6
    shifted = values + np.array([0, 5, -5, 50])[folds]
    within = np.concatenate([values[folds == f] - values[folds == f].mean() for f in range(4)])
    error = math.sqrt((within**2).sum() / 36 / 40)
    half = stats.t.isf(0.025, 36) * error

    low, high = mean_interval(shifted, list(folds.astype(str)), resamples=20_000, seed=0)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert (low + high) / 2 == pytest.approx(shifted.mean(), abs=0.1 * half)


def test_the_mean_of_a_fold_does_not_matter():
    """Stratified: however much the folds differ, only the spread within them counts."""
    rng = np.random.default_rng(0)
    values, folds = rng.gamma(2, size=30), np.arange(30) % 5
    moved = values + np.array([0, 9, -9, 99, -99])[folds]
    one, other = (mean_interval(v, list(folds.astype(str)), **MANY) for v in (values, moved))

    assert np.diff(other) == pytest.approx(np.diff(one), rel=1e-6)
    assert np.diff(mean_interval(moved, [""] * 30, **MANY)) > 5 * np.diff(other)


def test_bca_is_lopsided_where_values_are_skewed():
    """Of exponential values the exact interval is known; percentiles would be half as lopsided."""
    values = stats.expon.ppf((np.arange(40) + 0.5) / 40)
    low, high = bca_interval([values], 20_000, np.random.default_rng(0))
    exact = 80 * values.mean() / stats.chi2.ppf([0.975, 0.025], 80)

    assert exact == pytest.approx([0.74, 1.38], abs=0.01)
    assert (low, high) == pytest.approx(exact, abs=0.03)
    assert (high - values.mean()) / (values.mean() - low) > 1.35


def test_each_end_is_the_farther_one():
    values = stats.expon.ppf((np.arange(40) + 0.5) / 40)
    bca = bca_interval([values], 2000, np.random.default_rng([0, 0]))
    student = student_interval([values])

    assert student == pytest.approx(stats.t.interval(0.95, 39, values.mean(), stats.sem(values)))
    assert student[0] < bca[0] < bca[1]
    assert student[1] < bca[1]
    assert mean_interval(values, [""] * 40, **MANY) == (student[0], bca[1])


def test_intervals_are_reproducible_and_depend_on_seed_and_key():
    values = np.random.default_rng(0).normal(size=20)
    of = lambda seed, key: mean_interval(values, [""] * 20, resamples=500, seed=seed, key=key)  # noqa: E731

    assert of(0, "a") == of(0, "a")
    assert len({of(0, "a"), of(1, "a"), of(0, "b")}) == 3


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_units_scale_and_shift(shift):
    values = np.random.default_rng(0).normal(size=20)
    low, high = mean_interval(values, [""] * 20, **MANY)

    expected = (3 * low + shift, 3 * high + shift)
    assert mean_interval(3 * values + shift, [""] * 20, **MANY) == pytest.approx(expected)


def test_values_that_say_nothing_about_their_spread():
    assert mean_interval(np.full(9, 0.25), [""] * 9, **MANY) == (0.25, 0.25)
    folds = list("0011122")
    flat = np.array([1.0, 1, 4, 4, 4, 7, 7])
    assert mean_interval(flat, folds, **MANY) == (flat.mean(), flat.mean())


@pytest.mark.parametrize("count", range(MIN_CASES))
def test_very_few_values_get_no_interval(count):
    assert np.isnan(mean_interval(np.arange(float(count)), [""] * count, **MANY)).all()


@pytest.mark.parametrize("folds", ["00000", "00111", "01234"])
def test_five_values_get_one(folds):
    values = np.array([0.1, 0.3, 0.2, 0.7, 0.4])
    low, high = mean_interval(values, list(folds), **MANY)

    assert low < values.mean() < high


def test_a_fold_of_one_case_is_no_stratum():
    values = np.arange(5.0)

    assert [len(g) for g in strata_of(values, list("00111"))] == [2, 3]
    assert [g.tolist() for g in strata_of(values, list("00112"))] == [values.tolist()]


def test_wilcoxon_by_hand():
    """Of 32 sign patterns, 1 has the negative ranks sum to 0, and 7 to 4 at most; two sides."""
    assert paired_test(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 32)
    assert paired_test(np.array([1.0, 2, 3, -4, 5])) == pytest.approx(2 * 7 / 32)


def test_wilcoxon_does_not_know_the_order_of_methods():
    values = np.random.default_rng(0).normal(0.3, 1, 30)

    assert paired_test(values) == paired_test(-values)


def test_methods_that_are_always_equal():
    assert paired_test(np.zeros(8)) == 1
    assert np.isnan(paired_test(np.array([])))


def test_equal_pairs_are_ranked_and_left_out():
    """Six zeros give the others the ranks 7 to 12: 7 of 64 patterns have 12 at most."""
    some = np.array([0.01, 0.02, 0.03, 0.04, 0.05, -0.06])

    assert paired_test(np.concatenate([np.zeros(6), some])) == pytest.approx(2 * 7 / 64)
    assert paired_test(np.concatenate([np.zeros(6), abs(some)])) == pytest.approx(2 / 64)


def test_infinite_differences_have_the_highest_ranks():
    finite = np.array([1.0, -2, 3, 4, 5, 6, 7, 100])
    infinite = np.where(finite == 100, np.inf, finite)

    assert paired_test(infinite) == paired_test(finite)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5]
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)


def test_a_few_rescued_cases_do_not_make_a_method_superior():
    """The mean is a gain, but the test is significant since nearly all cases are worse."""
    losses, gains = -np.linspace(0.003, 0.008, 90), np.linspace(0.3, 0.8, 10)
    differences = np.concatenate([losses, gains])
    low, high = mean_interval(differences, ["0"] * 100, resamples=1000, seed=0, key="")
    p = paired_test(differences)
    assert low > 0 and p < 1e-6
    assert signed_ranks(differences) < 0 < signed_ranks(-differences)
    assert verdict(low, high, p, 0.01) == "superior"
    assert verdict(low, high, p, 0.01, agreed=False) == "non-inferior"


def test_signed_ranks_by_hand():
    assert signed_ranks(np.array([0.1, -0.2, 0.3])) == 1 - 2 + 3


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.001, 0.02, 0.01, "superior"),
        (0.001, 0.02, 0.08, "non-inferior"),  # the interval alone is not enough
        (-0.009, 0.02, 0.01, "non-inferior"),
        (-0.009, -0.001, 0.01, "non-inferior"),  # worse, but by less than the margin
        (-0.02, 0.02, 0.9, "inconclusive"),
        (-0.02, -0.001, 0.01, "inconclusive"),
        (-0.01, 0.02, 0.9, "inconclusive"),  # the margin itself is too much
        (-0.03, -0.011, 0.01, "inferior"),
        (math.nan, math.nan, 0.01, "inconclusive"),
    ],
)
def test_verdicts(low, high, p, expected):
    assert verdict(low, high, p, 0.01) == expected
