"""Trainings that an earlier accuracy.json has, so that no one has to make them again."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refsam3d_nnunet.crossval.dataset import read_json

# Settings without which seconds and learning curves of two studies cannot be compared.
SHARED = ("device", "clock", "val_iterations")

Json = dict[str, Any]
# Data set, method, budget, seed and fold of a training.
Key = tuple[str, str, str, int, int]


class Earlier(NamedTuple):
    """Trainings of earlier studies.

    Args:
        runs: As accuracy.json has them, each with the "machine" that it ran on.
        sets: What was said of their data sets.
    """

    runs: dict[Key, Json]
    sets: Json


def taken_over(asked: Iterable[list[str]], settings: Mapping[str, Any]) -> Earlier:
    """Reads what ``--take-over FILE METHOD ...`` asks for.

    Args:
        asked: File and methods, once per use of the option.
        settings: Of this study.

    Raises:
        ValueError: If a file has no training of a method, or its study watched the clock or the
            validation patches in another way.
    """
    earlier = Earlier({}, {})
    for file, *methods in asked:
        result = read_json(Path(file))
        there = result["settings"]
        if differing := [
            f"{key}: {there.get(key)} there, {settings[key]} here"
            for key in SHARED
            if there.get(key) != settings[key]
        ]:
            raise ValueError(f"--take-over {file}: other settings ({'; '.join(differing)})")
        for method in methods:
            runs = [run for run in result["runs"] if run["method"] == method]
            if not runs:
                known = ", ".join(sorted({run["method"] for run in result["runs"]}))
                raise ValueError(f"--take-over {file} {method}: there are trainings of {known}")
            for run in runs:
                earlier.runs[key_of(run)] = {"machine": result["machine"]} | run
        earlier.sets.update(result["sets"])
    return earlier


def key_of(run: Json) -> Key:
    """What tells a training from all others."""
    return run["set"], run["method"], run["budget"], run["seed"], run["fold"]


def check_same_set(label: str, told: Json, before: Json) -> None:
    """Refuses to compare trainings on other voxels, or with other cases in a fold.

    Args:
        label: Name of the data set.
        told: What this study says of it.
        before: What the earlier one said.

    Raises:
        ValueError: If spacing or folds differ.
    """
    shared = set(told["folds"]) & set(before["folds"])
    if told["spacing"] != before["spacing"] or any(
        told["folds"][number] != before["folds"][number] for number in shared
    ):
        raise ValueError(f"--take-over: {label} had another spacing or other folds there")
