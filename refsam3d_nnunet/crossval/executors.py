"""Hands jobs to submitit, and tells which of them still run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from refsam3d_nnunet.crossval.job import FoldJob
from refsam3d_nnunet.crossval.locks import is_held

if TYPE_CHECKING:
    from submitit import Job

YEAR = 365 * 24 * 60  # minutes; submitit ends local jobs after two, unless told
# How often a job may reach its time limit, and go on, before submitit gives it up.
TIMEOUTS = 20
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Resources:
    """What a SLURM job asks for; None where the cluster's default will do.

    Attributes:
        minutes: Time limit; submitit has one of five minutes, and not the cluster's, if not told.
        memory_gb: Memory.
        partition: Where to run.
        cpus: Cores.
        gpus: GPUs.
    """

    minutes: int
    memory_gb: float | None = None
    partition: str | None = None
    cpus: int | None = None
    gpus: int | None = None


class Executor(Protocol):
    """Starts jobs and knows which are alive."""

    name: str

    def submit(self, job: FoldJob) -> str:
        """Starts or queues a job and returns its id."""

    def alive(self, job_id: str, job: FoldJob) -> bool:
        """Tells whether a job, possibly of an earlier process, is queued or runs."""

    def cancel(self, job_id: str) -> None:
        """Ends a job."""

    def noted(self, job_id: str) -> dict[str, str]:
        """What another process must know of a job to take it over."""

    def adopt(self, known: Mapping[str, str]) -> None:
        """Takes over a job of an earlier process, by its id and what :meth:`noted` gave."""


def log_of(job: FoldJob, job_id: str) -> Path:
    """File with all that a job printed, by submitit's naming."""
    return job.folder / f"{job_id}_0_log.out"


class LocalExecutor:
    """Processes on this machine.

    Args:
        gpu_sets: Values of CUDA_VISIBLE_DEVICES, one for each job at a time; empty if the jobs
            need no GPU.
    """

    name = "local"

    def __init__(self, gpu_sets: list[str]) -> None:
        self._free = list(gpu_sets)
        self._taken: dict[str, str] = {}
        self._jobs: dict[str, Job] = {}

    def submit(self, job: FoldJob) -> str:
        """Starts a process for a job and returns its id."""
        gpus = self._free.pop(0) if self._free else None
        if gpus is not None:  # submitit would give every job the first GPUs
            job = replace(job, environment={**job.environment, VISIBLE: gpus})
        with _ignoring_interrupts():
            submitted = _submit(job, "local", timeout_min=YEAR)
        self._jobs[submitted.job_id] = submitted
        if gpus is not None:
            self._taken[submitted.job_id] = gpus
        return submitted.job_id

    def alive(self, job_id: str, job: FoldJob) -> bool:
        """Tells whether submitit's process lives, or the job without it."""
        mine = self._jobs.get(job_id)
        if (mine is not None and not mine.done()) or is_held(job.fold.lock):
            return True
        if job_id in self._taken:
            self._free.append(self._taken.pop(job_id))
        return False

    def noted(self, job_id: str) -> dict[str, str]:
        """The GPUs of a job."""
        return {"gpus": self._taken[job_id]} if job_id in self._taken else {}

    def adopt(self, known: Mapping[str, str]) -> None:
        """Keeps the GPUs of a job from others, until it ends."""
        gpus = known.get("gpus")
        if gpus in self._free:
            self._free.remove(gpus)
            self._taken[known["id"]] = gpus

    def cancel(self, job_id: str) -> None:
        """Ends a job of this process, and waits for it."""
        mine = self._jobs.get(job_id)
        while mine is not None and not mine.done():
            # submitit's process hands it on to the job, once that has started.
            os.kill(int(job_id), signal.SIGTERM)
            time.sleep(0.5)


class SlurmExecutor:
    """Jobs of a SLURM cluster.

    Args:
        resources: What each job asks for.

    Raises:
        ValueError: If there is no SLURM here.
    """

    name = "slurm"

    def __init__(self, resources: Resources) -> None:
        missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
        if missing:
            raise ValueError(
                f"--executor slurm needs {', '.join(missing)}, not found in PATH; run on a login "
                "node of the cluster, or take --executor local"
            )
        self._resources = resources
        self._missed: dict[str, int] = {}

    def submit(self, job: FoldJob) -> str:
        """Queues a job and returns its id."""
        asked = self._resources
        return _submit(
            job,
            "slurm",
            timeout_min=asked.minutes,
            mem_gb=asked.memory_gb,
            cpus_per_task=asked.cpus,
            gpus_per_node=asked.gpus or None,
            slurm_partition=asked.partition,
            slurm_signal_delay_s=_notice(asked.minutes),
        ).job_id

    def alive(self, job_id: str, job: FoldJob) -> bool:
        """Tells whether the queue has the job.

        Not by submitit, which asks the accounting, and waits for ever where there is none.
        """
        listed = self._queue()
        if listed is None or job_id in listed:  # a controller out of reach says nothing
            self._missed[job_id] = 0
            return True
        # Between two states of a requeued job one look may miss it.
        self._missed[job_id] = self._missed.get(job_id, 0) + 1
        return self._missed[job_id] < 2 or is_held(job.fold.lock)

    def noted(self, job_id: str) -> dict[str, str]:
        """Nothing: the queue knows the rest."""
        return {}

    def adopt(self, known: Mapping[str, str]) -> None:
        """Needs nothing."""

    def cancel(self, job_id: str) -> None:
        """Leaves the job in the queue: it needs no process here, and the next call finds it."""

    @staticmethod
    def _queue() -> set[str] | None:
        command = ["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(done.stdout.split()) if done.returncode == 0 else None


def gpu_sets(num_gpus: int) -> list[str]:
    """Divides the visible GPUs among jobs.

    Args:
        num_gpus: GPUs of one job.

    Returns:
        Values of CUDA_VISIBLE_DEVICES that share no GPU.

    Raises:
        ValueError: If there are too few for one job.
    """
    import torch

    named = os.environ.get(VISIBLE, "").split(",")
    count = torch.cuda.device_count()
    names = named[:count] if len(named) >= count > 0 and named[0] else list(map(str, range(count)))
    if count < num_gpus:
        raise ValueError(
            f"-device cuda with -num_gpus {num_gpus}, but torch sees {count} GPUs; "
            "give -device cpu to train without"
        )
    starts = range(0, count - num_gpus + 1, num_gpus)
    return [",".join(names[start : start + num_gpus]) for start in starts]


def _submit(job: FoldJob, cluster: str, **parameters: float | str | None) -> Job:
    import submitit

    job.folder.mkdir(parents=True, exist_ok=True)
    options = {"slurm_max_num_timeout": TIMEOUTS} if cluster == "slurm" else {}
    executor = submitit.AutoExecutor(job.folder, cluster=cluster, **options)
    name = f"{job.fold.method.trainer}_{job.fold.number}"
    executor.update_parameters(name=name, stderr_to_stdout=True, **parameters)
    try:
        return executor.submit(job)
    except submitit.core.utils.FailedJobError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"SLURM refused {job.fold.title}: {reason}") from error


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Has processes that start meanwhile ignore Ctrl-C, which a terminal sends to all of them.

    This process ends them in good order.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _notice(minutes: int) -> int:
    """Seconds before the time limit at which SLURM warns the job; at most a quarter of it."""
    return min(90, minutes * 15)
