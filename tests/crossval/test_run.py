"""Folds are trained, resumed, tried again and never repeated; a stand-in trains."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from refsam3d_nnunet.crossval import conclude, run
from refsam3d_nnunet.crossval.job import TOKEN
from tests.crossval.conftest import CASES, is_alive, kill, wait_for

KILLED = {"at": 2, "how": "SIGKILL"}
FAILS = {"at": 1, "how": "error", "times": 9}
HANGS = {"at": 2, "how": "hang"}


def test_all_folds_are_done(study):
    assert study.run("--trainers nnUNetTrainer Other --folds 0 3") == 0
    content = json.loads((study.out / "crossval.json").read_text())
    assert (content["dataset"], content["folds"]) == ("Dataset902_Nothing", [0, 3])
    assert content["baseline"] == "Other__nnUNetPlans"
    assert [method["name"] for method in content["methods"]] == [
        "nnUNetTrainer__nnUNetPlans",
        "Other__nnUNetPlans",
    ]
    for method, trainer in zip(content["methods"], ("nnUNetTrainer", "Other"), strict=True):
        assert method["model_folder"] == str(study.model(trainer))
        for number, fold in method["folds"].items():
            assert (fold["state"], fold["attempts"], fold["error"]) == ("done", 1, None)
            assert "nnUNetv2_train Dataset902_Nothing" in Path(fold["log"]).read_text()
            assert study.calls(int(number), trainer) == ["cpu"]
    assert "Other__nnUNetPlans fold 3: done, Dice 0.750" in study.output
    assert study.output.rstrip().endswith("report.html")


def test_terminating_it_is_special_only_while_jobs_run(study, monkeypatch):
    """nnU-Net ends pools of forked workers by SIGTERM: they must not inherit what we do then."""
    handlers = [signal.getsignal(signal.SIGTERM)]
    for module, name in ((run, "prepare"), (conclude, "conclude")):
        seen = lambda *_, **__: handlers.append(signal.getsignal(signal.SIGTERM))  # noqa: E731
        monkeypatch.setattr(module, name, seen)
    assert study.run("--folds 0") == 0
    assert len(handlers) == 3
    assert len(set(handlers)) == 1


def test_what_is_done_is_not_repeated(study):
    assert study.run() == 0
    before = {path: path.stat().st_mtime_ns for path in study.model().rglob("*")}
    assert study.run() == 0
    assert {path: path.stat().st_mtime_ns for path in study.model().rglob("*")} == before
    assert study.output.count("is done already") == 2
    assert study.record(0)["attempts"] == 1


def test_a_killed_training_goes_on_where_it_was(study):
    study.trouble(fold_1=KILLED)
    assert study.run() == 0
    assert study.calls(1) == ["cpu", "--c"]
    assert study.epochs(1) == [0, 1, 2, 2, 3]  # the third was under way
    assert study.calls(0) == ["cpu"]
    assert "fold 1: was killed (SIGKILL); it is started again (1 of 2)" in study.output
    assert study.record(1)["attempts"] == 2
    assert [a["exit_status"] for a in study.attempts(1)] == [-signal.SIGKILL, 0]
    assert [a["stage"] for a in study.attempts(1)] == ["train", "continue"]


def test_only_the_validation_is_run_where_only_it_is_missing(study):
    assert study.run() == 0
    (study.model() / "fold_1" / "validation" / f"{CASES[2]}.nii.gz").unlink()
    assert study.run() == 0
    assert (study.calls(0), study.calls(1)) == (["cpu"], ["cpu", "--val"])


def test_a_validation_of_an_earlier_model_does_not_count(study):
    assert study.run() == 0
    folder = study.model() / "fold_1"
    for checkpoint in folder.glob("checkpoint_*.pth"):
        checkpoint.unlink()
    study.trouble(fold_1=KILLED)
    assert study.run("--retries 0") == 1
    assert not (folder / "validation" / "summary.json").exists()
    assert (folder / "validation" / "summary.json.earlier").is_file()


@pytest.mark.parametrize("margin", ["-5", "nan", "inf"])
def test_a_margin_that_is_none_is_told_before_anything_is_trained(study, margin):
    with pytest.raises(ValueError, match="--margin must be a loss from 0 up"):
        study.run(f"--margin={margin}")


def test_a_class_with_the_name_of_the_mean_is_told_before_anything_is_trained(study):
    from refsam3d_nnunet.comparison.paired import ALL

    path = study.preprocessed / "dataset.json"
    described = json.loads(path.read_text())
    described["labels"][ALL] = len(described["labels"])
    path.write_text(json.dumps(described))
    with pytest.raises(ValueError, match="A label is called 'all'"):
        study.run("--trainers nnUNetTrainer RefSAM3DTrainer")
    assert not study.out.exists()


def test_retries_are_bounded_and_the_others_go_on(study):
    study.trouble(fold_0={**KILLED, "times": 9})
    assert study.run("--retries 1") == 1
    assert study.calls(0) == ["cpu", "--c"]
    assert study.record(0)["state"] == "failed"
    assert study.record(0)["error"] == "was killed (SIGKILL)"
    assert study.record(1)["state"] == "done"
    assert "1 of 2 folds failed:" in study.output
    assert f"fold 0: {study.record(0)['log']}" in study.output


def test_an_error_is_told_and_not_tried_again(study, monkeypatch):
    def never(*_, **__):
        raise AssertionError("nothing to conclude")

    monkeypatch.setattr(conclude, "conclude", never)
    study.trouble(fold_0=FAILS)
    assert study.run() == 1
    assert study.calls(0) == ["cpu"]
    assert (
        "fold 0: FAILED: ended with exit status 1 (RuntimeError: the loss is made of cheese)"
        in (study.output)
    )
    assert "cheese" in Path(study.record(0)["log"]).read_text()
    assert study.record(1)["state"] == "done"
    study.trouble()
    monkeypatch.setattr(conclude, "conclude", lambda out, *_, **__: out)
    assert study.run() == 0
    assert study.calls(0) == ["cpu", "--c"]


def test_at_most_so_many_jobs_at_a_time(study):
    assert study.run("--folds 0-4 --parallel 2") == 0
    spans = [a for n in range(5) for a in study.attempts(n)]
    for one in spans:
        meanwhile = [
            b for b in spans if b["started"] <= one["started"] < b["started"] + b["seconds"]
        ]
        assert len(meanwhile) <= 2


@pytest.mark.parametrize("who", ["job", "controller"])
def test_a_killed_job(study, who):
    """SIGKILL of what submitit runs; killing its controller harms nothing."""
    study.trouble(fold_0=HANGS)
    caller = study.start("--folds 0")
    study.wait_until_it_hangs(0)
    training = _processes_of(study.model() / "fold_0")
    job = study.attempts(0)[-1]["pid"]
    kill(job if who == "job" else int(study.record(0)["job"]["id"]))
    if who == "controller":
        assert is_alive(training[0])
        kill(training[0])
    output, _ = caller.communicate(timeout=60)
    assert caller.returncode == 0, output
    assert not any(is_alive(pid) for pid in training)
    assert "was killed" in output
    assert study.epochs(0) == [0, 1, 2, 2, 3]


def test_an_interrupt_ends_the_jobs_and_the_next_call_goes_on(study):
    study.trouble(fold_0=HANGS)
    caller = study.start()
    study.wait_until_it_hangs(0)
    training = _processes_of(study.model() / "fold_0")
    caller.send_signal(signal.SIGTERM)
    output, _ = caller.communicate(timeout=60)
    assert caller.returncode == 130
    assert "The same command resumes" in output
    wait_for(lambda: not any(is_alive(pid) for pid in training), 10)
    assert study.run() == 0
    assert study.calls(0) == ["cpu", "--c"]


def test_a_job_that_outlives_a_killed_caller_is_taken_up(study):
    study.trouble(fold_0=HANGS)
    caller = study.start("--folds 0")
    study.wait_until_it_hangs(0)
    caller.kill()
    caller.wait()
    caller.stdout.close()  # the job has inherited the other end
    (training,) = _processes_of(study.model() / "fold_0")
    again = study.start("--folds 0")
    assert "still runs" in again.stdout.readline()
    kill(training)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert study.calls(0) == ["cpu", "--c"]


def test_two_calls_on_one_folder(study):
    study.trouble(fold_0=HANGS)
    caller = study.start("--folds 0")
    study.wait_until_it_hangs(0)
    try:
        with pytest.raises(BlockingIOError, match=rf"in use by process {caller.pid} on"):
            study.run()
    finally:
        caller.terminate()
        caller.communicate(timeout=60)


def test_one_fold_is_never_trained_twice_at_once(study):
    """Two cross-validations in two folders may share a model."""
    study.trouble(fold_0=HANGS)
    caller = study.start("--folds 0")
    study.wait_until_it_hangs(0)
    other = study.start(f"--folds 0 -o {study.root / 'other'}")
    job = study.root / "other" / "jobs" / "nnUNetTrainer__nnUNetPlans" / "fold_0"
    wait_for(lambda: any("in use by" in path.read_text() for path in job.glob("*.out")))
    (training,) = _processes_of(study.model() / "fold_0")
    kill(training)
    assert caller.wait(60) == other.wait(60) == 0
    caller.communicate(), other.communicate()
    assert study.epochs(0) == [0, 1, 2, 2, 3]


def test_what_a_killed_training_left_running_is_ended(study):
    folder = study.model() / "fold_0"
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, TOKEN: str(folder)})
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, TOKEN: f"{folder}1"})
    try:
        assert study.run("--folds 0") == 0
        assert orphan.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def _processes_of(folder):
    """Processes that train a fold, by their environment."""
    wanted = f"{TOKEN}={folder}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
