"""One job: nnU-Net's training of one fold, from where it stands to its end.

Runs where submitit starts it, on this machine or on another, with nothing but this object. What
to do is decided there and then, so that a job that SLURM starts again resumes by itself.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from refsam3d_nnunet.crossval.folds import Fold, Stage, set_torn_aside, stage_of
from refsam3d_nnunet.crossval.locks import exclusive
from refsam3d_nnunet.files import write_json

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

ATTEMPTS = "progress.json"
TOKEN = "REFSAM3D_CROSSVAL_FOLD"
TRAIN = (sys.executable, "-m", "refsam3d_nnunet", "train")
OPTIONS = {Stage.TRAIN: (), Stage.CONTINUE: ("--c",), Stage.VALIDATE: ("--val",)}
BEAT = 10.0  # seconds between notes of how long the job has run
PR_SET_PDEATHSIG = 1  # of Linux' prctl


@dataclass(frozen=True)
class FoldJob:
    """Trains and validates a fold by nnU-Net's command.

    Attributes:
        fold: Which one.
        dataset: Name of the data set.
        configuration: Name of the configuration.
        folder: Where the job's logs and notes go.
        device: cuda, cpu or mps.
        num_gpus: GPUs of the training.
        environment: Variables that the command must see wherever it runs.
        command: The command before its arguments; tests put a stand-in here.
    """

    fold: Fold
    dataset: str
    configuration: str
    folder: Path
    device: str = "cuda"
    num_gpus: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = TRAIN

    def arguments(self, stage: Stage) -> list[str]:
        """Arguments of nnUNetv2_train that do what is left."""
        method = self.fold.method
        fixed = f"-tr {method.trainer} -p {method.plans} -device {self.device}"
        gpus = ["-num_gpus", str(self.num_gpus)] if self.num_gpus > 1 else []
        number = str(self.fold.number)
        npz = ["--npz"] if self.fold.npz else []
        named = [self.dataset, self.configuration, number, *fixed.split(), *gpus, *npz]
        return [*named, *OPTIONS[stage]]

    def __call__(self) -> None:
        """Does what is left of the fold.

        Raises:
            BlockingIOError: If another process trains the fold.
            RuntimeError: If nnU-Net fails, is killed, or leaves the fold unfinished.
            SystemExit: If a job of this machine is told to end.
        """
        if os.environ.get("SUBMITIT_EXECUTOR") == "local":
            # submitit has it ignored, since on a cluster it announces more to come.
            signal.signal(signal.SIGTERM, _end)
        with exclusive(self.fold.lock, self.fold.title):
            end_processes(self._token())  # what a killed attempt may have left running
            for path in set_torn_aside(self.fold):
                self._say(f"{path} was not written to its end")
            stage = stage_of(self.fold)
            if stage is Stage.DONE:
                self._say("nothing is left to do")
                return
            if stage in (Stage.TRAIN, Stage.CONTINUE):
                self._set_validation_aside()
            status = self._run(stage)
            if status != 0:
                raise RuntimeError(f"nnUNetv2_train {describe_status(status)}")
            if stage_of(self.fold) is not Stage.DONE:
                raise RuntimeError(f"nnUNetv2_train left {self.fold.folder} unfinished")

    def checkpoint(self) -> DelayedSubmission:
        """Tells submitit how to go on after a time limit or pre-emption: with the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _set_validation_aside(self) -> None:
        """Renames what a model before this one was validated with, lest it count for the new."""
        summary = self.fold.summary
        if summary.is_file():
            summary.rename(summary.with_name(f"{summary.name}.earlier"))

    def _run(self, stage: Stage) -> int:
        arguments = self.arguments(stage)
        self._say(f"$ nnUNetv2_train {shlex.join(arguments)}")
        attempts = read_attempts(self.folder)
        started = time.time()
        attempt: dict[str, Any] = {
            "job": os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "stage": stage.value,
            "started": started,
        }

        def note(**more: float) -> None:
            attempt.update(more, seconds=round(time.time() - started, 1))
            write_json(self.folder / ATTEMPTS, {"attempts": [*attempts, attempt]})

        note()
        process = subprocess.Popen(
            [*self.command, *arguments],
            env={**os.environ, **self.environment, TOKEN: self._token()},
            preexec_fn=_death_with_parent(),  # noqa: PLW1509 - a bare system call
        )
        try:
            status = _wait(process, note)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            end_processes(self._token())
        note(exit_status=status, peak_memory_gb=_peak_memory_gb())
        return status

    def _token(self) -> str:
        return str(self.fold.folder)

    def _say(self, text: str) -> None:
        # The job's standard output is its log.
        sys.stdout.write(f"refsam3d crossval, {self.fold.title}: {text}\n")
        sys.stdout.flush()


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Reads what the attempts at a fold noted; the last comes last.

    Args:
        folder: The job's folder.

    Returns:
        For each attempt ``job``, ``host``, ``pid``, ``stage``, ``started`` (Unix time) and
        ``seconds``; if it came to its end also ``exit_status`` and ``peak_memory_gb``.
    """
    try:
        return json.loads((folder / ATTEMPTS).read_text(encoding="utf-8"))["attempts"]
    except (FileNotFoundError, ValueError, LookupError):
        return []


def describe_status(status: int | None) -> str:
    """Words an exit status, as ``was killed (SIGKILL)``; None is a job that could not tell."""
    if status is None:
        return "was killed with its job"
    if status < 0:
        return f"was killed ({signal.Signals(-status).name})"
    return f"ended with exit status {status}"


def end_processes(token: str) -> None:
    """Kills the processes on this machine that were started for a fold, but not this one.

    nnU-Net's data loaders outlive a training that was killed. They are known by a variable of
    their environment, which only Linux shows.

    Args:
        token: The variable's value.
    """
    wanted = f"{TOKEN}={token}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, ValueError):  # ended meanwhile, or of another user
            continue


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: there is something to tidy up
    sys.exit("told to end")


def _wait(process: subprocess.Popen, note: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(BEAT)
        except subprocess.TimeoutExpired:
            note()


def _peak_memory_gb() -> float:
    """Largest resident memory of any one process of the training, in GB."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return round(peak * unit / 1e9, 3)


def _death_with_parent() -> Callable[[], None] | None:
    """What has the kernel kill a process as soon as its parent is killed; None without Linux."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
