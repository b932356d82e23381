"""The line at the bottom of a terminal that shows how a training goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from tqdm import tqdm

BAR = "{desc}: {percentage:3.0f}%|{bar:20}| {rate_fmt}, {remaining} left{postfix}"
INTERVAL = 0.2  # seconds between two drawings


class TrainingBar:
    """Shows epoch, steps a second, time left, loss and Dice while a training runs.

    The bar counts the steps of the whole training. Rate and time left are averages since the
    start of this process, with the pauses for validation and checkpoints, so that the time left
    is that of the whole. Between epochs the bar makes room for nnU-Net's own lines. Nothing is
    shown where the stream is no terminal.

    Args:
        epochs: Of the schedule.
        steps: Of an epoch.
        rank: Of the process; only the first of several shows anything.
        stream: Where to draw; standard error if None, as standard output is often redirected.
    """

    def __init__(
        self, epochs: int, steps: int, *, rank: int = 0, stream: TextIO | None = None
    ) -> None:
        self._epochs = epochs
        self._steps = steps
        self._stream = stream
        self._silent = True if rank != 0 else None  # tqdm's word for: unless it is a terminal
        self._bar: tqdm | None = None
        self._dice = ""

    def start_epoch(self, epoch: int, dices: Sequence[float] = ()) -> None:
        """Shows the bar for an epoch.

        Args:
            epoch: Which one, from 0.
            dices: Mean Dice of the epochs before it.
        """
        done, name = epoch * self._steps, f"epoch {epoch + 1}/{self._epochs}"
        self._dice = f", Dice {dices[-1]:.3f}" if dices else ""
        if self._bar is None:
            self._bar = tqdm(
                desc=name,
                total=self._epochs * self._steps,
                initial=done,
                file=self._stream,
                disable=self._silent,
                bar_format=BAR,
                unit="step",
                smoothing=0,
                mininterval=INTERVAL,
                miniters=1,  # else tqdm's watchdog redraws the bar into nnU-Net's lines
                leave=False,
                dynamic_ncols=True,
            )
        self._bar.n = done
        self._bar.set_description_str(name)

    def step(self, loss: float) -> None:
        """Counts a step.

        Args:
            loss: Of this step.
        """
        bar = self._bar
        if bar is None or bar.disable:
            return
        bar.set_postfix_str(f"loss {float(loss):.3f}{self._dice}", refresh=False)
        bar.update()
        if bar.n % self._steps == 0:
            bar.clear()
        if bar.n == bar.total:
            bar.close()
