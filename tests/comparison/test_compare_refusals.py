"""What cannot be compared is refused, and the message names it."""

import math

import pytest

from refsam3d_nnunet.comparison.compare import compare
from tests.comparison.conftest import DICE, FAST

VALUES = {"liver": DICE, "kidney": DICE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cases": [f"case_{i:02}" for i in range(1, 31)]},
            "b and a have different cases: only b has 'case_30'; only a has 'case_00'",
        ),
        (
            {"folds": [str(i % 6) for i in range(30)]},
            "b and a have different folds: only b has '5'",
        ),
        ({"folds": [""] * 30}, "different folds: only b has no fold; only a has '0', '1', '2'"),
        (
            {"folds": [str((i + (i > 28)) % 5) for i in range(30)]},
            "different folds: 'case_29'; case_29 is held out in fold 0 of b and in fold 4 of a",
        ),
        (
            {"volumes": [*range(1, 30), 99]},
            "different ground truth: liver of case_29 has 99 ml and 30 ml",
        ),
    ],
)
def test_what_differs_is_refused_by_name(evaluation, change, message):
    both = {"a": evaluation(VALUES), "b": evaluation(VALUES, **change)}
    with pytest.raises(ValueError, match=message):
        compare(both, **FAST)


def test_other_classes_are_refused(evaluation):
    both = {"a": evaluation(VALUES), "b": evaluation({"liver": DICE, "spleen": DICE})}
    with pytest.raises(ValueError, match="different classes: only b has 'spleen'; only a has 'kid"):
        compare(both, **FAST)


def test_the_third_method_is_checked_too(evaluation):
    good, bad = evaluation(VALUES), evaluation({k: v[:-1] for k, v in VALUES.items()})
    with pytest.raises(ValueError, match="c and a have different cases: only a has 'case_29'"):
        compare({"a": good, "b": good, "c": bad}, **FAST)


def test_nsd_at_other_tolerances_is_refused(evaluation):
    both = {
        n: evaluation(VALUES, metric="nsd", tolerance_mm={"liver": mm})
        for n, mm in (("a", 1.0), ("b", 2.0))
    }
    with pytest.raises(ValueError, match="NSD at different tolerances, in mm: .*2.0.* and .*1.0"):
        compare(both, metric="nsd", **FAST)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"baseline": "c"}, "baseline 'c' is none of the methods 'a', 'b'"),
        ({"metric": "iou"}, "Cannot compare by 'iou'; want one of dice, nsd, hd95"),
        ({"metric": "volume_reference"}, "Cannot compare by 'volume_reference'"),
        ({"metric": "nsd"}, "no metric 'nsd'; there are dice"),
        ({"metric": "hd95"}, "hd95 is in mm: say with --margin"),
        ({"margin": -0.1}, "margin is -0.1, want a loss from 0 up"),
        ({"margin": math.nan}, "margin is nan"),
        ({"resamples": 10}, "10 resamples"),
        ({"seed": -1}, "seed is -1"),
        ({"costs": {"c": {}}}, "costs of 'c', which is none of the methods 'a', 'b'"),
        ({"costs": {"a": {"euros": 3}}}, "costs of a have 'euros'; want hours, memory_gb"),
    ],
)
def test_arguments_out_of_range(evaluation, more, message):
    with pytest.raises(ValueError, match=message):
        compare({n: evaluation(VALUES) for n in "ab"}, **FAST | more)


def test_one_method_is_no_comparison(evaluation):
    with pytest.raises(ValueError, match="Give two methods or more, got a"):
        compare({"a": evaluation(VALUES)})
    with pytest.raises(ValueError, match="got none"):
        compare({})


def test_a_class_called_all(evaluation):
    with pytest.raises(ValueError, match="class is called 'all'"):
        compare({n: evaluation({"all": DICE}) for n in "ab"}, **FAST)
