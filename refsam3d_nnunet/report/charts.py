"""The charts of the report: distributions, paired differences, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from refsam3d_nnunet.report.curves import Curve
from refsam3d_nnunet.report.svg import MARKERS, METHODS, TEXT, drawing, to_svg

WIDTH = 4.4  # inches: a phone shows it nearly unscaled, a desktop two side by side
JITTER = 0.17


def distribution(
    values: Mapping[str, pd.Series], *, title: str, axis: str, limits: tuple[float, float]
) -> Markup:
    """Draws a box and every case for each method.

    Args:
        values: One value per case by method, indexed by case; undefined and infinite ones are
            counted and not drawn.
        title: The class.
        axis: Name and unit of the metric.
        limits: Ends of the axis, the same for all classes.
    """
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.95 + 0.52 * len(values)), layout="constrained")
        axes, tips = figure.subplots(), {}
        for row, series in enumerate(values.values()):
            finite = series[np.isfinite(series)]
            tips |= _dots(axes, finite, row=row, color=row, names=finite.index)
            if len(finite):
                _box(axes, finite, row)
        left_out = sum(int((~np.isfinite(series)).sum()) for series in values.values())
        axes.set_title(title, loc="left", fontweight="bold")
        note = f"{axis} ({left_out} undefined or infinite not drawn)" if left_out else axis
        axes.set(xlabel=note, xlim=_padded(limits))
        _rows(axes, list(values))
        return to_svg(figure, f"{axis} of {title}: a box and all cases for each method", tips)


def _box(axes: Axes, values: pd.Series, row: int) -> None:
    line = {"color": TEXT, "linewidth": 1}
    axes.boxplot(
        values,
        positions=[row],
        orientation="horizontal",
        widths=0.55,
        showfliers=False,  # every case is drawn already
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops=line | {"linewidth": 2},
    )


def _dots(
    axes: Axes, values: pd.Series, *, row: float, color: int, names: Sequence[str]
) -> dict[str, list[str]]:
    """Draws a dot for each case and returns its tooltip."""
    if not len(values):
        return {}
    # The same case has the same jitter in every row and every report.
    shift = np.random.default_rng(0).uniform(-JITTER, JITTER, len(values))
    collection = axes.scatter(
        values,
        row + shift,
        s=13,
        marker=MARKERS[color % len(MARKERS)],
        color=METHODS[color % len(METHODS)],
        alpha=0.6,
        linewidths=0,
    )
    collection.set_gid(f"row-{row}")
    return {f"row-{row}": [f"{name}: {v:.4g}" for name, v in zip(names, values, strict=True)]}


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _padded(limits: tuple[float, float]) -> tuple[float, float]:
    room = 0.03 * ((limits[1] - limits[0]) or 1.0)
    return limits[0] - room, limits[1] + room


def difference_of_cases(differences: pd.DataFrame, *, metric: str, color: int) -> Markup:
    """Draws the paired difference of every case.

    Args:
        differences: Method minus baseline, cases x classes.
        metric: Name of what differs.
        color: Number of the method.
    """
    names = list(differences.columns)
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(names)), layout="constrained")
        axes, tips = figure.subplots(), {}
        axes.axvline(0, color=TEXT, linewidth=1)
        for row, name in enumerate(names):
            finite = differences[name][np.isfinite(differences[name])]
            tips |= _dots(axes, finite, row=row, color=color, names=finite.index)
        axes.set_title("Every case", loc="left", fontweight="bold")
        axes.set_xlabel(f"Difference in {metric}")
        _rows(axes, names)
        return to_svg(figure, f"Paired difference in {metric} of every case, by class", tips)


def difference_of_means(
    pairs: Sequence[Mapping[str, Any]], *, metric: str, margin: float, color: int
) -> Markup:
    """Draws mean paired differences with their intervals, and the margin of non-inferiority.

    Args:
        pairs: Entries of comparison.json, one for each class.
        metric: Name of what differs.
        margin: Where the interval must not reach; drawn on the worse side of zero.
        color: Number of the method.
    """
    names = [pair["class"] for pair in pairs]
    mean, low, high = (_column(pairs, key) for key in ("difference", "low", "high"))
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=TEXT, linewidth=1)
        axes.axvline(margin, color=TEXT, linewidth=1, linestyle=(0, (3, 2)))
        axes.errorbar(
            mean,
            range(len(names)),
            xerr=np.maximum(np.stack([mean - low, high - mean]), 0),
            fmt=MARKERS[color % len(MARKERS)],
            color=METHODS[color % len(METHODS)],
            capsize=4,
            elinewidth=2,
            markersize=6,
        )
        axes.set_title("Mean and 95% interval", loc="left", fontweight="bold")
        axes.set_xlabel(f"Difference in {metric}; dashed: margin")
        _rows(axes, names)
        return to_svg(figure, f"Mean difference in {metric} with 95% intervals, by class")


def _column(pairs: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if pair[key] is None else pair[key] for pair in pairs], dtype=float)


def losses(curves: Sequence[Curve], *, method: str, color: int) -> Markup:
    """Draws the losses of all folds of a method over epochs.

    Args:
        curves: Curves of the folds.
        method: Name of the method.
        color: Number of the method.
    """
    with drawing():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            for values, line in ((curve.train, (0, (2, 1.5))), (curve.validation, "solid")):
                epochs = np.arange(1, len(values) + 1)
                style = {"color": METHODS[color % len(METHODS)], "alpha": 0.75, "linewidth": 1}
                axes.plot(epochs, values, linestyle=line, **style)
        axes.plot([], [], color=TEXT, linestyle=(0, (2, 1.5)), linewidth=1, label="training")
        axes.plot([], [], color=TEXT, linewidth=1, label="validation")
        axes.legend(fontsize=8)
        axes.set_title(f"Loss: {method}", loc="left", fontweight="bold")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set(xlabel="Epoch", ylabel="Loss")
        return to_svg(figure, f"Losses of {len(curves)} folds of {method} over epochs")


def dice_curves(methods: Mapping[str, Sequence[Curve]], *, over: str) -> Markup:
    """Draws the smoothed validation Dice of all folds of all methods.

    Args:
        methods: Curves of the folds by method; a method without curves keeps its colour.
        over: ``epochs`` or ``hours``.
    """
    with drawing():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        unit, scale = ("Epoch", 1.0) if over == "epochs" else _unit_of_time(methods)
        for i, (method, curves) in enumerate(methods.items()):
            for j, curve in enumerate(curves):
                x = np.arange(1, len(curve.dice) + 1) if over == "epochs" else curve.hours
                axes.plot(
                    np.asarray(x) * scale,
                    curve.dice,
                    color=METHODS[i % len(METHODS)],
                    marker=MARKERS[i % len(MARKERS)],
                    markevery=[-1],
                    markersize=5,
                    linewidth=1.1,
                    alpha=0.8,
                    label=method if j == 0 else None,
                )
        axes.legend(fontsize=8, loc="lower right")
        title = "Validation Dice over epochs" if over == "epochs" else "Validation Dice over time"
        axes.set_title(title, loc="left", fontweight="bold")
        if over == "epochs":
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set(xlabel=unit, ylabel="Smoothed pseudo Dice", ylim=(-0.02, 1.02))
        return to_svg(figure, f"Smoothed validation Dice of all folds over {over}")


def _unit_of_time(methods: Mapping[str, Sequence[Curve]]) -> tuple[str, float]:
    longest = max(curve.hours[-1] for curves in methods.values() for curve in curves)
    if longest >= 2:
        return "Hours of training", 1.0
    return ("Minutes of training", 60.0) if longest * 60 >= 3 else ("Seconds of training", 3600.0)
