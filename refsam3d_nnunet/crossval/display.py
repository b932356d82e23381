"""What the user sees: bars of the running folds on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TextIO

from tqdm import tqdm

from refsam3d_nnunet.crossval.folds import Fold
from refsam3d_nnunet.crossval.training_log import Progress

BAR = "{desc}: {percentage:3.0f}%|{bar:10}| epoch {n_fmt}/{total_fmt}{postfix}"
LINES = 10  # plain lines a training gets


class Display:
    """Shows what happens to the folds.

    Args:
        stream: Where; bars are drawn if it is a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._bars: dict[Fold, tqdm] = {}
        self._told: dict[Fold, tuple[int, bool]] = {}

    def line(self, text: str = "") -> None:
        """Writes one line, above the bars if there are any."""
        if self._live:
            tqdm.write(text, file=self._stream)
            return
        self._stream.write(text + "\n")
        self._stream.flush()

    def progress(self, fold: Fold, progress: Progress) -> None:
        """Shows how far a running fold is."""
        if self._live:
            self._draw(fold, progress)
            return
        step = max(1, progress.epochs // LINES)
        now = (progress.done // step, progress.validated is not None)
        if now != self._told.get(fold, (0, False)):
            self._told[fold] = now
            self.line(f"{fold.title}: {describe(progress, len(fold.cases))}")

    def ended(self, fold: Fold, text: str) -> None:
        """Says how a fold ended, and takes its bar away."""
        bar = self._bars.pop(fold, None)
        if bar is not None:
            bar.close()
        self._told.pop(fold, None)
        self.line(f"{fold.title}: {text}")

    def close(self) -> None:
        """Takes all bars away."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def _draw(self, fold: Fold, progress: Progress) -> None:
        bar = self._bars.get(fold)
        if bar is None:
            bar = self._bars[fold] = tqdm(
                desc=fold.title, file=self._stream, bar_format=BAR, leave=False, dynamic_ncols=True
            )
        bar.total = progress.epochs or None
        bar.n = progress.done
        bar.set_postfix_str(_details(progress, len(fold.cases)), refresh=True)


def describe(progress: Progress, cases: int) -> str:
    """Words how far a fold is, as ``epoch 3/20, 12.1 s an epoch, 3:26 left, Dice 0.712``.

    Args:
        progress: How far it is.
        cases: Number of validation cases.
    """
    total = f"/{progress.epochs}" if progress.epochs else ""
    details = _details(progress, cases)
    return f"epoch {progress.done}{total}" + (f", {details}" if details else "")


def _details(progress: Progress, cases: int) -> str:
    parts = []
    if progress.validated is not None:
        parts.append(f"validating case {progress.validated}/{cases}")
    elif progress.seconds is not None:
        parts.append(f"{progress.seconds:.1f} s an epoch")
        if progress.eta is not None:
            parts.append(f"{tqdm.format_interval(progress.eta)} left")
    if progress.dice is not None:
        parts.append(f"Dice {progress.dice:.3f}")
    return ", ".join(parts)
