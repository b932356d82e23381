"""Trains all folds: starts jobs, follows them, starts killed ones again."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.executors import Executor, log_of
from refsam3d_nnunet.crossval.folds import Fold, Stage, stage_of
from refsam3d_nnunet.crossval.job import FoldJob, describe_status, read_attempts
from refsam3d_nnunet.crossval.record import Record
from refsam3d_nnunet.crossval.training_log import read_progress

WORDS = {
    Stage.TRAIN: "training",
    Stage.CONTINUE: "going on from its last checkpoint",
    Stage.VALIDATE: "validating what is trained",
}


class Training:
    """Runs jobs until each fold is done or has failed.

    Args:
        executor: Where the jobs run.
        record: Is told about every change.
        display: Shows it to the user.
        parallel: Jobs at a time; 0 for all.
        retries: How often a killed job is started again.
        poll: Seconds between two looks at the jobs.
    """

    def __init__(
        self,
        executor: Executor,
        record: Record,
        display: Display,
        *,
        parallel: int,
        retries: int,
        poll: float,
    ) -> None:
        self._executor = executor
        self._record = record
        self._display = display
        self._parallel = parallel or math.inf
        self._retries = retries
        self._poll = poll
        self._waiting: deque[FoldJob] = deque()
        self._running: dict[str, tuple[FoldJob, float]] = {}
        self._killed: Counter[Fold] = Counter()

    def run(self, jobs: Sequence[FoldJob]) -> list[Fold]:
        """Runs the jobs that have something left to do.

        Returns:
            The folds that failed.

        Raises:
            KeyboardInterrupt: If the user interrupts; jobs of this machine have ended by then,
                those of a cluster go on.
        """
        for job in jobs:
            self._take_up(job)
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._parallel:
                    self._start(self._waiting.popleft())
                self._look()
                if self._running:
                    time.sleep(self._poll)
        except BaseException:
            for job_id in self._running:
                self._executor.cancel(job_id)
            raise
        finally:
            self._display.close()
        return [job.fold for job in jobs if self._record.state(job.fold) == "failed"]

    def _take_up(self, job: FoldJob) -> None:
        """Sorts out what an earlier call has done, and what it has left running."""
        if stage_of(job.fold) is Stage.DONE:
            self._record.ended(job.fold, "done")
            self._display.ended(job.fold, "is done already")
            return
        known = self._record.job(job.fold)
        if known and known["executor"] == self._executor.name:
            if self._executor.alive(known["id"], job):
                self._executor.adopt(known)
                self._follow(job, known["id"])
                self._display.line(f"{job.fold.title}: job {known['id']} still runs")
                return
        self._waiting.append(job)

    def _start(self, job: FoldJob) -> None:
        stage = stage_of(job.fold)
        job_id = self._executor.submit(job)
        self._follow(job, job_id)
        self._display.line(f"{job.fold.title}: {WORDS.get(stage, 'starting')}, job {job_id}")

    def _follow(self, job: FoldJob, job_id: str) -> None:
        known = {"id": job_id, "executor": self._executor.name} | self._executor.noted(job_id)
        self._record.started(job.fold, known, log_of(job, job_id))
        self._running[job_id] = (job, time.time())

    def _look(self) -> None:
        for job_id, (job, since) in list(self._running.items()):
            if self._executor.alive(job_id, job):
                self._display.progress(job.fold, read_progress(job.fold.folder, since))
            else:
                del self._running[job_id]
                self._conclude(job, job_id)

    def _conclude(self, job: FoldJob, job_id: str) -> None:
        fold = job.fold
        if stage_of(fold) is Stage.DONE:
            self._record.ended(fold, "done")
            dice = read_progress(fold.folder).dice
            self._display.ended(fold, "done" if dice is None else f"done, Dice {dice:.3f}")
            return
        status = _exit_status(job, job_id)
        killed = status is None or status < 0
        if killed and self._killed[fold] < self._retries:
            self._killed[fold] += 1
            self._display.ended(
                fold,
                f"{describe_status(status)}; it is started again "
                f"({self._killed[fold]} of {self._retries})",
            )
            self._record.ended(fold, "waiting", describe_status(status))
            self._waiting.appendleft(job)
            return
        error = describe_status(status)
        if not killed:
            error += _last_error(log_of(job, job_id))
        self._record.ended(fold, "failed", error)
        self._display.ended(fold, f"FAILED: {error}")


def _exit_status(job: FoldJob, job_id: str) -> int | None:
    """Exit status of the training that a job ran; None if the job was killed before it ended."""
    mine = [attempt for attempt in read_attempts(job.folder) if attempt["job"] == job_id]
    return mine[-1].get("exit_status") if mine else None


def _last_error(log: Path) -> str:
    """The last error that a log names, for a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    words = ("Error: ", "error: ", "Exception: ")
    told = [
        line
        for line in lines
        if any(word in line for word in words) and "nnUNetv2_train ended with" not in line
    ]
    return f" ({told[-1].strip()[:300]})" if told else ""
