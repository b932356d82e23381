"""The study of pretraining: what it trains on, in which plans, and what it says about it."""

import json
import math
import os

import pytest

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SPLITS = [{"train": [f"case_{i:02d}" for i in range(2, 14)], "val": ["case_00", "case_01"]}]
CASES = [f"v{i}" for i in range(6)]


@pytest.fixture(scope="module")
def sets(load_benchmark):
    return load_benchmark("pretraining_sets")


@pytest.fixture(scope="module")
def studies(load_benchmark):
    return load_benchmark("studies")


@pytest.fixture(scope="module")
def report(load_benchmark):
    return load_benchmark("pretraining_report")


@pytest.fixture(scope="module")
def page(load_benchmark):
    return load_benchmark("pretraining_page")


def _run(mode, dice, cases="5", seed=0, **more):
    """A run of one class whose value is given for each case, and another class 0.1 below."""
    by_case = {name: {"liver": d, "spleen": d - 0.1} for name, d in zip(CASES, dice, strict=True)}
    told = {"set": "abdomen", "cases": cases, "mode": mode, "seed": seed, "dice": by_case}
    told |= {"steps": 10, "seconds": 25.0, "parameters_tuned": 2_000_000}
    return told | {"patch": [8, 8, 8], "batch": 2} | more


def _result(runs):
    return {
        "command": "python benchmarks/pretraining.py --data abdomen",
        "machine": {"device": "cpu", "torch": "2"},
        "checkpoint": "weights.pth",
        "settings": {"epochs": 2, "iterations": 5, "checkpoint_sha256": "abc"},
        "sets": {
            "abdomen": {
                "spacing": [5.0, 5.0, 5.0],
                "patch": [8, 8, 8],
                "batch": 2,
                "token": [8, 8, 8],
                "preset": "vit_s",
                "validation": CASES,
                "train": {"all": list("abcdefghi"), "5": list("abcde")},
            }
        },
        "runs": runs,
    }


SCRATCH = [0.5, 0.6, 0.4, 0.5, 0.7, 0.6]
FULL = [0.6, 0.7, 0.5, 0.7, 0.7, 0.7]


def test_subsets_are_nested_share_the_validation_cases_and_keep_their_fold(sets):
    three, number = sets.with_subset(SPLITS, "3")
    assert number == 1
    more, other = sets.with_subset(three, "7")
    assert other == 2
    assert len(more[1]["train"]) == 3
    assert len(more[2]["train"]) == 7
    assert set(more[1]["train"]) < set(more[2]["train"]) < set(SPLITS[0]["train"])
    assert all(split["val"] == SPLITS[0]["val"] for split in more)
    assert sets.with_subset(more, "3") == (more, 1)
    assert sets.with_subset(more, "all") == (more, 0)
    # Whatever came first, the same cases are chosen; another seed chooses others.
    assert sets.with_subset(SPLITS, "7")[0][1] == more[2]
    assert sets.with_subset(SPLITS, "7", seed=1)[0][1] != more[2]


@pytest.mark.parametrize("count", ["0", "12", "13"])
def test_a_subset_must_be_smaller_than_all(sets, count):
    with pytest.raises(ValueError, match="want 1 to 11 of 12, or all"):
        sets.with_subset(SPLITS, count)


def test_plans_of_all_modes_differ_in_name_mode_and_weights_only(sets):
    configuration = {"patch_size": [8, 8, 8], "batch_size": 2, "data_identifier": "Base_3d"}
    block = {"format": 1, "tuning": "full", "checkpoint": "/weights.pth", "schedule": {"lr": 1}}
    block |= {"family": "vit", "decoder_checkpoint": "/decoder.pth"}
    base = {
        "plans_name": "Base",
        "configurations": {"3d_fullres": configuration},
        "refsam3d": block,
    }
    before = json.dumps(base)
    plans = {mode: sets.derived_plans(base, f"P_{mode}", mode) for mode in ("scratch", "adapter")}
    assert json.dumps(base) == before
    for mode, plan in plans.items():
        assert plan["configurations"] == base["configurations"]
        assert plan["plans_name"] == f"P_{mode}"
        assert plan["refsam3d"]["schedule"] == block["schedule"]
        assert plan["refsam3d"]["tuning"] == mode
    for key in ("checkpoint", "family", "decoder_checkpoint"):
        assert plans["scratch"]["refsam3d"][key] is None
    assert plans["adapter"]["refsam3d"]["family"] == "vit"
    assert plans["adapter"]["refsam3d"]["checkpoint"] == "/weights.pth"


