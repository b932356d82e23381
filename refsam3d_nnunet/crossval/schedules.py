"""All folds of a method are trained for equally long, or nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refsam3d_nnunet.comparison.schedule import Schedule, read_schedule
from refsam3d_nnunet.crossval.dataset import Dataset, read_json
from refsam3d_nnunet.crossval.folds import Fold, Method, Stage, stage_of
from refsam3d_nnunet.crossval.locks import is_held
from refsam3d_nnunet.environment import read_settings
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE

OURS = "RefSAM3DTrainer"  # of other trainers, only finished folds tell how long they train
VARIABLES = {"epochs": "REFSAM3D_NUM_EPOCHS", "steps": "REFSAM3D_ITERATIONS_PER_EPOCH"}
WORDS = {
    Stage.TRAIN: "to be trained for",
    Stage.CONTINUE: "to go on to",
    Stage.VALIDATE: "trained for",
    Stage.DONE: "trained for",
}


@dataclass(frozen=True)
class _Length:
    """How long a fold was, or would be, trained; None where nobody knows."""

    fold: Fold
    stage: Stage
    schedule: Schedule | None


def check_schedules(dataset: Dataset, folds: Sequence[Fold]) -> list[Fold]:
    """Refuses to put folds of one method together that are trained for different lengths.

    A finished fold has the length that its training wrote down; one that is to go on has it too,
    unless the environment asks for another. What RefSAM3DTrainer would do with a new one is in its
    plans and the environment; what another trainer would do is not known.

    Args:
        dataset: What is trained on.
        folds: All folds of all methods.

    Returns:
        The finished folds whose length is not known.

    Raises:
        ValueError: If folds of a method differ in epochs or steps per epoch; the message names
            them and what to do. Or if a variable of the schedule is wrong.
    """
    lengths = [_length_of(dataset, fold) for fold in folds]
    for method in dict.fromkeys(fold.method for fold in folds):
        known = [one for one in lengths if one.fold.method == method and one.schedule]
        if len({one.schedule for one in known}) > 1:
            raise ValueError(_refusal(method, known))
    return [one.fold for one in lengths if one.schedule is None and _is_trained(one)]


def _length_of(dataset: Dataset, fold: Fold) -> _Length:
    stage = stage_of(fold)
    written = read_schedule(fold.folder)
    if stage in (Stage.VALIDATE, Stage.DONE) or is_held(fold.lock):
        return _Length(fold, stage, written)
    new = stage is Stage.TRAIN
    if fold.method.trainer != OURS:
        return _Length(fold, stage, None if new else written)
    start = _planned(dataset, fold.method) if new else _numbers(written)
    asked = {**start, **read_settings().schedule()}
    epochs, steps = asked.get("num_epochs"), asked.get("iterations_per_epoch")
    return _Length(fold, stage, Schedule(int(epochs), int(steps)) if epochs and steps else None)


def _planned(dataset: Dataset, method: Method) -> Mapping[str, float]:
    """Numbers of a plan's schedule; plans that are not ours get those of the trainer."""
    plans = read_json(dataset.preprocessed / f"{method.plans}.json")
    return {**DEFAULT_SCHEDULE, **plans.get("refsam3d", {}).get("schedule", {})}


def _numbers(schedule: Schedule | None) -> Mapping[str, float]:
    if schedule is None:
        return {}
    return {"num_epochs": schedule.epochs, "iterations_per_epoch": schedule.steps}


def _is_trained(length: _Length) -> bool:
    return length.stage in (Stage.VALIDATE, Stage.DONE)


def _refusal(method: Method, known: Sequence[_Length]) -> str:
    groups: dict[tuple[str, Schedule], list[_Length]] = {}
    for one in known:
        groups.setdefault((WORDS[one.stage], one.schedule), []).append(one)
    told = [
        f"{_named([one.fold for one in group])} {_verb(group)} {words} {schedule}"
        for (words, schedule), group in groups.items()
    ]
    return (
        f"{method.name}: {'; '.join(told)}. Folds that are trained for different lengths are not "
        f"put together. {' '.join(_ways_out(method, known))}"
    )


def _verb(group: Sequence[_Length]) -> str:
    many = len(group) > 1
    if _is_trained(group[0]):
        return "were" if many else "was"
    return "are" if many else "is"


def _ways_out(method: Method, known: Sequence[_Length]) -> list[str]:
    """What to do: have the trained folds trained again, or the others trained as they were."""
    trained = [one for one in known if _is_trained(one)]
    lengths = {one.schedule for one in trained}
    if len(lengths) > 1 or not trained:
        folders = [one.fold for one in trained or known]
        return [
            "Delete the folders of those that do not have the length you want, and they are "
            f"trained again: {_folders(folders)}."
        ]
    again = f"Delete {_folders([one.fold for one in trained])} to train"
    ways = [f"{again} {'them' if len(trained) > 1 else 'it'} again"]
    if method.trainer == OURS:
        (length,) = lengths
        values = " ".join(f"{name}={getattr(length, key)}" for key, name in VARIABLES.items())
        ways.append(f"or set {values} to train the others as long")
    return [f"{', '.join(ways)}."]


def _folders(folds: Sequence[Fold]) -> str:
    return ", ".join(str(fold.folder) for fold in folds)


def _named(folds: Sequence[Fold]) -> str:
    numbers = ", ".join(str(fold.number) for fold in folds)
    return f"fold{'s' * (len(folds) > 1)} {numbers}"
