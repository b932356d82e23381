"""Folds of one method are as long as one another, or nothing is trained."""

import json
import shutil

import pytest

from refsam3d_nnunet.comparison.schedule import Schedule, read_schedule

OURS = "--trainers RefSAM3DTrainer:nnUNetPlans"


@pytest.fixture
def ours(study, monkeypatch):
    """The study with a plan that asks for 4 epochs of 250 steps, as the stand-in trains."""
    set_plan(study, {"num_epochs": 4, "iterations_per_epoch": 250})
    monkeypatch.delenv("REFSAM3D_NUM_EPOCHS", raising=False)
    monkeypatch.delenv("REFSAM3D_ITERATIONS_PER_EPOCH", raising=False)
    return study


def set_plan(study, schedule):
    path = study.preprocessed / "nnUNetPlans.json"
    plans = json.loads(path.read_text()) | {"refsam3d": {"schedule": schedule}}
    path.write_text(json.dumps(plans))


def set_epochs(folder, epochs):
    path = folder / "debug.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_epochs": str(epochs)}))


def test_a_smoke_test_is_not_mixed_with_the_real_training(ours, monkeypatch):
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "2")
    assert ours.run(f"{OURS} --folds 0") == 0
    monkeypatch.delenv("REFSAM3D_NUM_EPOCHS")
    model = ours.model("RefSAM3DTrainer")
    with pytest.raises(ValueError, match="RefSAM3DTrainer__nnUNetPlans: fold 0 was") as error:
        ours.run(f"{OURS} --folds 0-2")
    assert str(error.value).endswith(
        "fold 0 was trained for 2 epochs of 250 steps; folds 1, 2 are to be trained for 4 epochs "
        "of 250 steps. Folds that are trained for different lengths are not put together. Delete "
        f"{model / 'fold_0'} to train it again, or set REFSAM3D_NUM_EPOCHS=2 "
        "REFSAM3D_ITERATIONS_PER_EPOCH=250 to train the others as long."
    )
    assert not (model / "fold_1").exists()

    shutil.rmtree(model / "fold_0")
    assert ours.run(f"{OURS} --folds 0-2") == 0


def test_the_variables_make_them_alike(ours, monkeypatch):
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "2")
    assert ours.run(f"{OURS} --folds 0") == 0
    assert ours.run(OURS) == 0
    monkeypatch.setenv("REFSAM3D_ITERATIONS_PER_EPOCH", "9")
    with pytest.raises(ValueError, match="fold 2 is to be trained for 2 epochs of 9 steps"):
        ours.run(f"{OURS} --folds 0-2")


def test_the_default_is_that_of_the_trainer(ours):
    assert ours.run(f"{OURS} --folds 0") == 0
    set_plan(ours, {})
    with pytest.raises(ValueError, match="fold 1 is to be trained for 1000 epochs of 250 steps"):
        ours.run(OURS)


def test_what_nothing_is_trained_for_does_not_matter(ours, monkeypatch):
    assert ours.run(OURS) == 0
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "7")
    assert ours.run(OURS) == 0
    assert ours.output.count("is done already") == 2


def test_a_validation_that_is_missing_trains_nothing(ours, monkeypatch):
    assert ours.run(OURS) == 0
    (ours.model("RefSAM3DTrainer") / "fold_1" / "validation" / "summary.json").unlink()
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "7")
    assert ours.run(OURS) == 0
    assert ours.calls(1, "RefSAM3DTrainer") == ["cpu", "--val"]


def test_a_resumed_fold_keeps_its_length_unless_the_environment_asks(ours, monkeypatch):
    ours.trouble(fold_0={"at": 3, "how": "error"})
    assert ours.run(f"{OURS} --folds 0") == 1
    set_plan(ours, {"num_epochs": 9})
    with pytest.raises(
        ValueError,
        match=r"fold 0 is to go on to 4 epochs of 250 steps; fold 1 is to be trained for 9 epochs "
        r"of 250 steps\. .* Delete the folders of those .*: \S+fold_0, \S+fold_1\.",
    ):
        ours.run(OURS)
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "5")
    assert ours.run(OURS) == 0
    assert ours.calls(0, "RefSAM3DTrainer") == ["cpu", "--c"]


def test_finished_folds_of_any_trainer_are_alike(study):
    assert study.run() == 0
    set_epochs(study.model() / "fold_1", 1)
    with pytest.raises(
        ValueError,
        match="fold 0 was trained for 4 epochs of 250 steps; fold 1 was trained for 1 epoch of "
        r"250 steps\. .* Delete the folders of those .*fold_0, \S+fold_1\.",
    ):
        study.run("--folds 0-2")
    assert not (study.model() / "fold_2").exists()


def test_another_trainer_tells_by_training(study, monkeypatch):
    """Its variables are its own: that the fold is shorter shows when it is done."""
    assert study.run("--folds 0") == 0
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "3")
    with pytest.raises(ValueError, match="fold 1 was trained for 3 epochs of 250 steps"):
        study.run()
    assert study.record(1)["state"] == "done"


def test_methods_may_differ(study):
    assert study.run("--trainers nnUNetTrainer Other") == 0
    for fold in (0, 1):
        set_epochs(study.model("Other") / f"fold_{fold}", 2)
    assert study.run("--trainers nnUNetTrainer Other") == 0


def test_what_nobody_knows_is_said_once(study):
    assert study.run() == 0
    assert "debug.json" not in study.output
    (study.model() / "fold_1" / "debug.json").write_text("{")
    assert study.run() == 0
    told = "for how many steps these were trained: nnUNetTrainer__nnUNetPlans fold 1\n"
    assert study.output.count(told) == 1
    assert study.output.count("debug.json") == 1


def test_our_own_record_stands_in_for_that_of_nnunet(fold):
    record = {"schedule": {"num_epochs": 20, "iterations_per_epoch": 18}}
    (fold.folder / "refsam3d_run.json").write_text(json.dumps(record))
    assert read_schedule(fold.folder) == Schedule(20, 18)
    debug = {"num_epochs": "7", "num_iterations_per_epoch": "1"}
    (fold.folder / "debug.json").write_text(json.dumps(debug))
    assert read_schedule(fold.folder) == Schedule(7, 1)


STEPS = '"num_iterations_per_epoch": "2"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"num_epochs": "4"}',
        f'{{{STEPS}, "num_epochs": "many"}}',
        f'{{{STEPS}, "num_epochs": "0"}}',
        f"{{{STEPS}}}",
    ],
)
def test_a_length_that_nobody_knows(fold, text):
    assert read_schedule(fold.folder) is None
    (fold.folder / "debug.json").write_text(text)
    (fold.folder / "refsam3d_run.json").write_text('{"schedule": 3}')
    assert read_schedule(fold.folder) is None


def test_a_wrong_variable_is_told_before_anything_is_trained(ours, monkeypatch):
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "many")
    with pytest.raises(ValueError, match="REFSAM3D_NUM_EPOCHS must be a positive whole number"):
        ours.run(OURS)
    assert not ours.model("RefSAM3DTrainer").exists()
