"""Learning curves of trained folds, from nnU-Net's checkpoints or its logs."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint

# Lines of a log begin with date and time: "2026-01-31 12:00:00.123456: train_loss -0.5".
_LINE = re.compile(r"^\S+ \S+: (Epoch time:|Epoch|train_loss|val_loss|Pseudo dice) (.+)")
_TYPE = re.compile(r"np\.float\d+")
_NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?|nan")


class Curve(NamedTuple):
    """What one fold learned, one value per epoch.

    Attributes:
        fold: The fold.
        train: Training loss.
        validation: Validation loss.
        dice: nnU-Net's pseudo Dice of validation patches, smoothed over epochs.
        hours: Hours of training at the end of the epoch; pauses do not count.
        source: The file that was read.
    """

    fold: str
    train: list[float]
    validation: list[float]
    dice: list[float]
    hours: list[float]
    source: Path


def read_curves(model: Path) -> list[Curve]:
    """Reads the curves of all folds that have any.

    A checkpoint is preferred, the last one over the latest; the log is read where there is none.

    Args:
        model: Folder that nnU-Net trained into, with a folder for each fold.
    """
    folds = sorted(model.glob("fold_*"), key=lambda folder: (len(folder.name), folder.name))
    return [curve for folder in folds if (curve := _read_fold(folder))]


def _read_fold(folder: Path) -> Curve | None:
    fold = folder.name.removeprefix("fold_")
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        path = folder / name
        if path.is_file() and (logging := _read_checkpoint(path)):
            return _curve(fold, logging, path)
    logs = sorted(folder.glob("training_log_*.txt"))
    return _read_logs(fold, logs) if logs else None


def _read_checkpoint(path: Path) -> Mapping[str, Sequence[float]] | None:
    """The logging part alone: weights are mapped, not read. None if the file is damaged."""
    try:
        logging = read_nnunet_checkpoint(path, ["logging"])["logging"]
        return logging if logging["train_losses"] else None
    except (ValueError, LookupError, TypeError):
        return None


def _curve(fold: str, logging: Mapping[str, Sequence[float]], path: Path) -> Curve:
    # An epoch that was stopped in its middle has a start and no end.
    spans = zip(logging["epoch_start_timestamps"], logging["epoch_end_timestamps"], strict=False)
    return _cut(
        fold,
        source=path,
        train=logging["train_losses"],
        validation=logging["val_losses"],
        dice=logging["ema_fg_dice"],
        seconds=[end - start for start, end in spans],
    )


def _read_logs(fold: str, logs: Sequence[Path]) -> Curve | None:
    """Reads logs in the order of their time; an epoch that was repeated counts as repeated."""
    epochs: dict[int, dict[str, float]] = {}
    epoch = 0
    for line in itertools.chain.from_iterable(map(_lines, logs)):
        match = _LINE.search(line)
        numbers = [float(n) for n in _NUMBER.findall(_TYPE.sub("", match[2]))]
        if not numbers:
            continue
        if match[1] == "Epoch":
            epoch = int(numbers[0])
        defined = [n for n in numbers if not math.isnan(n)]
        epochs.setdefault(epoch, {})[match[1]] = float(np.mean(defined)) if defined else 0.0
    names = ("train_loss", "val_loss", "Pseudo dice", "Epoch time:")
    whole = [values for _, values in sorted(epochs.items()) if set(names) <= set(values)]
    if not whole:
        return None
    columns = {name: [values[name] for values in whole] for name in names}
    return _cut(
        fold,
        source=logs[-1],
        train=columns["train_loss"],
        validation=columns["val_loss"],
        dice=_smooth(columns["Pseudo dice"]),
        seconds=columns["Epoch time:"],
    )


def _lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if _LINE.search(line)]


def _smooth(dice: Sequence[float]) -> list[float]:
    """As nnU-Net smooths it: 0.9 of the past and 0.1 of the present."""
    return list(itertools.accumulate(dice, lambda past, now: 0.9 * past + 0.1 * now))


def _cut(fold: str, *, source: Path, seconds: Sequence[float], **values: Sequence[float]) -> Curve:
    """Makes a curve of the epochs that all values cover."""
    n = min(len(seconds), *map(len, values.values()))
    hours = list(itertools.accumulate(seconds[:n]))
    plain = {name: [float(v) for v in series[:n]] for name, series in values.items()}
    return Curve(fold, hours=[float(h) / 3600 for h in hours], source=source, **plain)
