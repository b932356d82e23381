"""Comparisons of methods: by hand and against the rules."""

import math

import numpy as np
import pytest

from refsam3d_nnunet.comparison.cautions import about_schedules
from refsam3d_nnunet.comparison.compare import compare
from refsam3d_nnunet.comparison.schedule import Schedule
from tests.comparison.conftest import DICE, FAST

RNG = np.random.default_rng(1)


def pair_of(comparison, name="all", method=None):
    return next(
        pair
        for pair in comparison.info["pairs"]
        if pair["class"] == name and method in (None, pair["method"])
    )


@pytest.fixture
def two(evaluation):
    """A baseline and a method that is 0.02 better in the liver and 0.03 worse in the kidney."""
    noise = RNG.normal(0, 0.005, 30)
    base = {"liver": DICE, "kidney": DICE - 0.1}
    other = {"liver": DICE + 0.02 + noise, "kidney": DICE - 0.13 + noise[::-1]}
    return {"base": evaluation(base), "other": evaluation(other)}


def test_differences_are_method_minus_baseline(two):
    found = compare(two, **FAST)

    assert pair_of(found, "liver")["difference"] == pytest.approx(0.02, abs=0.003)
    assert pair_of(found, "kidney")["difference"] == pytest.approx(-0.03, abs=0.003)
    rows = found.differences
    assert np.allclose(rows["value"] - rows["baseline_value"], rows["difference"])
    assert list(rows["class"].unique()) == ["liver", "kidney", "all"]
    assert len(rows) == 90
    expected = (pair_of(found, "liver")["difference"] + pair_of(found, "kidney")["difference"]) / 2
    assert pair_of(found)["difference"] == pytest.approx(expected)


def test_verdicts_follow_intervals_and_margin(two):
    found = compare(two, **FAST)
    assert pair_of(found, "liver")["verdict"] == "superior"
    assert pair_of(found, "kidney")["verdict"] == "inferior"
    assert pair_of(found)["verdict"] == "non-inferior"
    assert pair_of(compare(two, margin=0.05, **FAST), "kidney")["verdict"] == "non-inferior"


def test_the_baseline_can_be_chosen(two):
    one, other = compare(two, **FAST), compare(two, baseline="other", **FAST)

    assert other.info["baseline"] == "other"
    assert pair_of(other, "liver")["method"] == "base"
    a, b = pair_of(one, "liver"), pair_of(other, "liver")
    assert (b["difference"], b["p"]) == pytest.approx((-a["difference"], a["p"]))
    assert (b["low"], b["high"]) == pytest.approx((-a["high"], -a["low"]), abs=1e-3)
    assert b["verdict"] == "inferior"


def test_results_do_not_depend_on_what_else_is_compared(two, evaluation):
    third = evaluation({"liver": DICE - 0.3, "kidney": DICE - 0.3})
    alone, with_third = compare(two, **FAST), compare(two | {"third": third}, **FAST)
    a, b = pair_of(alone, "liver"), pair_of(with_third, "liver", "other")

    assert [a[key] for key in ("difference", "low", "high", "p")] == [
        b[key] for key in ("difference", "low", "high", "p")
    ]
    assert a["p_holm"] < b["p_holm"]  # but the family of tests is larger
    assert with_third.info["means"]["base"] == alone.info["means"]["base"]


def test_means_are_those_of_the_values(two):
    means = compare(two, **FAST).info["means"]

    assert means["base"]["liver"]["mean"] == pytest.approx(DICE.mean())
    assert means["base"]["all"]["mean"] == pytest.approx(DICE.mean() - 0.05)
    assert means["base"]["liver"]["low"] < DICE.mean() < means["base"]["liver"]["high"]
    assert means["base"]["liver"]["n"] == 30


def test_a_method_against_itself(evaluation):
    found = compare({"a": evaluation({"liver": DICE}), "b": evaluation({"liver": DICE})}, **FAST)
    pair = pair_of(found)

    assert (pair["difference"], pair["low"], pair["high"], pair["p"]) == (0, 0, 0, 1)
    assert pair["verdict"] == "non-inferior"


