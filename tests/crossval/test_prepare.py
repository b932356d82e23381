"""Plans, preprocesses and splits what is missing, and nothing else."""

import io
import json

import pytest

from refsam3d_nnunet.crossval import prepare
from refsam3d_nnunet.crossval.dataset import find_dataset, make_folds
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.folds import Method
from tests.crossval.conftest import CASES

OURS, THEIRS = Method("RefSAM3DTrainer", "RefSAM3DPlans"), Method("nnUNetTrainer", "nnUNetPlans")


@pytest.fixture
def prepared(study, monkeypatch):
    """Function that prepares, and returns the commands that it ran."""

    def run_command(command, _env, log, on_line):
        commands.append(" ".join(command[3:]))
        on_line("the last line")
        if "plan_experiment" in command:
            text = (study.preprocessed / "nnUNetPlans.json").read_text()
            (study.preprocessed / "RefSAM3DPlans.json").write_text(text)
        return int(command[3] == study.failing)

    def run(*methods, configuration="3d_fullres", **options):
        commands.clear()
        prepare.prepare(
            find_dataset(study.preprocessed.name),
            methods,
            configuration,
            log=study.root / "log",
            display=Display(study.told),
            **options,
        )
        return commands

    commands = []
    study.failing, study.told = "", io.StringIO()
    monkeypatch.setattr(prepare, "run_command", run_command)
    return run


def test_nothing_is_repeated(prepared):
    assert prepared(THEIRS) == []
    assert prepared(THEIRS, configuration="2d") == []


def test_plans_that_are_missing_share_the_data(prepared):
    assert prepared(OURS, THEIRS) == ["plan_experiment -d 902 -pl RefSAM3DPlanner"]
    assert prepared(OURS, THEIRS) == []


@pytest.mark.parametrize("name", ["nnUNetPlans_3d_fullres", "gt_segmentations"])
def test_a_folder_that_is_missing(prepared, study, name):
    for path in (study.preprocessed / name).iterdir():
        path.unlink()
    (study.preprocessed / name).rmdir()
    (study.preprocessed / "splits_final.json").touch()
    assert prepared(THEIRS, processes=3) == [
        "preprocess -d 902 -plans_name nnUNetPlans -c 3d_fullres -np 3"
    ]


def test_a_case_that_is_missing(prepared, study):
    for name in ("imagesTr", "labelsTr"):
        (study.raw / name).mkdir(parents=True)
    for case in CASES:
        (study.raw / "imagesTr" / f"{case}_0000.nii.gz").touch()
        (study.raw / "labelsTr" / f"{case}.nii.gz").touch()
    text = (study.preprocessed / "dataset.json").read_text()
    (study.raw / "dataset.json").write_text(text)
    assert prepared(THEIRS) == []
    (study.preprocessed / "nnUNetPlans_3d_fullres" / f"{CASES[3]}.pkl").unlink()
    assert prepared(THEIRS) == ["preprocess -d 902 -plans_name nnUNetPlans -c 3d_fullres"]


def test_the_fingerprint_comes_first(prepared, study):
    (study.preprocessed / "dataset_fingerprint.json").unlink()
    assert prepared(THEIRS) == ["extract_fingerprint -d 902 --verify_dataset_integrity"]


def test_a_command_that_fails(prepared, study):
    study.failing = "plan_experiment"
    with pytest.raises(ValueError, match=r"nnUNetv2_plan_experiment failed .* 1: the last line \("):
        prepared(OURS)


def test_a_cascade_needs_its_first_stage(prepared, study):
    path = study.preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }
    path.write_text(json.dumps(plans))
    with pytest.raises(ValueError, match="refsam3d crossval Dataset902_Nothing -c 3d_lowres"):
        prepared(THEIRS, configuration="3d_cascade_fullres")
    lowres = study.results / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    predicted = lowres / "predicted_next_stage" / "3d_cascade_fullres"
    predicted.mkdir(parents=True)
    for case in CASES[1:]:
        (predicted / f"{case}.b2nd").touch()
    with pytest.raises(ValueError, match=f"1 cases have none, {CASES[0]} for one"):
        prepared(THEIRS, configuration="3d_cascade_fullres")
    (predicted / f"{CASES[0]}.npz").touch()
    assert prepared(THEIRS, configuration="3d_cascade_fullres") == []


