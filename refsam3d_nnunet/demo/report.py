"""The demo's result in words and numbers: scores by class, settings, times."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from refsam3d_nnunet.files import replacing

MEAN = "mean of the classes"
PACKAGES = ("refsam3d_nnunet", "nnunetv2", "torch", "numpy")

# What the report takes from the trainer's record, and where it is there.
TRAINER_FACTS = {
    "patch": "patch_size",
    "batch": "batch_size",
    "image encoder": "preset",
    "weights from": "weights.from",
    "tuning": "tuning",
    "text encoder": "text.encoder",
    "parameters": "parameters",
    "parameters trained": "parameters_tuned",
    "precision": "precision",
}


class Score(NamedTuple):
    """Dice of one class over the held-out cases; NaN where no case has the class.

    Attributes:
        name: The class.
        mean: Mean over the cases.
        low: Worst case.
        high: Best case.
        cases: Cases that count: the class is in the truth or in the prediction.
    """

    name: str
    mean: float
    low: float
    high: float
    cases: int


def read_scores(summary: Path, description: Mapping) -> list[Score]:
    """Reads what ``nnUNetv2_evaluate_folder`` has written.

    Args:
        summary: The ``summary.json``.
        description: Content of the data set's ``dataset.json``, for the names of the classes.

    Returns:
        A score for each foreground class or region in the order of the data set's labels, and
        last the mean over the classes: of their means, of their worst and of their best cases.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the summary has no case, or lacks a class that the data set names.
    """
    cases = json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]
    if not cases:
        raise ValueError(f"{summary} has no case; were any images predicted?")
    scores = []
    for name, key in class_keys(description).items():
        if any(key not in case["metrics"] for case in cases):
            raise ValueError(f"{summary} has no scores for {name!r} (key {key!r})")
        dice = _defined([case["metrics"][key]["Dice"] for case in cases])
        low, high = (min(dice), max(dice)) if dice else (math.nan, math.nan)
        scores.append(Score(name, _mean(dice), low, high, len(dice)))
    return [*scores, _summarise(scores, len(cases))]


def case_means(summary: Path, file_ending: str) -> dict[str, float]:
    """Mean Dice over the classes of each case, by the case's name.

    Args:
        summary: The ``summary.json``.
        file_ending: Ending of the label maps, such as ``.nii.gz``.
    """
    means = {}
    for case in json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]:
        name = Path(case["prediction_file"]).name.removesuffix(file_ending)
        means[name] = _mean(_defined([metric["Dice"] for metric in case["metrics"].values()]))
    return means


def class_keys(description: Mapping) -> dict[str, str]:
    """Maps the foreground classes of a data set to their keys in a ``summary.json``.

    Args:
        description: Content of ``dataset.json``.
    """
    return {name: str(members) for name, members in classes(description).items()}


def classes(description: Mapping) -> dict[str, int | tuple[int, ...]]:
    """Foreground classes of a data set: a number each, or the numbers that a region unites.

    Args:
        description: Content of ``dataset.json``.
    """
    labels = {name: value for name, value in description["labels"].items() if name != "ignore"}
    regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    found = {}
    for name, value in labels.items():
        members = tuple(map(int, value)) if isinstance(value, list) else (int(value),)
        if set(members) != {0}:
            # nnU-Net reads [1] as a region if any class is one, and as the number 1 otherwise.
            found[name] = members if regions and isinstance(value, list) else members[0]
    return found


def _summarise(scores: Sequence[Score], n_cases: int) -> Score:
    defined = [score for score in scores if score.cases]
    mean, low, high = (_mean([score[i] for score in defined]) for i in (1, 2, 3))
    return Score(MEAN, mean, low, high, n_cases)


def _defined(values: Sequence[float | None]) -> list[float]:
    """Without the NaN that nnU-Net gives a class that neither truth nor prediction has."""
    return [value for value in values if value is not None and not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def score_table(scores: Sequence[Score]) -> str:
    """Writes scores as a Markdown table that reads well in a terminal too.

    Args:
        scores: What :func:`read_scores` returns.
    """
    head = ("class", "mean Dice", "min", "max", "cases")
    rows = [(s.name, *map(_dice, (s.mean, s.low, s.high)), str(s.cases)) for s in scores]
    return _table(head, rows)


def write_report(
    path: Path,
    scores: Sequence[Score],
    *,
    facts: Mapping[str, str],
    seconds: Mapping[str, float],
    commands: Sequence[str],
    picture: str,
) -> None:
    """Writes the report as Markdown.

    Args:
        path: Where to write it.
        scores: What :func:`read_scores` returns.
        facts: Settings, versions and machine.
        seconds: Time of each stage.
        commands: Commands that were run, as a user would type them.
        picture: Address of the picture, relative to the report.
    """
    times = [(name, f"{value:.0f}") for name, value in seconds.items()]
    times.append(("sum", f"{sum(seconds.values()):.0f}"))
    sections = [
        "# RefSAM3D demo",
        f"Dice of the held-out cases, {scores[-1].name}: **{_dice(scores[-1].mean)}**. "
        "No held-out case was seen in training or planning.",
        score_table(scores),
        f"![Truth and prediction]({picture})",
        "Solid: truth. Dashed: prediction. Each plane is the one that shows most classes.",
        "## Settings",
        _table(("setting", "value"), list(facts.items())),
        "## Seconds",
        _table(("stage", "seconds"), times),
        "## Commands",
        "```\n" + "\n".join(commands) + "\n```",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def model_facts(model: Path) -> dict[str, str]:
    """Names what the trainer chose, from the record that it leaves in the folder of a fold.

    Args:
        model: Folder that nnU-Net trained into.

    Returns:
        Facts in words; none if there is no record.
    """
    records = sorted(model.glob("fold_*/refsam3d_run.json"))
    if not records:
        return {}
    record = json.loads(records[0].read_text(encoding="utf-8"))
    found = {name: _dig(record, path.split(".")) for name, path in TRAINER_FACTS.items()}
    return {name: str(value) for name, value in found.items() if value is not None}


def _dig(record: object, path: Sequence[str]) -> object:
    """Value at a path of keys; None where the record has no such thing."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def versions(device: str) -> dict[str, str]:
    """Names the software and the machine that a result comes from.

    Args:
        device: Where the model ran.
    """
    facts = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if device == "cuda":
        import torch

        facts["machine"] += f", {torch.cuda.get_device_name()}"
    return facts


def _dice(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    numeric = [i > 0 and all(_is_number(row[i]) for row in rows) for i in range(len(head))]

    def write(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * (width + 1) + ":" if right else "-" * (width + 2)
        for width, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([write(head), f"|{'|'.join(rule)}|", *map(write, rows)])


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit() or text == "-"
