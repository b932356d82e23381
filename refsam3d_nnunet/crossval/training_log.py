"""How far a training is, read from the logs that nnU-Net writes into the fold's folder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TAIL = 65536  # bytes from a log's end; an epoch takes some 400
_EPOCH = re.compile(r"^[\d-]+ [\d:.]+: Epoch (\d+) *$", re.MULTILINE)
_TIME = re.compile(r": Epoch time: ([\d.]+) s")
_DICE = re.compile(r": Pseudo dice \[(.*)\]")
_CASE = re.compile(r": predicting (\S+) *$", re.MULTILINE)
_OVER = re.compile(r": Training done\.|: Validation complete|: predicting ")
_VALIDATED = re.compile(r": Mean Validation Dice: +([\d.]+(?:e[+-]?\d+)?|nan)")
_NUMBER = re.compile(r"(?<![\w.])(?:nan|\d+\.?\d*(?:e[+-]?\d+)?)")


@dataclass(frozen=True)
class Progress:
    """How far a fold is.

    Attributes:
        done: Epochs that are over.
        epochs: Epochs of the schedule; 0 as long as it is unknown.
        seconds: What the last epochs took on average; None before the first is over.
        dice: Mean pseudo Dice of the last epoch, or the Dice of the validation once it is over.
        validated: Validation cases that were begun; None while the training goes on.
    """

    done: int = 0
    epochs: int = 0
    seconds: float | None = None
    dice: float | None = None
    validated: int | None = None

    @property
    def eta(self) -> float | None:
        """Seconds to the end of the training; None if nothing is known."""
        if self.seconds is None or not self.epochs:
            return None
        return self.seconds * (self.epochs - self.done)


def read_progress(folder: Path, since: float = 0.0) -> Progress:
    """Reads how far a fold is.

    Args:
        folder: nnU-Net's folder of the fold.
        since: Logs that were last written to before this Unix time are of earlier attempts.

    Returns:
        What the newest log says; nothing but zeros and None if there is none.
    """
    epochs = _epochs(folder / "debug.json")
    logs = [(path.stat().st_mtime, path) for path in folder.glob("training_log_*.txt")]
    fresh = [pair for pair in logs if pair[0] >= since]
    if not fresh:
        return Progress(epochs=epochs)
    return _parse(_tail(max(fresh)[1]), epochs)


def _parse(text: str, epochs: int) -> Progress:
    started = [int(number) for number in _EPOCH.findall(text)]
    times = [float(number) for number in _TIME.findall(text)]
    over = _OVER.search(text) is not None
    done = started[-1] if started else 0
    if started and _TIME.search(text, _last(_EPOCH, text)):
        done += 1
    dices, final = _DICE.findall(text), _VALIDATED.findall(text)
    return Progress(
        done=epochs if over else done,
        epochs=epochs,
        seconds=sum(times[-5:]) / len(times[-5:]) if times else None,
        dice=float(final[-1]) if final else _mean(dices[-1]) if dices else None,
        validated=len(set(_CASE.findall(text))) if over else None,
    )


def _last(pattern: re.Pattern, text: str) -> int:
    return max(match.end() for match in pattern.finditer(text))


def _mean(text: str) -> float | None:
    """Mean of the numbers in a list's text, ``np.float32(0.5)`` counting once."""
    numbers = [float(number) for number in _NUMBER.findall(text)]
    defined = [number for number in numbers if not math.isnan(number)]
    return sum(defined) / len(defined) if defined else None


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode("utf-8", errors="replace")


def _epochs(path: Path) -> int:
    try:
        return _epochs_in(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return 0


@lru_cache(maxsize=64)
def _epochs_in(path: Path, _changed: int) -> int:
    # nnU-Net's log does not say how many epochs there will be; its debug.json does.
    match = re.search(r'"num_epochs": "(\d+)"', path.read_text(encoding="utf-8", errors="replace"))
    return int(match[1]) if match else 0
