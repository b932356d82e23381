"""RefSAM3D beside nnU-Net: what makes the comparison fair, and what is said about it."""

import json
import math

import numpy as np
import pytest
import torch

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.plans import architecture

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CASES = [f"v{i}" for i in range(6)]
LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2}
OURS = [0.6, 0.7, 0.5, 0.7, 0.7, 0.7]
SGD = [0.2, 0.1, 0.2, 0.3, 0.1, 0.2]
ADAMW = [0.5, 0.6, 0.4, 0.5, 0.7, 0.6]


@pytest.fixture(scope="module")
def plans(load_benchmark):
    return load_benchmark("accuracy_plans")


@pytest.fixture(scope="module")
def report(load_benchmark):
    return load_benchmark("accuracy_report")


@pytest.fixture(scope="module")
def page(load_benchmark):
    return load_benchmark("accuracy_page")


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """As much of a data set as nnU-Net's planner reads."""
    name = "Dataset901_Tiny"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(tmp_path / variable))
    raw = tmp_path / "nnUNet_raw" / name
    (raw / "imagesTr").mkdir()
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 0}
    (raw / "dataset.json").write_text(json.dumps(described | {"file_ending": ".nii.gz"}))
    fingerprint = tmp_path / "nnUNet_preprocessed" / name / "dataset_fingerprint.json"
    fingerprint.write_text(json.dumps({"median_relative_size_after_cropping": 1.0}))
    return name


def _base(patch, spacing=(1.0, 1.0, 1.0)):
    """A plan of RefSAM3DPlanner, as far as it matters here."""
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 3,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "architecture": architecture(design_network(patch, spacing, "vit_t")),
    }
    return {
        "plans_name": "Base",
        "configurations": {"2d": {}, "3d_fullres": configuration},
        "refsam3d": {"format": 1, "tuning": "scratch"},
    }


