"""Figures of benchmarks/accuracy.py: pseudo Dice over steps and over seconds, of all methods."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from accuracy_plans import CLOCKS, TRAINERS
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refsam3d_nnunet.files import replacing

# Okabe and Ito's colours, which colour-blind readers can tell apart, with a line style each.
STYLES = dict(
    zip(
        TRAINERS,
        (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":")),
        strict=True,
    )
)
LABELS = {
    "steps": "training steps",
    "seconds": "seconds of training",
    "processor_seconds": "processor seconds of training",
}

Json = dict[str, Any]


def figure_of(page: Path, label: str) -> Path:
    """File of a data set's figure; several pages may share a folder."""
    return page.parent / "images" / f"{page.stem}-{label}.svg"


def draw(result: Json, label: str, path: Path) -> bool:
    """Draws the learning curves of a data set, a row of axes for each budget.

    Args:
        result: With "settings", "budgets" and "runs".
        label: Name of the data set.
        path: SVG file to write.

    Returns:
        Whether there was anything to draw.
    """
    runs = [run for run in result["runs"] if run["set"] == label]
    budgets = [name for name in result["budgets"] if any(run["budget"] == name for run in runs)]
    if not budgets:
        return False
    keys = ("steps", CLOCKS[result["settings"]["clock"]])
    # The same numbers give the same file.
    with mpl.rc_context({"svg.hashsalt": "refsam3d", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 3.2 * len(budgets)), layout="constrained")
        grid = figure.subplots(len(budgets), 2, squeeze=False, sharey=True)
        for row, budget in zip(grid, budgets, strict=True):
            of_budget = [run for run in runs if run["budget"] == budget]
            for axes, key in zip(row, keys, strict=True):
                _plot(axes, of_budget, key)
            row[0].set_title(f"{label}, budget {result['budgets'][budget]}", loc="left")
        named = grid[0][0].get_legend_handles_labels()
        figure.legend(*named, loc="outside lower center", ncols=len(STYLES))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
    return True


def _plot(axes: Axes, runs: Sequence[Json], key: str) -> None:
    """A thin line for each seed, a thick one for their mean."""
    for method, (colour, style) in STYLES.items():
        curves = [run["curve"] for run in runs if run["method"] == method]
        for curve in curves:
            axes.plot(curve[key], _plain(curve["dice"]), color=colour, lw=0.6, alpha=0.6)
        if curves:
            most = max(len(curve[key]) for curve in curves)
            # Seeds that ran after probes of their own may differ in epochs.
            of_schedule = np.linspace(0, 1, most)
            middle = [
                np.mean([_at(of_schedule, values) for values in of_seeds], axis=0)
                for of_seeds in (
                    [curve[key] for curve in curves],
                    [_plain(curve["dice"]) for curve in curves],
                )
            ]
            axes.plot(*middle, color=colour, ls=style, lw=1.8, label=method)
    axes.set(xlabel=LABELS[key], ylabel="pseudo Dice", ylim=(0, 1), xlim=(0, None))
    axes.grid(alpha=0.3)


def _at(places: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Values after these fractions of the epochs."""
    return np.interp(places, np.linspace(0, 1, len(values)), values)


def _plain(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
