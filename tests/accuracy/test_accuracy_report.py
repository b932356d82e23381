"""RefSAM3D beside nnU-Net: means, differences and what may be compared."""

import numpy as np
import pytest

from tests.accuracy.study import ADAMW, CASES, OURS, SGD, THREE, result_of, run_of

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def report(load_benchmark):
    return load_benchmark("accuracy_report")


def test_speeds_are_medians(report):
    methods = {"refsam3d": [1.0, 9.0, 2.0], "nnunet_adamw": [4.0, 6.0]}
    told = {
        name: {"seconds": seconds, "processor_seconds": [s / 2 for s in seconds]}
        for name, seconds in methods.items()
    }
    found = report.speeds({"methods": told}, "wall")
    assert found == {"refsam3d": 2.0, "nnunet_adamw": 5.0, "nnunet_adamw_sides": 5.0}
    assert report.speeds({"methods": told}, "process")["nnunet_adamw"] == 2.5


def test_the_better_baseline_counts(report):
    result = report.summarise(result_of([run_of(*one) for one in THREE]))
    overall = {pair["baseline"]: pair for pair in result["pairs"] if pair["class"] == "all"}
    assert {name: pair["better"] for name, pair in overall.items()} == {
        "nnunet": False,
        "nnunet_adamw": True,
    }
    assert overall["nnunet_adamw"]["difference"] == pytest.approx(0.1)
    assert overall["nnunet_adamw"]["by_case"]["v3"] == pytest.approx(0.2)
    assert overall["nnunet"]["difference"] == pytest.approx(np.mean(OURS) - np.mean(SGD))
    turned = [("refsam3d", OURS), ("nnunet", ADAMW), ("nnunet_adamw", SGD)]
    result = report.summarise(result_of([run_of(*one) for one in turned]))
    assert {pair["baseline"] for pair in result["pairs"] if pair["better"]} == {"nnunet"}


def test_differences_are_over_the_seeds_that_both_have(report):
    more = [run_of("refsam3d", [d + 0.1 for d in OURS], seed=1), run_of("nnunet", ADAMW, seed=1)]
    runs = [run_of(*one) for one in THREE] + more
    pairs = report.summarise(result_of(runs))["pairs"]
    of = {pair["baseline"]: pair for pair in pairs if pair["class"] == "all"}
    assert {name: pair["trainings"] for name, pair in of.items()} == {
        "nnunet": [[0, 0], [0, 1]],
        "nnunet_adamw": [[0, 0]],
    }
    assert of["nnunet"]["difference"] == pytest.approx(
        np.mean([np.mean(OURS) - np.mean(SGD), np.mean(OURS) + 0.1 - np.mean(ADAMW)])
    )
    # With it, the mean over seeds comes first: still one value for each case.
    pairs = report.summarise(result_of([*runs, run_of("nnunet_adamw", ADAMW, seed=1)]))["pairs"]
    pair = next(p for p in pairs if p["class"] == "all" and p["better"])
    assert (pair["trainings"], pair["n"]) == ([[0, 0], [0, 1]], len(CASES))
    assert pair["difference"] == pytest.approx(0.15)


def test_a_second_fold_has_cases_of_its_own(report):
    runs = [run_of(*one) for one in THREE]
    runs += [run_of("refsam3d", OURS, seed=1), run_of("nnunet_adamw", ADAMW, seed=1)]
    runs += [run_of("refsam3d", ADAMW, fold=1), run_of("nnunet_adamw", SGD, fold=1)]
    result = report.summarise(result_of(runs))
    pair = next(p for p in result["pairs"] if p["class"] == "all" and p["better"])
    assert pair["trainings"] == [[0, 0], [0, 1], [1, 0]]
    assert pair["n"] == 2 * len(CASES)
    # Cases count alike, though those of fold 0 are means over two trainings.
    expected = np.mean([np.mean(OURS) - np.mean(ADAMW), np.mean(ADAMW) - np.mean(SGD)])
    assert pair["difference"] == pytest.approx(expected)
    # Nothing of fold 1 goes into a difference from what was not trained there.
    other = next(p for p in result["pairs"] if p["class"] == "all" and not p["better"])
    assert (other["trainings"], other["n"]) == ([[0, 0]], len(CASES))


def test_an_undefined_value_of_one_seed_counts_as_in_the_difference_of_that_seed(report):
    """A class that is not there, and that one training invents, is 0 against 1 for that seed."""
    runs = [_undefined("refsam3d", 0, None), _undefined("refsam3d", 1, 0.0)]
    runs += [_undefined("nnunet", seed, None) for seed in (0, 1)]
    pairs = report.summarise(result_of(runs))["pairs"]
    (spleen,) = (pair for pair in pairs if pair["class"] == "spleen")
    assert spleen["difference"] == pytest.approx(-0.5)


def _undefined(method: str, seed: int, spleen: float | None) -> dict:
    run = run_of(method, OURS, seed=seed)
    for classes in run["dice"].values():
        classes["spleen"] = spleen
    return run


def test_budgets_are_apart_and_one_method_alone_has_no_differences(report):
    runs = [run_of("refsam3d", OURS), run_of("nnunet", SGD, budget="seconds9")]
    result = report.summarise(result_of(runs))
    assert [(row["budget"], row["method"]) for row in result["means"]] == [
        ("steps4", "refsam3d"),
        ("seconds9", "nnunet"),
    ]
    assert result["pairs"] == []


def test_runs_of_different_batches_are_not_compared(report):
    runs = [run_of("refsam3d", OURS), run_of("nnunet", SGD, batch=3)]
    with pytest.raises(ValueError, match="abdomen differ in patch or batch"):
        report.summarise(result_of(runs))