def test_few_cases_first_and_all_modes_of_all_sets_before_a_repetition(load_benchmark):
    runs = list(
        load_benchmark("pretraining").in_order(["A", "B"], ["all", "10", "5"], ["x", "y"], 2)
    )
    assert [run.cases for run in runs] == [*8 * ["5"], *8 * ["10"], *8 * ["all"]]
    assert [run[0] + run.mode + str(run.seed) for run in runs[:5]] == [
        "Ax0",
        "Ay0",
        "Bx0",
        "By0",
        "Ax1",
    ]
    assert len({(run.dataset, run.cases, run.plans) for run in runs}) == len(runs)


def test_sets_are_linked_once_under_one_number(studies, tmp_path):
    for name in ("first", "second", "elsewhere/first"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset.json").write_text("{}")
    raw = tmp_path / "raw"
    assert studies.linked(tmp_path / "first", raw) == "Dataset501_first"
    assert studies.linked(tmp_path / "second", raw) == "Dataset502_second"
    assert studies.linked(tmp_path / "first", raw) == "Dataset501_first"
    with pytest.raises(ValueError, match="links to another data set"):
        studies.linked(tmp_path / "elsewhere" / "first", raw)
    with pytest.raises(FileNotFoundError, match=r"has no dataset\.json"):
        studies.linked(tmp_path / "raw", raw)


def test_other_settings_need_another_folder(studies, tmp_path):
    path = tmp_path / "settings.json"
    studies.check_settings(path, {"epochs": 2, "spacing A": None})
    studies.check_settings(path, {"epochs": 2, "spacing B": [4.0, 4.0, 4.0]})
    with pytest.raises(ValueError, match="epochs: 2 there, 3 here"):
        studies.check_settings(path, {"epochs": 3})
    with pytest.raises(ValueError, match="spacing B"):
        studies.check_settings(path, {"spacing B": [5.0, 5.0, 5.0]})


def test_folds_are_nnunets_and_those_of_before_stay(studies, tmp_path):
    plan = {"configurations": {studies.CONFIGURATION: {"data_identifier": "data"}}}
    (tmp_path / "data").mkdir()
    for number in range(11):
        (tmp_path / "data" / f"case_{number}.pkl").touch()
    folds = studies.first_folds(tmp_path, plan, 5)
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(
        path.stem for path in (tmp_path / "data").iterdir()
    )
    assert all(len(fold["train"]) + len(fold["val"]) == 11 for fold in folds)
    assert studies.first_folds(tmp_path, plan) == folds[:1]

    mine = {"train": ["case_1"], "val": ["case_2"]}
    (tmp_path / "splits_final.json").write_text(json.dumps([mine]))
    assert studies.first_folds(tmp_path, plan) == [mine]
    assert studies.first_folds(tmp_path, plan, 3) == [mine, *folds[1:3]]


def test_the_process_gets_its_environment_back(studies, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "before")
    monkeypatch.delenv("nnUNet_results", raising=False)
    with studies.as_environment(tmp_path):
        assert os.environ["nnUNet_raw"] == str(tmp_path / "nnUNet_raw")
    assert os.environ["nnUNet_raw"] == "before"
    assert "nnUNet_results" not in os.environ


def test_means_are_over_classes_then_cases_and_differences_are_paired(report):
    result = report.summarise(_result([_run("scratch", SCRATCH), _run("full", FULL)]))
    means = {row["mode"]: row for row in result["means"]}
    assert means["scratch"]["dice"] == pytest.approx({"all": 0.5, "liver": 0.55, "spleen": 0.45})
    assert means["full"]["dice"]["all"] == pytest.approx(0.6)
    assert means["full"]["seconds_per_step"] == pytest.approx(2.5)
    pair = next(pair for pair in result["pairs"] if pair["class"] == "all")
    assert (pair["method"], pair["baseline"]) == ("full", "scratch")
    assert pair["difference"] == pytest.approx(0.1)
    assert pair["low"] < 0.1 < pair["high"]
    assert pair["by_case"]["v3"] == pytest.approx(0.2)


def test_three_modes_are_compared_two_by_two(report):
    third = [0.4, 0.9, 0.5, 0.5, 0.7, 0.7]
    modes = {"scratch": SCRATCH, "full": FULL, "adapter": third}
    result = report.summarise(_result([_run(mode, dice) for mode, dice in modes.items()]))
    pairs = {
        (pair["method"], pair["baseline"]): pair
        for pair in result["pairs"]
        if pair["class"] == "all"
    }
    assert list(pairs) == list(report.PAIRS)
    for (method, baseline), pair in pairs.items():
        by_case = [a - b for a, b in zip(modes[method], modes[baseline], strict=True)]
        assert pair["n"] == len(CASES)
        assert pair["difference"] == pytest.approx(sum(by_case) / len(by_case))
        assert list(pair["by_case"].values()) == pytest.approx(by_case, abs=1e-9)


def test_a_class_that_is_in_neither_mask_does_not_enter(report):
    scratch, full = _run("scratch", SCRATCH), _run("full", FULL)
    for run in (scratch, full):
        run["dice"]["v0"]["spleen"] = math.nan
    full["dice"]["v1"]["spleen"] = math.nan  # rightly empty, while the other mode found something
    result = report.summarise(_result([scratch, full]))
    spleen = next(pair for pair in result["pairs"] if pair["class"] == "spleen")
    assert spleen["n"] == 5
    assert spleen["by_case"]["v1"] == pytest.approx(1 - 0.5)


def test_seeds_are_averaged_case_by_case(report):
    second = _run("full", [d + 0.1 for d in FULL], seed=1)
    runs = [_run("scratch", SCRATCH), _run("full", FULL), second]
    result = report.summarise(_result(runs))
    full = next(row for row in result["means"] if row["mode"] == "full")
    assert full["by_run"] == pytest.approx([0.6, 0.7])
    pair = next(pair for pair in result["pairs"] if pair["class"] == "all")
    assert pair["n"] == len(CASES)
    assert pair["difference"] == pytest.approx(0.15)


def test_runs_of_different_patches_are_not_compared(report):
    runs = [_run("scratch", SCRATCH), _run("full", FULL, patch=[16, 8, 8])]
    with pytest.raises(ValueError, match="abdomen differ in patch or batch"):
        report.summarise(_result(runs))


def test_labels_are_matched_as_both_files_write_them(load_benchmark):
    numbers = load_benchmark("study_report")._numbers
    assert numbers("1") == numbers(1) == (1,)
    assert numbers("(1, 2)") == numbers([1, 2]) == (1, 2)


def test_the_page(report, page):
    runs = [_run(mode, dice) for mode, dice in (("scratch", SCRATCH), ("full", FULL))]
    adapter = _run("adapter", SCRATCH)
    adapter["dice"]["v0"]["liver"] = math.nan
    result = report.summarise(_result([*runs, adapter]))
    text = page.markdown(json.loads(json.dumps(result, allow_nan=False)))
    assert "2 epochs of 5 steps, 10 steps. 1 seed," in text
    assert "training cases: all (9), 5; 6 validation cases." in text
    assert "| 5 | full | **0.600** | 0.650 | 0.550 | 2.50 | 0.4 | 2.0 M |" in text
    assert "| 5 | full - scratch | **+0.100** |" in text
    assert "5 of 6 | +0.100 | +0.100 |" in text
    assert "adapter - full" in text
    assert "| 5 | adapter | 0 | v0 | 0.400 | - | 0.400 |" in text
    assert "Training cases of 5: a, b, c, d, e." in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_too_few_cases_get_their_range_instead_of_an_interval(report, page):
    runs = [_run("scratch", SCRATCH), _run("full", FULL)]
    for run in runs:
        run["dice"] = {case: run["dice"][case] for case in CASES[:4]}
    text = page.markdown(report.summarise(_result(runs)))
    assert "cases +0.100 to +0.200" in text
    assert "With fewer than 5 cases" in text


def test_the_page_before_any_run(report, page):
    assert "No run is finished." in page.markdown(report.summarise(_result([])))


def test_a_page_keeps_what_is_around_the_markers(report, page, tmp_path):
    path = tmp_path / "pretraining.md"
    result = report.summarise(_result([]))
    page.write_markdown(result, path)
    first = path.read_text()
    path.write_text(f"Before.\n{first}After.\n")
    result = report.summarise(_result([_run("full", FULL)]))
    page.write_markdown(result, path)
    text = path.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "No run is finished." not in text
    assert "**0.600**" in text
    path.write_text("A page of another kind.\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        page.write_markdown(result, path)
