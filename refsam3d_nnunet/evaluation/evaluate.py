"""Metrics of a folder of predictions, case by case and in parallel."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from tqdm import tqdm

from refsam3d_nnunet.evaluation.arguments import DEFAULT_TOLERANCE
from refsam3d_nnunet.evaluation.cases import find_cases, find_missing, folds_of
from refsam3d_nnunet.evaluation.extra import crossval_extra
from refsam3d_nnunet.evaluation.labels import (
    Labels,
    find_dataset_json,
    read_labels,
    tolerances_of,
)
from refsam3d_nnunet.evaluation.metrics import DEFINITIONS, measure
from refsam3d_nnunet.evaluation.reading import read_pair, readers_for
from refsam3d_nnunet.evaluation.table import (
    COLUMNS,
    FORMAT,
    METRICS,
    Evaluation,
    read_object,
    write_evaluation,
)

with crossval_extra():
    import pandas as pd

_VERSIONS = ("refsam3d_nnunet", "nnunetv2", "monai", "torch", "scipy", "numpy", "SimpleITK")


def evaluate(
    prediction: Path,
    reference: Path,
    *,
    out: Path,
    dataset_json: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    tolerances: Mapping[str, float] | None = None,
    splits: Path | None = None,
    folds: Sequence[int] | None = None,
    allow_missing: bool = False,
    processes: int | None = None,
) -> Evaluation:
    """Measures predictions and writes metrics.csv and metrics.json.

    Args:
        prediction: Folder of predicted label files.
        reference: Folder of the ground truth, with files of the same names.
        out: Folder to write to, made if missing.
        dataset_json: File with the labels; looked for beside the folders if None.
        tolerance: Of NSD in mm, for classes that ``tolerances`` does not name.
        tolerances: Class -> mm.
        splits: nnU-Net's splits_final.json, from which each case gets its fold; None if unknown.
        folds: Those of the splits that the predictions are of; all if None.
        allow_missing: Whether ground truth without a prediction is left out.
        processes: Cases at once; nnU-Net's default number, at most the cores there are, if None.

    Returns:
        What was written.

    Raises:
        ValueError: If the input contradicts itself: see ``find_cases``, ``read_pair``,
            ``tolerances_of`` and ``folds_of``. Nothing is written then.
        OSError: If a file or folder is missing, or the output cannot be written.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"The number of processes is {processes}, want 1 or more.")
    dataset_json = dataset_json or find_dataset_json(prediction, reference)
    labels = read_labels(dataset_json)
    readers_for(labels)
    limits = tolerances_of(labels, tolerance, tolerances or {})
    cases = find_cases(prediction, reference, labels.ending, allow_missing=allow_missing)
    fold_of = None if splits is None else folds_of(cases, splits, folds)
    missing = find_missing(cases, reference, labels.ending)
    _check_writable(out)
    work = partial(
        _measure_case, prediction=prediction, reference=reference, labels=labels, tolerances=limits
    )
    measured = dict(_measured(work, cases, processes or _default_processes()))
    table = _table(cases, measured, labels, fold_of or {})
    info = {
        "format": FORMAT,
        "prediction": str(prediction.resolve()),
        "reference": str(reference.resolve()),
        "dataset": _dataset_name(dataset_json, reference),
        "labels": {name: list(values) for name, values in labels.classes.items()},
        "ignore_label": labels.ignore,
        "metrics": DEFINITIONS,
        "tolerance_mm": limits,
        "library": {"dice": "nnU-Net's definition", "monai": version("monai")},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _VERSIONS},
        "cases": len(cases),
        "missing": missing,
        "folds": fold_of,
    } | summary(table)
    write_evaluation(out, table, info)
    return Evaluation(table, info)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Means over cases, as metrics.json has them.

    Args:
        table: As in :class:`~refsam3d_nnunet.evaluation.table.Evaluation`.

    Returns:
        ``mean`` (metric -> class -> mean of the finite values, NaN if there is none),
        ``foreground_mean`` (metric -> mean of the classes' means, as nnU-Net's of that name),
        ``undefined`` and ``infinite`` (metric -> class -> cases that the mean leaves out).
    """
    result: dict[str, dict[str, Any]] = {
        "foreground_mean": {},
        "mean": {},
        "undefined": {},
        "infinite": {},
    }
    for metric, rows in table.groupby("metric", sort=False):
        classes = rows.groupby("name", sort=False)["value"]
        finite = rows["value"].where(np.isfinite(rows["value"]))
        means = finite.groupby(rows["name"], sort=False).mean()
        result["foreground_mean"][metric] = float(means.mean(skipna=False))
        result["mean"][metric] = means.to_dict()
        result["undefined"][metric] = {k: int(v.isna().sum()) for k, v in classes}
        result["infinite"][metric] = {k: int(np.isinf(v).sum()) for k, v in classes}
    return result


def _measure_case(
    case: str,
    *,
    prediction: Path,
    reference: Path,
    labels: Labels,
    tolerances: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """Class -> metric -> value."""
    name = f"{case}{labels.ending}"
    pair = read_pair(prediction / name, reference / name, labels)
    # As nnU-Net does: what the reference leaves open counts neither for nor against a prediction.
    counts = pair.reference != labels.ignore if labels.ignore is not None else True
    return {
        name: measure(
            np.isin(pair.prediction, values) & counts,
            np.isin(pair.reference, values) & counts,
            spacing=pair.spacing,
            voxel=pair.voxel,
            tolerance=tolerances[name],
        )
        for name, values in labels.classes.items()
    }


def _measured(
    work: partial, cases: Sequence[str], processes: int
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    bar = partial(tqdm, total=len(cases), desc="evaluate", unit="case", file=sys.stderr)
    quiet = None  # tqdm's word for: silent where the output is no terminal
    processes = min(processes, len(cases))
    if processes == 1:
        yield from ((case, work(case)) for case in bar(cases, disable=quiet))
        return
    with ProcessPoolExecutor(
        processes, _context(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        jobs = {pool.submit(work, case): case for case in cases}
        try:
            for job in bar(as_completed(jobs), disable=quiet):
                yield jobs[job], job.result()
        except BrokenProcessPool as error:
            raise OSError(
                "A process that measured a case was killed, most often for lack of memory: try "
                "fewer with --processes."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    """Processes that import nnU-Net and MONAI once for all, where the system can do that."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _table(
    cases: Sequence[str],
    measured: Mapping[str, Mapping[str, Mapping[str, float]]],
    labels: Labels,
    folds: Mapping[str, str],
) -> pd.DataFrame:
    rows = [
        (case, folds.get(case, ""), "+".join(map(str, values)), name, metric, value)
        for case in cases
        for name, values in labels.classes.items()
        for metric in METRICS
        for value in [measured[case][name][metric]]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _default_processes() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(default_num_processes, cores or 1))


def _check_writable(out: Path) -> None:
    """Says before hours of work, not after them, that nothing could be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"Cannot write to {out}: {error}. Choose another folder with -o.") from error


def _dataset_name(dataset_json: Path, reference: Path) -> str:
    parts = [*dataset_json.resolve().parts, *reference.resolve().parts]
    named = [part for part in parts if re.fullmatch(r"Dataset\d{3}_.+", part)]
    return named[0] if named else str(read_object(dataset_json).get("name", ""))