def test_the_first_stage_of_a_cascade_needs_the_data_of_the_next(prepared, study):
    path = study.preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"] |= {
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        "3d_lowres": {"data_identifier": "nnUNetPlans_2d", "next_stage": "3d_cascade_fullres"},
    }
    path.write_text(json.dumps(plans))
    (study.preprocessed / "nnUNetPlans_2d").mkdir(exist_ok=True)
    (study.preprocessed / "nnUNetPlans_2d" / "case.pkl").touch()
    assert prepared(THEIRS, configuration="3d_lowres") == []
    for file in (study.preprocessed / "nnUNetPlans_3d_fullres").iterdir():
        file.unlink()
    assert prepared(THEIRS, configuration="3d_lowres") == [
        "preprocess -d 902 -plans_name nnUNetPlans -c 3d_fullres"
    ]


def test_cases_in_no_fold_are_told(prepared, study):
    prepared(THEIRS)
    assert "in no fold" not in study.told.getvalue()
    (study.preprocessed / "nnUNetPlans_3d_fullres" / "late.pkl").touch()
    prepared(THEIRS)
    assert "WARNING: 1 training cases are in no fold of" in study.told.getvalue()
    assert "late for one" in study.told.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_splits_are_those_that_nnunet_would_make(prepared, study):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    data, path = (
        study.preprocessed / "nnUNetPlans_3d_fullres",
        study.preprocessed / "splits_final.json",
    )
    before = path.read_text()
    prepared(THEIRS)
    assert path.read_text() == before
    path.unlink()
    for case in CASES:
        (data / f"{case}.b2nd").touch()
        (data / f"{case}_seg.b2nd").touch()
    prepared(THEIRS)
    assert json.loads(path.read_text()) == generate_crossval_split(sorted(CASES), seed=12345)
    for case in CASES[4:]:
        (data / f"{case}.b2nd").unlink()
    path.unlink()
    with pytest.raises(ValueError, match="has 4 training cases; 5 folds need as many"):
        prepared(THEIRS)


def test_a_case_is_held_out_once(study):
    splits = [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}] * 2
    (study.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    data = find_dataset(study.preprocessed.name)
    assert len(make_folds(data, [THEIRS], "3d_fullres", [2, 3])) == 2
    with pytest.raises(ValueError, match="a is held out in more than one of the folds 0, 1, 2"):
        make_folds(data, [THEIRS], "3d_fullres", [0, 1, 2])


def test_folds_come_in_the_order_of_their_numbers(study):
    data = find_dataset(study.preprocessed.name)
    folds = make_folds(data, [OURS, THEIRS], "2d", [0, 3])
    assert [(fold.number, fold.method) for fold in folds] == [
        (0, OURS),
        (0, THEIRS),
        (3, OURS),
        (3, THEIRS),
    ]
    assert folds[2].cases == ("case_6", "case_7")
    assert folds[3].folder == study.results / "nnUNetTrainer__nnUNetPlans__2d" / "fold_3"


def test_ground_truth_is_nnunets_copy_only_where_the_raw_data_lack_it(study):
    data = find_dataset(study.preprocessed.name)
    assert data.labels(["case_0.nii.gz"]) == study.preprocessed / "gt_segmentations"
    (study.raw / "labelsTr").mkdir(parents=True)
    (study.raw / "labelsTr" / "case_0.nii.gz").touch()
    assert data.labels(["case_0.nii.gz"]) == study.raw / "labelsTr"
    assert data.labels(["case_1.nii.gz"]) == study.preprocessed / "gt_segmentations"
