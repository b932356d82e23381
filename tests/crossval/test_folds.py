"""What a fold's folder says about what is left to do."""

import json
import zipfile
from dataclasses import replace

import pytest

from refsam3d_nnunet.crossval.folds import (
    Method,
    Stage,
    check_split,
    parse_folds,
    parse_method,
    set_torn_aside,
    stage_of,
)


def write_checkpoint(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights", "1" * 1000)


def write_validation(fold, cases, predictions=None):
    folder = fold.folder / "validation"
    folder.mkdir(exist_ok=True)
    rows = [{"prediction_file": f"/elsewhere/{case}.nii.gz"} for case in cases]
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": rows}))
    for case in cases if predictions is None else predictions:
        (folder / f"{case}.nii.gz").touch()


def test_nothing_there(fold):
    assert stage_of(fold) is Stage.TRAIN
    (fold.folder / "training_log_2026.txt").touch()
    assert stage_of(fold) is Stage.TRAIN


@pytest.mark.parametrize("name", ["checkpoint_latest.pth", "checkpoint_best.pth"])
def test_a_training_that_was_stopped(fold, name):
    write_checkpoint(fold.folder / name)
    assert stage_of(fold) is Stage.CONTINUE


def test_from_the_last_checkpoint_to_the_end(fold):
    write_checkpoint(fold.folder / "checkpoint_final.pth")
    assert stage_of(fold) is Stage.VALIDATE
    write_validation(fold, ["a", "b"])
    assert stage_of(fold) is Stage.DONE


def test_a_validation_without_training_counts_for_nothing(fold):
    write_validation(fold, ["a", "b"])
    assert stage_of(fold) is Stage.TRAIN


@pytest.mark.parametrize(
    ("cases", "predictions"),
    [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])],
    ids=["case not measured", "prediction missing", "empty"],
)
def test_an_incomplete_validation_is_run_again(fold, cases, predictions):
    write_checkpoint(fold.folder / "checkpoint_final.pth")
    write_validation(fold, cases, predictions)
    assert stage_of(fold) is Stage.VALIDATE


@pytest.mark.parametrize("missing", ["b.npz", "b.pkl", "torn"])
def test_probabilities_are_made_where_they_are_wanted(fold, missing):
    write_checkpoint(fold.folder / "checkpoint_final.pth")
    write_validation(fold, ["a", "b"])
    validation, wanted = fold.folder / "validation", replace(fold, npz=True)
    assert (stage_of(fold), stage_of(wanted)) == (Stage.DONE, Stage.VALIDATE)
    for case in ("a", "b"):
        write_checkpoint(validation / f"{case}.npz")
        (validation / f"{case}.pkl").touch()
    assert stage_of(wanted) is Stage.DONE
    if missing == "torn":
        (validation / "b.npz").write_bytes((validation / "b.npz").read_bytes()[:-40])
    else:
        (validation / missing).unlink()
    assert (stage_of(fold), stage_of(wanted)) == (Stage.DONE, Stage.VALIDATE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metric_per_case": [{}]}', "null"])
def test_a_damaged_summary_is_made_again(fold, text):
    write_checkpoint(fold.folder / "checkpoint_final.pth")
    write_validation(fold, ["a", "b"])
    (fold.folder / "validation" / "summary.json").write_text(text)
    assert stage_of(fold) is Stage.VALIDATE


def test_a_fold_of_another_split_is_refused(fold):
    write_validation(fold, ["a", "c"])
    check_split(fold)  # of a training that begins anew nothing is known
    write_checkpoint(fold.folder / "checkpoint_final.pth")
    with pytest.raises(ValueError, match=r"validated on c.nii.gz and 0 more .* another split"):
        check_split(fold)
    write_validation(fold, ["a"])
    check_split(fold)


def test_a_torn_checkpoint_does_not_count_and_is_set_aside(fold):
    final, latest = fold.folder / "checkpoint_final.pth", fold.folder / "checkpoint_latest.pth"
    write_checkpoint(latest)
    final.write_bytes(latest.read_bytes()[:-40])
    assert stage_of(fold) is Stage.CONTINUE
    assert [path.name for path in set_torn_aside(fold)] == ["checkpoint_final.pth.torn"]
    assert latest.is_file()
    assert not final.exists()


@pytest.mark.parametrize(
    ("texts", "folds"),
    [(["0-4"], [0, 1, 2, 3, 4]), (["2", "0"], [0, 2]), (["0,3-4", "3"], [0, 3, 4])],
)
def test_folds_are_read(texts, folds):
    assert parse_folds(texts) == folds


@pytest.mark.parametrize("text", ["x", "", "4-0", "-1", "1-", "0 1", "all", "1.5"])
def test_what_is_no_fold(text):
    with pytest.raises(ValueError, match="is no fold; give 0-4 or 0 2 3"):
        parse_folds([text])


def test_plans_follow_from_the_trainer_unless_named():
    assert parse_method("RefSAM3DTrainer") == Method("RefSAM3DTrainer", "RefSAM3DPlans")
    assert parse_method("nnUNetTrainer_5epochs").plans == "nnUNetPlans"
    assert parse_method("RefSAM3DTrainer:nnUNetPlans").name == "RefSAM3DTrainer__nnUNetPlans"


@pytest.mark.parametrize("text", ["", "a:", ":b", "a/b", "a:b:c", "a__b", "../x", "a b"])
def test_what_is_no_trainer(text):
    with pytest.raises(ValueError, match="is not TRAINER or TRAINER:PLANS"):
        parse_method(text)
