"""What a job runs, and what it asks of the machine."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from refsam3d_nnunet.crossval import executors
from refsam3d_nnunet.crossval.executors import LocalExecutor, Resources, SlurmExecutor, gpu_sets
from refsam3d_nnunet.crossval.folds import Stage
from refsam3d_nnunet.crossval.job import FoldJob, describe_status, read_attempts


@pytest.mark.parametrize(
    ("stage", "last"), [(Stage.TRAIN, "cpu"), (Stage.CONTINUE, "--c"), (Stage.VALIDATE, "--val")]
)
def test_arguments_of_nnunet(fold, stage, last):
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", Path("jobs"), device="cpu")
    expected = "Dataset004_Hippocampus 2d 1 -tr nnUNetTrainer -p nnUNetPlans -device cpu"
    assert job.arguments(stage)[:9] == expected.split()
    assert job.arguments(stage)[-1] == last


@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.CONTINUE, Stage.VALIDATE])
def test_probabilities_are_asked_for(fold, stage):
    job = FoldJob(replace(fold, npz=True), "Dataset004_Hippocampus", "2d", Path("jobs"))
    assert "--npz" in job.arguments(stage)
    assert "--npz" not in replace(job, fold=fold).arguments(stage)


def test_several_gpus_are_for_one_training(fold):
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", Path("jobs"), num_gpus=2)
    assert " ".join(job.arguments(Stage.TRAIN)).endswith("-device cuda -num_gpus 2")


def test_a_job_goes_on_with_itself_after_a_time_limit(fold):
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", Path("jobs"), environment={"A": "1"})
    assert job.checkpoint().function == job
    assert pickle.loads(pickle.dumps(job)) == job


def test_how_an_ending_is_worded():
    assert describe_status(-9) == "was killed (SIGKILL)"
    assert describe_status(1) == "ended with exit status 1"
    assert describe_status(None) == "was killed with its job"


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_attempts_that_nobody_noted(tmp_path, text):
    if text is not None:
        (tmp_path / "progress.json").write_text(text)
    assert read_attempts(tmp_path) == []


@pytest.mark.parametrize(
    ("visible", "count", "wanted", "sets"),
    [
        (None, 4, 1, ["0", "1", "2", "3"]),
        (None, 5, 2, ["0,1", "2,3"]),
        ("3,5", 2, 1, ["3", "5"]),
        ("GPU-a,GPU-b", 2, 2, ["GPU-a,GPU-b"]),
    ],
)
def test_gpus_are_divided(monkeypatch, visible, count, wanted, sets):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_sets(wanted) == sets


class Submitted:
    """What submitit would return."""

    def __init__(self, job_id):
        self.job_id = job_id
        self.over = False

    def done(self):
        return self.over


def test_each_local_job_has_gpus_of_its_own(fold, monkeypatch):
    jobs = []

    def submit(job, _cluster, **_):
        jobs.append((job, Submitted(str(len(jobs)))))
        return jobs[-1][1]

    monkeypatch.setattr(executors, "_submit", submit)
    executor = LocalExecutor(["0", "1"])
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", Path("jobs"))
    first, _ = executor.submit(job), executor.submit(job)
    jobs[0][1].over = True
    assert not executor.alive(first, job)
    executor.submit(job)
    assert [j.environment["CUDA_VISIBLE_DEVICES"] for j, _ in jobs] == ["0", "1", "0"]


def test_a_job_of_an_earlier_call_keeps_its_gpus(fold, monkeypatch):
    monkeypatch.setattr(executors, "_submit", lambda *_, **__: Submitted("7"))
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", Path("jobs"))
    before = LocalExecutor(["0", "1"])
    known = {"id": before.submit(job), "executor": "local"} | before.noted("7")
    asked = []
    monkeypatch.setattr(
        executors, "_submit", lambda job, *_, **__: asked.append(job) or Submitted("8")
    )
    after = LocalExecutor(["0", "1"])
    after.adopt(known)
    after.submit(job)
    assert asked[0].environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert not after.alive("7", job)  # it has ended: its GPU is free again
    after.submit(job)
    assert asked[1].environment["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """SLURM's commands, which say what the test wants and keep what they are given."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    write("srun", "exit 0")
    write("squeue", "exit 0")
    write("sbatch", f'cat "$1" > {tmp_path}/script; echo Submitted batch job 17')
    return write


def test_what_slurm_is_asked_for(slurm, fold, tmp_path):
    resources = Resources(minutes=90, memory_gb=12, partition="short", cpus=3, gpus=2)
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", tmp_path / "jobs")
    assert SlurmExecutor(resources).submit(job) == "17"
    script = (tmp_path / "script").read_text()
    for line in (
        "--time=90",
        "--mem=12GB",
        "--partition=short",
        "--cpus-per-task=3",
        "--gpus-per-node=2",
        "--signal=USR2@90",
        "--job-name=nnUNetTrainer_1",
    ):
        assert f"#SBATCH {line}\n" in script


def test_what_slurm_is_not_asked_for(slurm, fold, tmp_path):
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", tmp_path / "jobs")
    SlurmExecutor(Resources(4, gpus=0)).submit(job)
    script = (tmp_path / "script").read_text()
    for name in ("mem", "partition", "cpus-per-task", "gpus-per-node"):
        assert f"#SBATCH --{name}" not in script
    assert "--signal=USR2@60" in script  # a quarter of four minutes


def test_a_job_is_alive_while_the_queue_has_it(slurm, fold, tmp_path):
    executor = SlurmExecutor(Resources(60))
    job = FoldJob(fold, "Dataset004_Hippocampus", "2d", tmp_path)
    slurm("squeue", "echo 16; echo 17")
    assert executor.alive("17", job)
    slurm("squeue", "echo no controller >&2; exit 1")
    assert all(executor.alive("17", job) for _ in range(3))
    slurm("squeue", "echo 16")
    assert [executor.alive("17", job) for _ in range(3)] == [True, False, False]
