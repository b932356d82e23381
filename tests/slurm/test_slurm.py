"""A cross-validation as jobs of a real SLURM, which runs on this machine's loopback interface."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from refsam3d_nnunet.crossval import conclude, run
from tests.crossval.conftest import Study

pytestmark = pytest.mark.integration
HERE = Path(__file__).parent
CANNOT = 3  # exit status of start.sh where SLURM cannot be had


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The folder of a running SLURM."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("a SLURM for tests needs Linux and root")
    if shutil.which("slurmctld") is None and os.environ.get("REFSAM3D_INSTALL_SLURM") != "1":
        pytest.skip("no SLURM here; REFSAM3D_INSTALL_SLURM=1 lets tests/slurm/start.sh install it")
    folder = tmp_path_factory.mktemp("slurm")
    ports = {"SLURMCTLD_PORT": _free_port(), "SLURMD_PORT": _free_port()}
    with (folder / "start.log").open("w") as log:  # a file: the daemons keep what they inherit
        done = subprocess.run(
            [HERE / "start.sh", folder],
            env={**os.environ, **ports},
            stdout=log,
            stderr=log,
            check=False,
        )
    try:
        if done.returncode == CANNOT:
            pytest.skip((folder / "start.log").read_text().strip())
        assert done.returncode == 0, (folder / "start.log").read_text()
        yield folder
    finally:
        subprocess.run([HERE / "stop.sh", folder], check=True)


@pytest.fixture
def study(slurm, tmp_path, monkeypatch):
    """A data set to cross-validate with a stand-in for nnU-Net's training."""
    made = Study(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", str(slurm / "slurm.conf"))
    monkeypatch.setattr(run, "check_trainers", lambda _: None)
    monkeypatch.setattr(conclude, "conclude", lambda out, *_, **__: out / "report.html")
    return made


def test_two_folds_one_cancelled_and_resumed(study):
    study.trouble(fold_1={"at": 2, "how": "hang"})
    caller = study.start("--executor slurm --time 5 --cpus 1 --memory 0.5 --partition tests")
    study.wait_until_it_hangs(1)
    subprocess.run(["scancel", study.record(1)["job"]["id"]], check=True)
    output, _ = caller.communicate(timeout=120)
    assert caller.returncode == 0, output
    assert "fold 1: was killed" in output
    assert study.calls(0) == ["cpu"]
    assert study.calls(1) == ["cpu", "--c"]
    assert study.epochs(1) == [0, 1, 2, 2, 3]
    assert study.record(1)["state"] == "done"
    jobs = [attempt["job"] for attempt in study.attempts(1)]
    assert jobs[0] != jobs[1]
    assert f"{jobs[1]}_0_log.out" in study.record(1)["log"]


def test_queued_jobs_outlive_their_caller(study):
    study.trouble(fold_0={"at": 1, "how": "hang"})
    caller = study.start("--executor slurm --time 5 --folds 0")
    study.wait_until_it_hangs(0)
    caller.terminate()
    output, _ = caller.communicate(timeout=60)
    assert caller.returncode == 130
    assert "queued jobs go on" in output
    again = study.start("--executor slurm --time 5 --folds 0")
    assert "still runs" in again.stdout.readline()
    subprocess.run(["scancel", study.record(0)["job"]["id"]], check=True)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert study.epochs(0) == [0, 1, 1, 2, 3]


def test_a_refused_job_is_told(study):
    with pytest.raises(ValueError, match="SLURM refused nnUNetTrainer.* fold 0: .*nowhere"):
        study.run("--executor slurm --time 5 --partition nowhere")


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
