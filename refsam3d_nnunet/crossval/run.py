"""`refsam3d crossval`: from a data set to trained folds, and from these to a report."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from refsam3d_nnunet.crossval.dataset import (
    Dataset,
    check_folds,
    check_trainers,
    find_dataset,
    make_folds,
)
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.ensembles import find_best, models_of
from refsam3d_nnunet.crossval.executors import (
    Executor,
    LocalExecutor,
    Resources,
    SlurmExecutor,
    gpu_sets,
)
from refsam3d_nnunet.crossval.folds import Fold, Method, check_split, parse_folds, parse_method
from refsam3d_nnunet.crossval.job import TRAIN, FoldJob
from refsam3d_nnunet.crossval.locks import exclusive
from refsam3d_nnunet.crossval.prepare import prepare
from refsam3d_nnunet.crossval.record import Record
from refsam3d_nnunet.crossval.schedules import check_schedules
from refsam3d_nnunet.crossval.training import Training
from refsam3d_nnunet.evaluation.extra import PACKAGES, crossval_extra

FAILED, INTERRUPTED = 1, 130
POLL = {"local": 1.0, "slurm": 5.0}  # seconds between two looks at the jobs
# What a job must see on whichever machine it runs.
PASSED_ON = ("nnUNet_", "REFSAM3D_", "OMP_", "MKL_", "OPENBLAS_")


def run(
    args: argparse.Namespace,
    *,
    command: tuple[str, ...] = TRAIN,
    stream: TextIO | None = None,
    poll: float | None = None,
) -> int:
    """Cross-validates, or goes on where an earlier call was stopped.

    Args:
        args: What :func:`refsam3d_nnunet.crossval.arguments.add_arguments` parses.
        command: What trains, before its arguments; tests put a stand-in here.
        stream: Where to tell the user about it; standard output if None.
        poll: Seconds between two looks at the jobs; those of the executor if None.

    Returns:
        0; 1 if a fold failed, 130 if the user interrupted.

    Raises:
        ValueError: If the arguments contradict the data set or each other, folds of one method are
            trained for different lengths, or one of nnU-Net's commands fails.
        BlockingIOError: If another process works on the same folder.
        OSError: If the output cannot be written, or an extra package is missing.
    """
    _check_extra()
    display = Display(stream or sys.stdout)
    methods, numbers = _parse(args)
    executor = _executor(args)
    dataset = find_dataset(args.dataset)
    check_folds(numbers, dataset)
    if len(methods) > 1:
        _check_labels(dataset)
    out = _folder(args.out or dataset.results / f"crossval_{args.configuration}")
    with exclusive(out / ".lock", f"the cross-validation in {out}"):
        try:
            check_trainers(methods)
            return _cross_validate(
                args,
                dataset,
                methods,
                numbers,
                out=out,
                executor=executor,
                display=display,
                command=command,
                poll=poll or POLL[args.executor],
            )
        except KeyboardInterrupt:
            going_on = "; queued jobs go on" if args.executor == "slurm" else ""
            display.line(f"Interrupted{going_on}. The same command resumes what is unfinished.")
            return INTERRUPTED


def _cross_validate(
    args: argparse.Namespace,
    dataset: Dataset,
    methods: list[Method],
    numbers: list[int],
    *,
    out: Path,
    executor: Executor,
    display: Display,
    command: tuple[str, ...],
    poll: float,
) -> int:
    log = out / "jobs" / "prepare.log"
    prepare(
        dataset, methods, args.configuration, log=log, display=display, processes=args.processes
    )
    npz = args.npz or args.ensemble or bool(args.ensemble_with)
    folds = make_folds(dataset, methods, args.configuration, numbers, npz=npz)
    for fold in folds:
        check_split(fold)
    models = models_of(dataset, folds, args)
    _tell_unknown(check_schedules(dataset, folds), display)
    baseline = parse_method(args.baseline) if args.baseline else methods[-1]
    asked = {
        "dataset": dataset.name,
        "configuration": args.configuration,
        "folds": numbers,
        "baseline": baseline.name,
        "executor": args.executor,
        "device": args.device,
        "num_gpus": args.num_gpus,
    }
    record = Record(out, asked, folds)
    training = Training(
        executor,
        record,
        display,
        parallel=_parallel(args, executor),
        retries=args.retries,
        poll=poll,
    )
    with _terminable():
        failed = training.run([_job(fold, args, dataset, record, command) for fold in folds])
    if failed:
        _tell_failures(failed, len(folds), record, display)
        return FAILED
    check_schedules(dataset, folds)  # other trainers only tell by training
    report = _conclude(
        args, dataset, folds, out=out, record=record, display=display, baseline=baseline
    )
    if models:
        processes = args.processes
        found = find_best(dataset, models, logs=log.parent, display=display, processes=processes)
        record.note(ensembles=found)
    display.line(f"Report    {report}")
    return 0


def _conclude(
    args: argparse.Namespace,
    dataset: Dataset,
    folds: list[Fold],
    *,
    out: Path,
    record: Record,
    display: Display,
    baseline: Method,
) -> Path:
    from refsam3d_nnunet.crossval.conclude import conclude

    return conclude(
        out,
        dataset,
        folds,
        configuration=args.configuration,
        record=record,
        display=display,
        baseline=baseline,
        processes=args.processes,
        margin=args.margin,
    )


def _check_labels(dataset: Dataset) -> None:
    """Says before days of training that a label has the name of what is compared."""
    from refsam3d_nnunet.comparison.paired import ALL

    if ALL in dataset.description()["labels"]:
        raise ValueError(
            f"A label is called {ALL!r}, which names the mean over the classes when methods are "
            f"compared; rename it in dataset.json, or give one of --trainers at a time"
        )


def _check_extra() -> None:
    """Says before days of training, not after them, that a package is missing."""
    with crossval_extra():
        for name in PACKAGES:
            if find_spec(name) is None:
                raise ModuleNotFoundError(name=name)


def _parse(args: argparse.Namespace) -> tuple[list[Method], list[int]]:
    methods = list(dict.fromkeys(map(parse_method, args.trainers)))
    if args.baseline and parse_method(args.baseline) not in methods:
        raise ValueError(f"--baseline {args.baseline} is none of --trainers")
    wanted = {"-num_gpus": args.num_gpus, "--parallel": args.parallel, "-np": args.processes}
    for name, value in wanted.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    if args.margin is not None and not 0 <= args.margin < math.inf:
        raise ValueError(f"--margin must be a loss from 0 up, got {args.margin}")
    if args.retries < 0:
        raise ValueError(f"--retries must be 0 or more, got {args.retries}")
    if args.num_gpus > 1 and args.device != "cuda":
        raise ValueError(f"-num_gpus {args.num_gpus} needs -device cuda, got {args.device}")
    return methods, parse_folds(args.folds)


def _executor(args: argparse.Namespace) -> Executor:
    asked = ("time", "memory", "partition", "cpus", "gpus")
    if args.executor == "slurm":
        if args.time is None or args.time < 1:
            raise ValueError(
                "--executor slurm needs --time MIN, the minutes of a job; one that takes longer "
                "is queued again and goes on from its last checkpoint"
            )
        gpus = args.gpus
        if gpus is None and args.device == "cuda":
            gpus = args.num_gpus
        return SlurmExecutor(
            Resources(args.time, args.memory, args.partition, cpus=args.cpus, gpus=gpus)
        )
    for name in asked:
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} is for --executor slurm; local jobs take what there is")
    return LocalExecutor(gpu_sets(args.num_gpus) if args.device == "cuda" else [])


def _parallel(args: argparse.Namespace, executor: Executor) -> int:
    if isinstance(executor, SlurmExecutor):
        return args.parallel or 0
    if args.device != "cuda":
        return args.parallel or 1
    available = len(gpu_sets(args.num_gpus))
    return min(args.parallel or available, available)


def _job(
    fold: Fold,
    args: argparse.Namespace,
    dataset: Dataset,
    record: Record,
    command: tuple[str, ...],
) -> FoldJob:
    environment = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    return FoldJob(
        fold,
        dataset.name,
        args.configuration,
        record.folder(fold),
        device=args.device,
        num_gpus=args.num_gpus,
        environment=environment,
        command=command,
    )


def _folder(path: Path) -> Path:
    """Makes the folder of results.

    Raises:
        OSError: If it cannot be made, or written to.
    """
    out = path.expanduser().resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise OSError(f"-o {out} cannot be used: {error}; choose another folder") from error
    return out


def _tell_unknown(folds: list[Fold], display: Display) -> None:
    if folds:
        titles = ", ".join(fold.title for fold in folds)
        display.line(f"No debug.json tells for how many steps these were trained: {titles}")


def _tell_failures(failed: list[Fold], total: int, record: Record, display: Display) -> None:
    display.line(f"{len(failed)} of {total} folds failed:")
    for fold in failed:
        display.line(f"  {fold.title}: {record.log(fold)}")
    display.line("The others are done. The same command tries only these again.")


@contextmanager
def _terminable() -> Iterator[None]:
    """Has SIGTERM end jobs as an interrupt by the user does."""

    def interrupt(_number: int, _frame: FrameType | None) -> Any:  # noqa: ANN401
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