@pytest.mark.parametrize("metric", ["hd95", "volume_error"])
def test_where_less_is_better_the_sign_stays_and_the_verdict_turns(evaluation, metric):
    noise = RNG.normal(0, 0.1, 30)
    worse, better = np.full(30, 3.0), np.full(30, 2.0) + noise
    if metric == "volume_error":
        better *= np.where(np.arange(30) % 2, 1, -1)  # only how far it is from 0 counts
    both = {
        "base": evaluation({"liver": worse}, metric=metric),
        "other": evaluation({"liver": better}, metric=metric),
    }
    found = compare(both, metric=metric, margin=0.1, **FAST)

    assert found.info["better"] == "lower"
    assert pair_of(found)["difference"] == pytest.approx(-1, abs=0.1)
    assert pair_of(found)["verdict"] == "superior"
    turned = compare(both, metric=metric, margin=0.1, baseline="other", **FAST)
    assert pair_of(turned)["verdict"] == "inferior"


def test_undefined_for_both_leaves_the_case_out(evaluation):
    a, b = DICE.copy(), DICE + 0.01
    a[[3, 5]] = b[[3, 5]] = math.nan
    found = compare({"a": evaluation({"liver": a}), "b": evaluation({"liver": b})}, **FAST)

    assert pair_of(found)["n"] == 28
    assert pair_of(found)["difference"] == pytest.approx(0.01)
    assert set(found.values["case"]) == {f"case_{i:02}" for i in range(30)} - {"case_03", "case_05"}
    assert "a, liver: 2 cases are undefined" in " ".join(found.info["warning"])


@pytest.mark.parametrize(("metric", "best", "wrong"), [("dice", 1, 0), ("hd95", 0, math.inf)])
def test_undefined_for_one_counts_as_right(evaluation, metric, best, wrong):
    """Nothing there and nothing predicted, while the other method invented something."""
    a, b = DICE.copy(), DICE.copy()
    a[3], b[3] = math.nan, wrong
    both = {
        "a": evaluation({"liver": a}, metric=metric),
        "b": evaluation({"liver": b}, metric=metric),
    }
    rows = compare(both, metric=metric, margin=1, **FAST).differences
    row = rows[(rows["class"] == "liver") & (rows["case"] == "case_03")].iloc[0]

    assert (row["baseline_value"], row["value"], row["difference"]) == (best, wrong, wrong - best)


def test_a_class_that_is_nowhere(evaluation):
    nowhere = np.full(30, math.nan)
    both = {n: evaluation({"liver": DICE, "gone": nowhere}) for n in "ab"}
    found = compare(both, **FAST)

    assert pair_of(found, "gone")["n"] == 0
    assert pair_of(found, "gone")["difference"] is None
    assert pair_of(found, "gone")["verdict"] == "inconclusive"
    assert pair_of(found)["n"] == 30
    assert "gone" not in set(found.values["task"])


def test_infinite_values_give_no_mean_but_a_test(evaluation):
    a, b = np.linspace(1, 2, 30), np.linspace(1, 2, 30) + 0.5
    a[:2] = b[0] = b[5] = math.inf
    both = {
        "a": evaluation({"liver": a}, metric="hd95"),
        "b": evaluation({"liver": b}, metric="hd95"),
    }
    found = compare(both, metric="hd95", margin=9, **FAST)
    pair = pair_of(found, "liver")

    assert (pair["difference"], pair["low"], pair["verdict"]) == (None, None, "inconclusive")
    assert 0 < pair["p"] < 0.01  # worse in 28 cases; both missed one, a missed another
    assert found.info["means"]["a"]["liver"]["infinite"] == 2
    assert found.info["means"]["a"]["liver"]["mean"] == pytest.approx(a[2:].mean())
    rows = found.differences.set_index(["class", "case"])["difference"]["liver"]
    assert (rows["case_00"], rows["case_01"], rows["case_05"]) == (0, -math.inf, math.inf)
    assert "infinite in 2 cases" in " ".join(found.info["warning"])


