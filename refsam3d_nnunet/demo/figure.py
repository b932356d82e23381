"""The demo's picture: truth and prediction drawn over slices of the held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from refsam3d_nnunet.files import replacing

MAX_CASES = 4
MAX_LEGEND = 24
PANEL_INCHES = 3.0
# Bright enough for a dark image, and told apart by most colour-blind readers.
PALETTE = (
    "#4da6ff",
    "#ffa640",
    "#5fd068",
    "#ff5c5c",
    "#c58cff",
    "#ffe14d",
    "#ff8ad8",
    "#4de0d8",
    "#b8e05a",
    "#d9a679",
)


class HeldOut(NamedTuple):
    """Files of a held-out case.

    Attributes:
        title: What to write beside it.
        image: The image, or its first channel.
        truth: Its label map.
        prediction: The predicted label map.
    """

    title: str
    image: Path
    truth: Path
    prediction: Path


class _Volume(NamedTuple):
    """Arrays ``z y x`` with axes along S, P, L and voxel sizes in mm in the same order."""

    image: NDArray
    truth: NDArray
    prediction: NDArray
    spacing: tuple[float, float, float]


# Axis that a plane cuts, its name, and the letters at the left and right of the panel.
PLANES = ((0, "axial", "RL"), (1, "coronal", "RL"), (2, "sagittal", "AP"))


def save_slices(
    path: Path, cases: Sequence[HeldOut], classes: Mapping[str, int | tuple[int, ...]]
) -> None:
    """Draws three planes of up to four cases, as a radiologist sees them: patient right at left.

    Each plane is the one that shows most classes of the truth, and of these the one nearest to
    the centre of the foreground.

    Args:
        path: The PNG file to write.
        cases: Held-out cases; those after the fourth are left out.
        classes: The label of each class, or the labels that a region unites.

    Raises:
        ValueError: If there is no case.
    """
    if not cases:
        raise ValueError("no held-out case to draw")
    figure = _draw(cases[:MAX_CASES], classes)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _draw(cases: Sequence[HeldOut], classes: Mapping[str, int | tuple[int, ...]]) -> Figure:
    colors = _colors(list(classes))
    width, height = PANEL_INCHES * len(PLANES) + 0.5, PANEL_INCHES * len(cases) + 0.9
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(len(cases), len(PLANES), squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        volume = _read(case)
        row[0].set_ylabel(case.title)
        for panel, (axis, _, sides) in zip(row, PLANES, strict=True):
            _draw_plane(panel, volume, axis, classes=classes, colors=colors)
            _mark_sides(panel, sides)
    for panel, (_, name, _) in zip(axes[0], PLANES, strict=True):
        panel.set_title(name)
    figure.legend(handles=_legend(colors), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _read(case: HeldOut) -> _Volume:
    """Reads a case into one orientation, whatever that of its files."""
    files = (case.image, case.truth, case.prediction)
    images = [SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(file)), "LPS") for file in files]
    return _Volume(*map(SimpleITK.GetArrayFromImage, images), images[0].GetSpacing()[::-1])


def _draw_plane(
    panel: Axes,
    volume: _Volume,
    axis: int,
    *,
    classes: Mapping[str, int | tuple[int, ...]],
    colors: Mapping[str, tuple],
) -> None:
    index = _best_slice(volume.truth, axis, classes)
    image, truth, prediction = (np.take(a, index, axis) for a in volume[:3])
    step_y, step_x = (s for i, s in enumerate(volume.spacing) if i != axis)
    # Rows of an axial slice run to posterior, downwards; those of the others to superior, upwards.
    origin = "upper" if axis == 0 else "lower"
    low, high = np.percentile(volume.image, (1, 99.5))
    view = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "nearest"}
    panel.imshow(image, origin=origin, aspect=step_y / step_x, **view)
    limits = {"xlim": panel.get_xlim(), "ylim": panel.get_ylim()}
    for name, members in classes.items():
        for mask, style in ((truth, "solid"), (prediction, "dashed")):
            _outline(panel, np.isin(mask, members), colors[name], style)
    panel.set(xticks=[], yticks=[], **limits)


def _outline(panel: Axes, mask: NDArray[np.bool_], color: tuple, style: str) -> None:
    if not mask.any():
        return
    padded = np.pad(mask, 1)  # closes outlines at the border of the image
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    line = {"linewidths": 1.3, "colors": [color]}
    if style == "dashed":
        lighter = tuple(0.35 * c + 0.65 for c in color[:3])
        line = {"linewidths": 1.1, "colors": [lighter], "linestyles": [(0, (2.5, 2))]}
    panel.contour(columns, rows, padded.astype(float), levels=[0.5], **line)


def _best_slice(truth: NDArray, axis: int, classes: Mapping[str, int | tuple[int, ...]]) -> int:
    """Index along ``axis`` of the slice that shows most classes, the most central of them."""
    across = tuple(i for i in range(truth.ndim) if i != axis)
    members = [np.isin(truth, labels) for labels in classes.values()]
    area = np.array([mask.sum(axis=across) for mask in members])  # class, slice
    if not area.any():
        return truth.shape[axis] // 2
    # A class counts where it is cut well, not where it is only touched.
    shown = (area > 0.4 * area.max(axis=1, keepdims=True)).sum(axis=0)
    foreground = area.sum(axis=0)
    center = np.average(np.arange(truth.shape[axis]), weights=foreground)
    candidates = np.flatnonzero(shown == shown.max())
    return int(candidates[np.argmin(np.abs(candidates - center))])


def _mark_sides(panel: Axes, sides: str) -> None:
    for x, letter, side in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
        place = {"ha": side, "va": "center", "transform": panel.transAxes}
        text = panel.text(x, 0.5, letter, color="white", fontsize=9, **place)
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _colors(names: Sequence[str]) -> dict[str, tuple]:
    return {name: to_rgb(PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}


def _legend(colors: Mapping[str, tuple]) -> list[Line2D]:
    shown = list(colors.items())[:MAX_LEGEND]
    lines = [Line2D([], [], color=color, linewidth=3, label=name) for name, color in shown]
    lines.append(Line2D([], [], color="0.2", label="truth"))
    dashed = {"color": "0.4", "linestyle": (0, (2.5, 2))}
    return [*lines, Line2D([], [], label="prediction", **dashed)]