@pytest.mark.parametrize(
    ("wanted", "spacing", "common", "strides"),
    [
        # nnU-Net's own plan for the hippocampus
        ((40, 56, 40), (1, 1, 1), [40, 56, 40], [[1, 1, 1], *3 * [[2, 2, 2]]]),
        # three poolings do not divide 36
        ((36, 56, 40), (1, 1, 1), [40, 56, 40], [[1, 1, 1], *3 * [[2, 2, 2]]]),
        # the first axis is pooled where its voxels are about as long as the others
        (
            (12, 64, 64),
            (4, 1, 1),
            [12, 64, 64],
            [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        ),
    ],
)
def test_all_methods_have_one_patch_and_batch(plans, dataset, wanted, spacing, common, strides):
    unet, patch = plans.unet_architecture(dataset, spacing, wanted)
    assert patch == common
    assert unet["arch_kwargs"]["strides"] == strides
    features = unet["arch_kwargs"]["features_per_stage"]
    assert features == [32, 64, 128, 256, 320][: len(strides)]
    base = _base(wanted, spacing)
    before = json.dumps(base)
    ours, theirs = plans.plans_of_both(base, unet, patch)
    assert json.dumps(base) == before
    configurations = [plan["configurations"]["3d_fullres"] for plan in (ours, theirs)]
    networks = [one.pop("architecture") for one in configurations]
    assert configurations[0] == configurations[1]
    assert configurations[0]["patch_size"] == common
    assert configurations[0]["batch_size"] == 3
    assert configurations[0]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert networks[1] == unet
    assert NetworkConfig.from_json(networks[0]["arch_kwargs"]).patch_size == tuple(common)
    assert "refsam3d" in ours
    assert "refsam3d" not in theirs
    json.dumps(theirs)


def test_the_unet_takes_the_common_patch(plans, dataset):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    unet, patch = plans.unet_architecture(dataset, (1, 1, 1), (12, 16, 10))
    names = [unet[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")]
    network = get_network_from_plans(*names, 1, 3, deep_supervision=False)
    assert network(torch.zeros(1, 1, *patch)).shape == (1, 3, *patch)


def test_budgets(plans):
    speeds = {"refsam3d": 2.0, "nnunet": 3.0}
    equal, timed = plans.parse_budget("steps:400"), plans.parse_budget("seconds:1801")
    assert (equal.name, timed.text) == ("steps400", "seconds:1801")
    assert equal.steps(speeds) == {"refsam3d": 400, "nnunet": 400}
    assert timed.steps(speeds) == {"refsam3d": 900, "nnunet": 600}
    with pytest.raises(ValueError, match="seconds:2 is shorter than one step of nnunet"):
        plans.parse_budget("seconds:2").steps(speeds)


@pytest.mark.parametrize("text", ["steps", "steps:0", "minutes:3", "steps:1.5", "seconds:-4"])
def test_a_budget_that_is_none(plans, text):
    with pytest.raises(ValueError, match="neither steps:NUMBER nor seconds:NUMBER"):
        plans.parse_budget(text)


def test_schedules_take_up_nearly_all_steps(plans):
    assert plans.schedule_of(400) == (20, 20)
    assert plans.schedule_of(264) == (22, 12)
    assert plans.schedule_of(1) == (1, 1)
    assert plans.schedule_of(17) == (17, 1)
    for steps in range(1, 2000):
        epochs, iterations = plans.schedule_of(steps)
        assert 0.94 * steps <= epochs * iterations <= steps or steps < 100
        assert min(16, steps) <= epochs <= 24


def test_speeds_are_medians(report):
    methods = {"refsam3d": [1.0, 9.0, 2.0], "nnunet_adamw": [4.0, 6.0]}
    told = {
        name: {"seconds": seconds, "processor_seconds": [s / 2 for s in seconds]}
        for name, seconds in methods.items()
    }
    found = report.speeds({"methods": told}, "wall")
    assert found == {"refsam3d": 2.0, "nnunet_adamw": 5.0, "nnunet_adamw_sides": 5.0}
    assert report.speeds({"methods": told}, "process")["nnunet_adamw"] == 2.5


def test_a_baseline_that_would_repeat_another_is_left_out(plans):
    methods = list(plans.TRAINERS)
    assert plans.methods_for(methods, {"labels": LABELS}) == methods
    plain = {"labels": {"background": 0, "liver": 1}}
    assert plans.methods_for(methods, plain) == methods[:3]
    assert plans.methods_for([plans.SIDES], plain) == [plans.SIDES]


def test_the_first_seed_of_everything_comes_first(load_benchmark, plans):
    accuracy = load_benchmark("accuracy")
    budgets = [plans.parse_budget(text) for text in ("steps:4", "seconds:9")]
    runs = list(accuracy.in_order({"A": ["x", "y"], "B": ["x"]}, budgets, 2, 2))
    assert [run.seed for run in runs] == 2 * [*6 * [0], *6 * [1]]
    assert [run.fold for run in runs] == [*12 * [0], *12 * [1]]
    assert [run.dataset + run.method for run in runs[:3]] == ["Ax", "Ay", "Bx"]
    assert len({(run.dataset, run.method, run.plans, run.fold) for run in runs}) == len(runs)
    assert len({run.title for run in runs}) == len(runs)
    assert accuracy.plans_name("nnunet", "p") == accuracy.plans_name("nnunet_adamw", "p")
    assert accuracy.plans_name("refsam3d", "p") != accuracy.plans_name("nnunet", "p")


def _run(method, dice, seed=0, budget="steps4", *, fold=0, **more):
    cases = [f"{name}{'of fold 1' * fold}" for name in CASES]
    by_case = {name: {"liver": d, "spleen": d - 0.1} for name, d in zip(cases, dice, strict=True)}
    told = {"set": "abdomen", "method": method, "budget": budget, "seed": seed, "fold": fold}
    told |= {"dice": by_case}
    told |= {"steps": 4, "seconds": 120.0, "processor_seconds": 60.0, "patch": [8, 8, 8]}
    told |= {"batch": 2, "parameters": 3_000_000, "parameters_tuned": 2_000_000}
    curve = {"steps": [2, 4], "seconds": [60.0, 120.0], "dice": [None, dice[0]]}
    curve["processor_seconds"] = [30.0, 60.0]
    return told | {"curve": curve} | more


def _result(runs):
    return {
        "command": "python benchmarks/accuracy.py --data abdomen",
        "machine": {"device": "cpu", "torch": "2"},
        "settings": {"clock": "process"},
        "methods": ["refsam3d", "nnunet", "nnunet_adamw"],
        "budgets": {"steps4": "steps:4", "seconds9": "seconds:9"},
        "sets": {
            "abdomen": {
                "spacing": [5.0, 5.0, 5.0],
                "patch": [8, 8, 8],
                "batch": 2,
                "token": [8, 8, 8],
                "preset": "vit_t",
                "folds": {0: {"train": 24, "val": 6}},
                "probe": {"refsam3d": 1.25, "nnunet": 3.0, "nnunet_adamw": 3.1},
            }
        },
        "runs": runs,
    }


THREE = [("refsam3d", OURS), ("nnunet", SGD), ("nnunet_adamw", ADAMW)]


def test_the_better_baseline_counts(report):
    result = report.summarise(_result([_run(*one) for one in THREE]))
    overall = {pair["baseline"]: pair for pair in result["pairs"] if pair["class"] == "all"}
    assert {name: pair["better"] for name, pair in overall.items()} == {
        "nnunet": False,
        "nnunet_adamw": True,
    }
    assert overall["nnunet_adamw"]["difference"] == pytest.approx(0.1)
    assert overall["nnunet_adamw"]["by_case"]["v3"] == pytest.approx(0.2)
    assert overall["nnunet"]["difference"] == pytest.approx(np.mean(OURS) - np.mean(SGD))
    turned = [("refsam3d", OURS), ("nnunet", ADAMW), ("nnunet_adamw", SGD)]
    result = report.summarise(_result([_run(*one) for one in turned]))
    assert {pair["baseline"] for pair in result["pairs"] if pair["better"]} == {"nnunet"}


def test_differences_are_over_the_seeds_that_both_have(report):
    more = [_run("refsam3d", [d + 0.1 for d in OURS], seed=1), _run("nnunet", ADAMW, seed=1)]
    runs = [_run(*one) for one in THREE] + more
    pairs = report.summarise(_result(runs))["pairs"]
    of = {pair["baseline"]: pair for pair in pairs if pair["class"] == "all"}
    assert {name: pair["trainings"] for name, pair in of.items()} == {
        "nnunet": [[0, 0], [0, 1]],
        "nnunet_adamw": [[0, 0]],
    }
    assert of["nnunet"]["difference"] == pytest.approx(
        np.mean([np.mean(OURS) - np.mean(SGD), np.mean(OURS) + 0.1 - np.mean(ADAMW)])
    )
    # With it, the mean over seeds comes first: still one value for each case.
    pairs = report.summarise(_result([*runs, _run("nnunet_adamw", ADAMW, seed=1)]))["pairs"]
    pair = next(p for p in pairs if p["class"] == "all" and p["better"])
    assert (pair["trainings"], pair["n"]) == ([[0, 0], [0, 1]], len(CASES))
    assert pair["difference"] == pytest.approx(0.15)


def test_a_second_fold_has_cases_of_its_own(report):
    runs = [_run(*one) for one in THREE]
    runs += [_run("refsam3d", OURS, seed=1), _run("nnunet_adamw", ADAMW, seed=1)]
    runs += [_run("refsam3d", ADAMW, fold=1), _run("nnunet_adamw", SGD, fold=1)]
    result = report.summarise(_result(runs))
    pair = next(p for p in result["pairs"] if p["class"] == "all" and p["better"])
    assert pair["trainings"] == [[0, 0], [0, 1], [1, 0]]
    assert pair["n"] == 2 * len(CASES)
    # Cases count alike, though those of fold 0 are means over two trainings.
    expected = np.mean([np.mean(OURS) - np.mean(ADAMW), np.mean(ADAMW) - np.mean(SGD)])
    assert pair["difference"] == pytest.approx(expected)
    # Nothing of fold 1 goes into a difference from what was not trained there.
    other = next(p for p in result["pairs"] if p["class"] == "all" and not p["better"])
    assert (other["trainings"], other["n"]) == ([[0, 0]], len(CASES))


def test_budgets_are_apart_and_one_method_alone_has_no_differences(report):
    runs = [_run("refsam3d", OURS), _run("nnunet", SGD, budget="seconds9")]
    result = report.summarise(_result(runs))
    assert [(row["budget"], row["method"]) for row in result["means"]] == [
        ("steps4", "refsam3d"),
        ("seconds9", "nnunet"),
    ]
    assert result["pairs"] == []


def test_runs_of_different_batches_are_not_compared(report):
    runs = [_run("refsam3d", OURS), _run("nnunet", SGD, batch=3)]
    with pytest.raises(ValueError, match="abdomen differ in patch or batch"):
        report.summarise(_result(runs))


def test_the_page_and_its_figure(report, page, tmp_path):
    runs = [_run(*one) for one in THREE]
    runs[1]["dice"]["v0"]["liver"] = math.nan
    result = json.loads(json.dumps(report.summarise(_result(runs)), allow_nan=False))
    path = tmp_path / "accuracy.md"
    page.write_markdown(result, path)
    text = path.read_text()
    assert "1 seed, the same for all methods." in text
    assert "24 training cases and 6 validation cases. A step" in text
    assert "Budgets of a training: steps:4, seconds:9; 1 seed," in text
    assert "A step of the probe: refsam3d 1.25 s, nnunet 3.00 s, nnunet_adamw 3.10 s." in text
    row = "| steps:4 | refsam3d | **0.600** | 0.650 | 0.550 | 4 | 2.0 | 1.0 | 2.0 M |"
    assert row in text
    assert "| refsam3d - nnunet_adamw \\* | **+0.100** |" in text
    assert "| refsam3d - nnunet | " in text
    assert "| superior |" in text or "| non-inferior |" in text
    assert "](images/accuracy-abdomen.svg)" in text
    figure = (tmp_path / "images" / "accuracy-abdomen.svg").read_text()
    assert "training steps" in figure
    assert "processor seconds of training" in figure
    assert "Seconds are the processor's" in text
    assert "nnunet_adamw" in figure
    # Drawn again from the same numbers it is the same file, and the page's rest stays.
    path.write_text(f"Before.\n{text}After.\n")
    page.write_markdown(result, path)
    assert path.read_text() == f"Before.\n{text}After.\n"
    assert (tmp_path / "images" / "accuracy-abdomen.svg").read_text() == figure
    # Another page in that folder has figures of its own.
    page.write_markdown(result, tmp_path / "larger.md")
    assert "](images/larger-abdomen.svg)" in (tmp_path / "larger.md").read_text()
    assert (tmp_path / "images" / "larger-abdomen.svg").read_text() == figure


def test_the_page_of_two_folds(report, page, tmp_path):
    runs = [_run(*one) for one in THREE] + [_run("refsam3d", ADAMW, fold=1)]
    result = _result(runs)
    result["sets"]["abdomen"]["folds"][1] = {"train": 25, "val": 1}
    result = json.loads(json.dumps(report.summarise(result), allow_nan=False))
    page.write_markdown(result, tmp_path / "accuracy.md")
    text = (tmp_path / "accuracy.md").read_text()
    assert "1 seed and 2 folds, of which some methods and sets have fewer." in text
    told = "fold 0: 24 training cases and 6 validation cases; fold 1: 25 training cases and 1 "
    assert told + "validation case. A step" in text
    assert "| refsam3d | **0.550** (0.600, 0.500) |" in text
    assert "| steps:4 | refsam3d | 1 | 0 | v0of fold 1 | 0.450 |" in text


def test_the_page_before_any_run(report, page, tmp_path):
    path = tmp_path / "accuracy.md"
    page.write_markdown(report.summarise(_result([])), path)
    assert "No run is finished." in path.read_text()
    assert not (tmp_path / "images").exists()
