"""What the user sees while nnU-Net works: headers, the lines that matter, the time left."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import TextIO

_NUMBER = re.compile(r"(?<![\w.])(nan|\d+\.?\d*(?:e[+-]?\d+)?)")
_TRAINING = re.compile(r"^(Epoch time:|Epoch|train_loss|Pseudo dice|Mean Validation Dice:)\s+(.+)$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+: ")
_WORTH_SHOWING = re.compile(
    r"^RefSAM3D: [^{]|\b(warning|error)\b|^Fingerprint|^Experiment planning|^Preprocessing\.\.",
    re.IGNORECASE,
)
_NOISE = re.compile(r"[{}\"]|Unable to plot|didn't see any error")
_CASE_STARTS = re.compile(r"^perform_everything_on_device: ")


def duration(seconds: float) -> str:
    """Writes a time span for humans, as ``8 s`` or ``2 min 05 s``.

    Args:
        seconds: The span, 0 or more.
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Console:
    """Writes lines to the user at once, so that they appear through a pipe too.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str = "") -> None:
        """Writes one line."""
        self._stream.write(text + "\n")
        self._stream.flush()


class Estimate:
    """Guesses the time left from how long each stage takes on a machine of reference.

    Args:
        expected: Seconds that each stage took there.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self, expected: dict[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._started = 0.0
        self._current = ""
        self._fraction = 0.0
        self._advanced = 0.0
        self._pace = 0.0  # seconds for the whole stage, judged by its last steps
        self.seconds: dict[str, float] = {}

    def start(self, stage: str) -> None:
        """Begins a stage."""
        self._current, self._fraction, self._pace = stage, 0.0, 0.0
        self._started = self._advanced = self._clock()

    def advance(self, fraction: float) -> None:
        """Says how much of the stage is done, 0 to 1; what is no advance is ignored."""
        if fraction <= self._fraction:
            return
        now = self._clock()
        pace = (now - self._advanced) / (fraction - self._fraction)
        # Half of the weight lies on the last step: the load of a machine changes.
        self._pace = (self._pace + pace) / 2 if self._pace else pace
        self._fraction, self._advanced = fraction, now

    def finish(self) -> float:
        """Ends the stage and returns the seconds that it took."""
        self.seconds[self._current] = self._clock() - self._started
        return self.seconds[self._current]

    def elapsed(self) -> float:
        """Seconds since the first stage began, without pauses between stages."""
        running = 0.0
        if self._current and self._current not in self.seconds:
            running = self._clock() - self._started
        return sum(self.seconds.values()) + running

    def remaining(self) -> float:
        """Seconds that the rest should take at the speed seen so far."""
        # A few seconds at reference speed calm the first guesses.
        done = sum(self._expected[stage] for stage in self.seconds) + 10.0
        slowness = (sum(self.seconds.values()) + 10.0) / done
        open_stages = [stage for stage in self._expected if stage not in self.seconds]
        rest = slowness * sum(self._expected[stage] for stage in open_stages)
        if self._current not in open_stages:
            return rest
        whole = slowness * self._expected[self._current]
        here = (self._pace or whole) * (1 - self._fraction)
        return rest - whole + max(here - (self._clock() - self._advanced), 0.0)


class StageOutput:
    """Picks from the output of one of nnU-Net's commands what a user wants to see.

    Args:
        console: Where to show it.
        estimate: Is told how far the stage has come, and asked for the time left.
        steps: Epochs to train or images to predict; 0 if the stage has no steps.
    """

    def __init__(self, console: Console, estimate: Estimate, steps: int = 0) -> None:
        self._console = console
        self._estimate = estimate
        self._steps = steps
        self._done = 0
        self._epoch: dict[str, str] = {}

    def __call__(self, line: str) -> None:
        """Takes one line of output."""
        line = _STAMP.sub("", line)
        match = _TRAINING.search(line)
        if match:
            self._train(match[1], match[2].strip())
        elif _CASE_STARTS.match(line) and self._steps:
            self._done += 1
            self._estimate.advance(self._done / (self._steps + 1))
            left = duration(self._estimate.remaining())
            self._console.line(f"  image {self._done}/{self._steps}, about {left} left")
        elif _WORTH_SHOWING.search(line) and not _NOISE.search(line):
            self._console.line(f"  {line.strip()}")

    def _train(self, key: str, value: str) -> None:
        if key == "Mean Validation Dice:":
            scores = _numbers(value)
            if scores:
                self._console.line(f"  Dice {scores[0]:.3f} on nnU-Net's own validation cases")
            return
        self._epoch[key] = value
        if key != "Epoch time:" or "Epoch" not in self._epoch:
            return
        number = int(self._epoch["Epoch"]) + 1
        self._estimate.advance(number / (self._steps + 1))  # 1: the validation that follows
        dice = _numbers(self._epoch.get("Pseudo dice", ""))
        shown = " ".join(f"{d:.2f}" for d in dice)
        self._console.line(
            f"  epoch {number:{len(str(self._steps))}d}/{self._steps}"
            f"  loss {self._epoch.get('train_loss', '?'):>7}"
            f"  Dice {_mean(dice)} [{shown}]  {value}"
            f", about {duration(self._estimate.remaining())} left"
        )


def _numbers(text: str) -> list[float]:
    """Numbers in the text of a list; ``np.float32(0.5)`` counts once."""
    return [float(number) for number in _NUMBER.findall(text)]


def _mean(values: list[float]) -> str:
    defined = [value for value in values if not math.isnan(value)]
    return f"{sum(defined) / len(defined):.3f}" if defined else "-"