def test_holm_runs_over_classes_and_not_over_their_mean(evaluation):
    shifts = (0.004, 0.0035, 0.003)
    base = {name: DICE for name in "xyz"}
    other = {
        name: DICE + shift + RNG.normal(0, 0.01, 30)
        for name, shift in zip("xyz", shifts, strict=True)
    }
    found = compare({"a": evaluation(base), "b": evaluation(other)}, **FAST)
    ps = sorted(pair_of(found, name)["p"] for name in "xyz")
    adjusted = sorted(pair_of(found, name)["p_holm"] for name in "xyz")

    by_hand = np.minimum(np.maximum.accumulate(np.multiply(ps, (3, 2, 1))), 1)
    assert adjusted == pytest.approx(by_hand.tolist())
    assert pair_of(found)["p_holm"] == pair_of(found)["p"]


def test_folds_are_strata(evaluation):
    """The second method is 0.2 better in fold 0 and 0.2 worse in fold 1, to the same extent."""
    shift = np.where(np.arange(30) % 2, 0.2, -0.2) + RNG.normal(0, 0.01, 30)
    folds = [str(i % 2) for i in range(30)]
    width = {}
    for name, given in (("known", folds), ("unknown", [""] * 30)):
        both = {
            "a": evaluation({"liver": DICE}, folds=given),
            "b": evaluation({"liver": DICE + shift}, folds=given),
        }
        pair = pair_of(compare(both, **FAST))
        width[name] = pair["high"] - pair["low"]

    assert width["known"] < width["unknown"] / 5


@pytest.mark.parametrize(
    ("count", "folds", "text"),
    [
        (30, None, "Small sample: 30 cases"),
        (60, None, None),
        (60, [""] * 60, "The folds are unknown"),
        (60, ["0"] * 59 + ["1"], "A fold has a single case"),
    ],
)
def test_warnings_about_the_sample(evaluation, count, folds, text):
    values = {"liver": RNG.beta(8, 2, count)}
    found = compare({n: evaluation(values, folds=folds) for n in "ab"}, **FAST).info["warning"]

    assert len(found) == (text is not None)
    assert all(text in warning for warning in found)


def test_other_versions_are_told(evaluation):
    values = {"liver": RNG.beta(8, 2, 60)}
    both = {n: evaluation(values, library={"monai": n}) for n in "12"}

    assert (
        "different versions: {'monai': '1'}; {'monai'" in compare(both, **FAST).info["warning"][0]
    )


def test_costs_are_kept_for_every_method(two):
    found = compare(two, costs={"other": {"hours": 1.5, "parameters": 3}}, **FAST).info["costs"]
    nothing = {"hours": None, "memory_gb": None, "parameters": None, "checkpoint_mb": None}

    assert found == {"base": nothing, "other": nothing | {"hours": 1.5, "parameters": 3}}


def test_the_order_of_cases_and_classes_does_not_matter(evaluation):
    backwards = {"kidney": DICE[::-1] - 0.01, "liver": DICE[::-1]}
    cases = [f"case_{i:02}" for i in range(29, -1, -1)]
    folds = [str(i % 5) for i in range(29, -1, -1)]
    volumes = [1.0 + i for i in range(29, -1, -1)]
    other = evaluation(backwards, cases=cases, folds=folds, volumes=volumes)
    found = compare({"a": evaluation({"liver": DICE, "kidney": DICE}), "b": other}, **FAST)

    assert pair_of(found, "liver")["difference"] == 0
    assert pair_of(found, "kidney")["difference"] == pytest.approx(-0.01)


def test_intervals_hold_the_difference(two):
    for pair in compare(two, **FAST).info["pairs"]:
        assert pair["low"] <= pair["difference"] <= pair["high"]


def test_trainings_of_different_lengths_are_a_warning(two):
    told = {"base": Schedule(1000, 250), "other": Schedule(1, 1)}
    found = compare(two, schedules=told, **FAST).info

    assert [text for text in found["warning"] if "lengths" in text] == [
        "Trained for different lengths: base 250000 steps (1000 epochs of 250 steps), other 1 "
        "steps (1 epoch of 1 step). A difference may come from that as well as from the methods."
    ]
    assert found["schedules"]["base"] == {"epochs": 1000, "steps": 250}
    assert compare(two, **FAST).info["schedules"] == {}


@pytest.mark.parametrize(
    "told",
    [{}, {"a": Schedule(4, 5)}, {"a": Schedule(10, 25), "b": Schedule(25, 10)}],
    ids=["unknown", "one known", "as many steps"],
)
def test_lengths_that_are_no_warning(told):
    assert about_schedules(told) == []
