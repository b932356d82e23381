"""What benchmarks/pretraining.py measured: Dice of every case, means, paired differences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from study_report import check_same_patches, dice_of, grids_of, mean_dice, paired

from refsam3d_nnunet.comparison.paired import ALL
from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import FINAL, Fold
from refsam3d_nnunet.evaluation.table import without_nan
from refsam3d_nnunet.report.curves import read_curves

# Method and baseline of each difference.
PAIRS = (("full", "scratch"), ("adapter", "scratch"), ("adapter", "full"))
MARGIN = 0.01

Json = dict[str, Any]


def measured(fold: Fold, steps: int) -> Json:
    """What nnU-Net left of a finished run.

    Args:
        fold: The run's fold.
        steps: Its training steps.

    Returns:
        Dice of each case and class by nnU-Net's summary (NaN where a class is in neither mask),
        seconds of all epochs, steps, parameters, and what became of the pretrained weights.
    """
    record = read_json(fold.folder / "refsam3d_run.json")
    curve = next(one for one in read_curves(fold.model) if one.fold == str(fold.number))
    return {
        "dice": dice_of(fold),
        "steps": steps,
        "seconds": round(curve.hours[-1] * 3600, 1),
        "parameters": record["parameters"],
        "parameters_tuned": record["parameters_tuned"],
        "patch": record["patch_size"],
        "batch": record["batch_size"],
        "weights": {key: record["weights"].get(key) for key in ("from", "sha256")},
        "checkpoint_mb": round((fold.folder / FINAL).stat().st_size / 1e6, 1),
        "train_loss": [round(float(value), 4) for value in curve.train],
    }


def summarise(result: Json) -> Json:
    """Adds means and paired differences to a result.

    Args:
        result: With "sets" and "runs".

    Returns:
        The same with "means", one entry per set, number of cases and mode; and "pairs", one per
        set, number of cases, pair of modes and class, each mean over seeds first, then cases.

    Raises:
        ValueError: If runs of a set were not trained on the same patch and batch.
    """
    means, pairs = [], []
    for label, told in result["sets"].items():
        here = [run for run in result["runs"] if run["set"] == label]
        check_same_patches(label, here)
        for cases in sorted(told["train"], key=lambda cases: len(told["train"][cases])):
            runs = [run for run in here if run["cases"] == cases]
            grids = grids_of(runs, "mode")
            where = {"set": label, "cases": cases}
            for mode, grid in grids.items():
                means.append(where | _mean(grid, [run for run in runs if run["mode"] == mode]))
            pairs += [where | pair for pair in _pairs(grids)]
    return without_nan({**result, "means": means, "pairs": pairs})


def _mean(grid: pd.DataFrame, runs: list[Json]) -> Json:
    by_run = [mean_dice(grids_of([run], "mode")[run["mode"]])[ALL] for run in runs]
    return {
        "mode": runs[0]["mode"],
        "dice": mean_dice(grid),
        "by_run": by_run,
        "seconds_per_step": sum(r["seconds"] for r in runs) / sum(r["steps"] for r in runs),
        "seconds": sum(run["seconds"] for run in runs) / len(runs),
        "parameters_tuned": runs[0]["parameters_tuned"],
    }


def _pairs(grids: Mapping[str, pd.DataFrame]) -> list[Json]:
    pairs = []
    for mode, baseline in PAIRS:
        if {mode, baseline} <= set(grids):
            pairs += paired(grids, mode, baseline, MARGIN)
    return pairs
