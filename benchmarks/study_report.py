"""What studies of trainings report: Dice of every case, paired differences, the machine."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from refsam3d_nnunet.comparison.paired import ALL, differences_of, pairs_of
from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import Fold

Json = dict[str, Any]


def dice_of(fold: Fold) -> dict[str, dict[str, float]]:
    """Dice of each case and class by nnU-Net's summary; NaN where a class is in neither mask."""
    summary = read_json(fold.folder / "validation" / "summary.json")
    labels = read_json(fold.model / "dataset.json")["labels"]
    names = {_numbers(value): name for name, value in labels.items()}
    return {
        Path(row["prediction_file"]).name.removesuffix(fold.ending): {
            names[_numbers(label)]: values["Dice"] for label, values in row["metrics"].items()
        }
        for row in summary["metric_per_case"]
    }


def told_set(configuration: Json) -> Json:
    """What to say about a data set: spacing, patch, batch and tokens.

    Args:
        configuration: Of RefSAM3D's plans.
    """
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "spacing": configuration["spacing"],
        "patch": configuration["patch_size"],
        "batch": configuration["batch_size"],
        "token": network["token_size"],
        "preset": network["preset"],
    }


def check_same_patches(label: str, runs: Iterable[Json]) -> None:
    """Refuses to compare trainings that saw patches of another size, or more of them at a time.

    Raises:
        ValueError: If runs of a set differ in patch or batch.
    """
    sizes = {(tuple(run["patch"]), run["batch"]) for run in runs}
    if len(sizes) > 1:
        raise ValueError(f"The runs of {label} differ in patch or batch: {sorted(sizes)}")


def grids_of(runs: Iterable[Json], key: str, *, filled: bool = False) -> dict[str, pd.DataFrame]:
    """Dice, cases x classes, the mean over those trainings where it is defined.

    Args:
        runs: Runs of one set.
        key: What in a run tells apart what is compared, such as its mode.
        filled: Whether a value that is undefined, because both masks are empty, counts as 1 where
            another of the trainings has one: so does ``differences_of`` of single trainings.
    """
    grids: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        grid = pd.DataFrame.from_dict(run["dice"], orient="index").astype(float)
        grids.setdefault(run[key], []).append(grid)
    if filled:
        all_grids = [grid for of_runs in grids.values() for grid in of_runs]
        enters = pd.concat(all_grids).notna().groupby(level=0, sort=False).any()
        grids = {
            name: [grid.fillna(1.0).where(enters.loc[grid.index]) for grid in of_runs]
            for name, of_runs in grids.items()
        }
    return {
        name: pd.concat(of_runs).groupby(level=0, sort=False).mean()
        for name, of_runs in grids.items()
    }


def mean_dice(grid: pd.DataFrame) -> dict[str, float]:
    """Mean over classes, then cases; and of each class over cases."""
    by_class = {name: float(column.mean()) for name, column in grid.items()}
    return {ALL: float(grid.mean(axis=1).mean()), **by_class}


def paired(
    grids: Mapping[str, pd.DataFrame], method: str, baseline: str, margin: float
) -> list[Json]:
    """Mean, interval, p, verdict and every case's value of the differences, class by class.

    Args:
        grids: As :func:`grids_of` gives them.
        method: Name of one of them.
        baseline: Name of another, which is subtracted.
        margin: Of non-inferiority.
    """
    first = grids[baseline]
    chosen = {baseline: first, method: grids[method].loc[first.index, first.columns]}
    folds = pd.Series("0", index=first.index)
    differences = differences_of(chosen, folds, method, baseline=baseline, metric="dice")
    how = {"metric": "dice", "margin": margin, "resamples": 10000, "seed": 0}
    pairs = pairs_of(differences, [ALL, *first.columns], **how)
    kept = ("method", "baseline", "class", "n", "difference", "low", "high", "p", "verdict")
    by_class = {name: rows for name, rows in differences.groupby("class")}
    return [
        {key: pair[key] for key in kept} | {"by_case": _by_case(by_class.get(pair["class"]))}
        for pair in pairs
    ]


def _by_case(rows: pd.DataFrame | None) -> dict[str, float]:
    """Differences of one class; none if it is in no case."""
    return {} if rows is None else dict(zip(rows["case"], rows["difference"], strict=True))


def told_machine(device: str) -> Json:
    """Processor, cores that may be used, threads and versions."""
    names = []
    if Path("/proc/cpuinfo").is_file():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "device": device,
        "processor": names[0] if names else platform.processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as torch takes"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("refsam3d_nnunet", "nnunetv2", "torch")},
    }


def _numbers(label: object) -> tuple[int, ...]:
    """A label as dataset.json or summary.json write it: 1, "1", [1, 2] or "(1, 2)"."""
    return tuple(int(number) for number in re.findall(r"\d+", str(label)))
