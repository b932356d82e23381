"""How long a fold was trained, by what its training wrote into its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsam3d_nnunet.evaluation.table import Evaluation, read_object

MERGED = "crossval_results_folds_"  # nnU-Net's folders with the validation cases of some folds


@dataclass(frozen=True, order=True)
class Schedule:
    """Length of a training.

    Attributes:
        epochs: Number of epochs.
        steps: Steps of the optimiser in an epoch.
    """

    epochs: int
    steps: int

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps

    def __str__(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{epochs} of {self.steps} step{'s' * (self.steps != 1)}"


def read_schedule(folder: Path) -> Schedule | None:
    """Reads how long a fold was to be trained when its training was last started.

    Args:
        folder: nnU-Net's folder of the fold, with its debug.json or our refsam3d_run.json.

    Returns:
        None if neither can be read, or does not say.
    """
    debug = _read(folder / "debug.json")
    run = _read(folder / "refsam3d_run.json").get("schedule")
    run = run if isinstance(run, Mapping) else {}
    return _schedule(debug.get("num_epochs"), debug.get("num_iterations_per_epoch")) or _schedule(
        run.get("num_epochs"), run.get("iterations_per_epoch")
    )


def shared_schedules(methods: Mapping[str, Iterable[Path]]) -> dict[str, Schedule]:
    """Reads how long methods were trained.

    Args:
        methods: Method -> nnU-Net's folders of its folds.

    Returns:
        Of the methods of which it is known, and the same for all folds of which it is.
    """
    found = {}
    for name, folders in methods.items():
        known = {schedule for folder in folders if (schedule := read_schedule(folder))}
        if len(known) == 1:
            found[name] = known.pop()
    return found


def schedules_of(evaluations: Mapping[str, Evaluation]) -> dict[str, Schedule]:
    """Reads how long evaluated methods were trained, if their predictions lie where nnU-Net's do.

    Args:
        evaluations: Method -> its metrics. Predictions in ``MODEL/crossval_results_folds_0_1`` or
            ``MODEL/fold_0/validation`` lead to the folds.

    Returns:
        As :func:`shared_schedules`.
    """
    paths = {name: Path(one.info.get("prediction") or "") for name, one in evaluations.items()}
    return shared_schedules({name: _folds_behind(path) for name, path in paths.items()})


def _folds_behind(prediction: Path) -> list[Path]:
    if prediction.name == "validation":
        return [prediction.parent]
    if not prediction.name.startswith(MERGED):
        return []
    numbers = prediction.name.removeprefix(MERGED).split("_")
    return [prediction.parent / f"fold_{number}" for number in numbers]


def _read(path: Path) -> dict[str, Any]:
    """Content of a file; nothing of one that is missing or damaged: a killed job may leave it."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _schedule(epochs: object, steps: object) -> Schedule | None:
    # nnU-Net writes numbers as text.
    try:
        found = Schedule(int(str(epochs)), int(str(steps)))
    except ValueError:
        return None
    return found if min(found.epochs, found.steps) > 0 else None
