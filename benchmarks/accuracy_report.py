"""What benchmarks/accuracy.py measured: Dice, learning curves, differences from the baselines."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from accuracy_plans import CLOCKS, OURS, SIDES, SIDES_LIKE
from study_report import check_same_patches, dice_of, grids_of, mean_dice, paired

from refsam3d_nnunet.comparison.paired import ALL
from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import Fold
from refsam3d_nnunet.evaluation.table import without_nan

# Loss of mean Dice that would still count as equal.
MARGIN = 0.005

Json = dict[str, Any]


def measured(fold: Fold) -> Json:
    """What a finished run left.

    Returns:
        Dice of each case and class, steps, seconds of training by the clock and of the processor,
        parameters, patch, batch, and the learning curve: steps, seconds and pseudo Dice at the
        end of each epoch.
    """
    record = read_json(fold.folder / "benchmark_run.json")
    epochs = record.pop("epochs")
    sums = {
        key: list(itertools.accumulate(one[key] for one in epochs))
        for key in ("steps", *CLOCKS.values())
    }
    return {
        "dice": dice_of(fold),
        **record,
        **{key: round(values[-1], 1) for key, values in sums.items()},
        "curve": {
            "steps": sums["steps"],
            **{key: [round(value, 2) for value in sums[key]] for key in CLOCKS.values()},
            "dice": [one["dice"] for one in epochs],
        },
    }


def speeds(probe: Json, clock: str) -> dict[str, float]:
    """Median seconds of a step of each method; mirroring along fewer axes costs no more.

    Args:
        probe: What benchmarks/accuracy_probe.py wrote.
        clock: Key of ``CLOCKS``.
    """
    methods = probe["methods"].items()
    found = {name: statistics.median(told[CLOCKS[clock]]) for name, told in methods}
    return {**found, SIDES: found[SIDES_LIKE]}


def summarise(result: Json) -> Json:
    """Adds means and paired differences to a result.

    Args:
        result: With "sets", "budgets" and "runs".

    Returns:
        The same with "means", one entry per set, budget and method; and "pairs", the differences
        of RefSAM3D from every baseline, one per set, budget, baseline and class. Each is the mean
        over seeds first, then the cases of all folds; a difference is over those folds and seeds
        that both have. The baseline with the higher mean Dice, over those that all have, is marked
        "better".

    Raises:
        ValueError: If runs of a set were not trained on the same patch and batch.
    """
    means, pairs = [], []
    for label in result["sets"]:
        here = [run for run in result["runs"] if run["set"] == label]
        check_same_patches(label, here)
        for budget in result["budgets"]:
            runs = [run for run in here if run["budget"] == budget]
            where = {"set": label, "budget": budget}
            grids = grids_of(runs, "method")
            rows = [
                _mean(grid, [run for run in runs if run["method"] == method])
                for method, grid in grids.items()
            ]
            means += [where | row for row in rows]
            pairs += [where | pair for pair in _pairs(runs)]
    return without_nan({**result, "means": means, "pairs": pairs})


def _mean(grid: pd.DataFrame, runs: Sequence[Json]) -> Json:
    method = runs[0]["method"]
    by_run = [mean_dice(grids_of([run], "method")[method])[ALL] for run in runs]
    return {
        "method": method,
        "dice": mean_dice(grid),
        "by_run": by_run,
        "trainings": trainings_of(runs),
        "steps": round(statistics.mean(run["steps"] for run in runs)),
        "seconds": statistics.mean(run["seconds"] for run in runs),
        "processor_seconds": statistics.mean(run["processor_seconds"] for run in runs),
        "parameters": runs[0]["parameters"],
        "parameters_tuned": runs[0]["parameters_tuned"],
    }


def _pairs(runs: Sequence[Json]) -> list[Json]:
    """Differences from every baseline, over the folds and seeds that both have."""
    by_method = {
        method: [run for run in runs if run["method"] == method]
        for method in dict.fromkeys(run["method"] for run in runs)
    }
    if OURS not in by_method:
        return []
    common = grids_of(_in_common(list(by_method.values())), "method")
    baselines = {name: mean_dice(grid)[ALL] for name, grid in common.items() if name != OURS}
    better = max(baselines, key=lambda name: baselines[name], default=None)
    pairs = []
    for name in baselines:
        both = _in_common([by_method[OURS], by_method[name]])
        more = {"better": name == better, "trainings": trainings_of(both)}
        grids = grids_of(both, "method", filled=True)
        pairs += [pair | more for pair in paired(grids, OURS, name, MARGIN)]
    return pairs


def trainings_of(runs: Iterable[Json]) -> list[tuple[int, int]]:
    """Fold and seed of each training."""
    return sorted({(run["fold"], run["seed"]) for run in runs})


def _in_common(runs_of_methods: Sequence[Sequence[Json]]) -> list[Json]:
    """The runs of those folds and seeds that all methods have."""
    shared = set.intersection(*(set(trainings_of(runs)) for runs in runs_of_methods))
    return [run for runs in runs_of_methods for run in runs if (run["fold"], run["seed"]) in shared]
