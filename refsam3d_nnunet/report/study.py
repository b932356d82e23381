"""Reads the folder of a cross-validation: what was compared, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refsam3d_nnunet.comparison.cautions import about_schedules
from refsam3d_nnunet.comparison.schedule import read_schedule, shared_schedules
from refsam3d_nnunet.evaluation.table import Evaluation, read_evaluation, read_object

RECORD = "crossval.json"


@dataclass(frozen=True, eq=False)
class Method:
    """A trainer with its plans, evaluated.

    Args:
        name: Its folder in the cross-validation, ``TRAINER__PLANS``.
        label: The shortest name that tells it from the others.
        evaluation: Metrics of the validation cases of all folds.
        model_folder: What nnU-Net trained into; None if that is gone.
        folds: State, seconds and attempts of each fold, from crossval.json.
    """

    name: str
    label: str
    evaluation: Evaluation
    model_folder: Path | None
    folds: Mapping[str, Mapping[str, Any]]

    @property
    def fold_folders(self) -> dict[str, Path]:
        """nnU-Net's folder of each fold; none where the model is gone."""
        model = self.model_folder
        return {key: model / f"fold_{key}" for key in self.folds} if model else {}

    @property
    def file_ending(self) -> str:
        """Ending of the label maps; that of NIfTI where the model's dataset.json is gone."""
        path = (self.model_folder or Path()) / "dataset.json"
        described = read_object(path) if self.model_folder and path.is_file() else {}
        return str(described.get("file_ending", ".nii.gz"))


@dataclass(frozen=True, eq=False)
class Study:
    """A cross-validation.

    Args:
        folder: Where it lies.
        record: Content of crossval.json.
        methods: Methods that have been evaluated, the baseline of the comparison last.
        comparison: Content of comparison.json; None if there is none.
        missing: What the report leaves out, and why; later steps add to it.
        warnings: What a reader must know before he believes the numbers; likewise.
    """

    folder: Path
    record: Mapping[str, Any]
    methods: list[Method]
    comparison: Mapping[str, Any] | None
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """Name of the data set, such as Dataset004_Hippocampus."""
        return str(self.record.get("dataset") or self.methods[0].evaluation.info.get("dataset"))

    @property
    def configuration(self) -> str:
        """The configuration of nnU-Net, such as 3d_fullres."""
        return str(self.record.get("configuration") or "")

    @property
    def metric(self) -> str:
        """The metric that the methods are compared by."""
        return str((self.comparison or {}).get("metric") or "dice")


def read_study(folder: Path) -> Study:
    """Reads a cross-validation, finished or not.

    Args:
        folder: Folder with a crossval.json and the evaluated methods beside it.

    Raises:
        FileNotFoundError: If there is no such folder, or no crossval.json in it.
        ValueError: If crossval.json is damaged, or no method has been evaluated yet.
    """
    if not (folder / RECORD).is_file():
        raise FileNotFoundError(
            f"{folder} has no {RECORD}: wanted is the folder that `refsam3d crossval` wrote. "
            f"For folders of `refsam3d evaluate`, `refsam3d compare` writes tables."
        )
    record = read_object(folder / RECORD)
    entries = _entries(record, folder)
    missing, warnings = [], []
    methods = [m for entry in entries if (m := _read_method(folder, entry, missing))]
    if not methods:
        raise ValueError(
            f"{folder} has no evaluated method yet. {' '.join(missing)} "
            f"`refsam3d crossval` evaluates a method when all its folds are done."
        )
    for entry in entries:
        warnings.extend(_unfinished(entry))
    comparison = _read_comparison(folder, methods, missing)
    warnings.extend(_about_lengths(methods, comparison))
    methods = _ordered(_labelled(methods), comparison)
    warnings.extend(map(str, (comparison or {}).get("warning") or []))
    return Study(folder, record, methods, comparison, missing, warnings)


def _entries(record: Mapping[str, Any], folder: Path) -> list[Mapping[str, Any]]:
    entries = record.get("methods") or []
    entries = list(entries.values()) if isinstance(entries, Mapping) else entries
    if not all(isinstance(entry, Mapping) and "name" in entry for entry in entries):
        raise ValueError(f"{folder / RECORD} lists a method without a name; is it damaged?")
    return entries


def _read_method(folder: Path, entry: Mapping[str, Any], missing: list[str]) -> Method | None:
    name = str(entry["name"])
    try:
        evaluation = read_evaluation(folder / name)
    except FileNotFoundError:
        missing.append(f"{name} is left out: it has not been evaluated.")
        return None
    model = Path(entry["model_folder"]) if entry.get("model_folder") else None
    if model is None or not model.is_dir():
        missing.append(f"{name}: its model folder {model or ''} is gone; so are curves and facts.")
        model = None
    return Method(name, name, evaluation, model, entry.get("folds") or {})


def _unfinished(entry: Mapping[str, Any]) -> list[str]:
    """Says which folds are not done: their cases are not in the numbers."""
    folds = {key: fold.get("state", "waiting") for key, fold in (entry.get("folds") or {}).items()}
    return [
        f"Fold {key} of {entry['name']} is {state}, not done."
        for key, state in folds.items()
        if state != "done"
    ]


def _read_comparison(
    folder: Path, methods: list[Method], missing: list[str]
) -> dict[str, Any] | None:
    if len(methods) < 2:
        missing.append("Differences are left out: a single method has been evaluated.")
    path = folder / "comparison" / "comparison.json"
    if path.is_file():
        comparison = read_object(path)
        compared = set(map(str, comparison.get("methods") or []))
        if compared <= {method.name for method in methods}:
            return comparison
        missing.append(
            f"The comparison of {', '.join(sorted(compared))} that lies here is of an earlier "
            f"call, and left out."
        )
    if len(methods) > 1:
        missing.append("Intervals, differences and costs are left out: there is no comparison.")
    return None


def _about_lengths(methods: list[Method], comparison: Mapping[str, Any] | None) -> list[str]:
    """Says which trainings were longer than others: folds of a method, or methods."""
    texts = []
    for method in methods:
        read = {key: read_schedule(folder) for key, folder in method.fold_folders.items()}
        known = {key: schedule for key, schedule in read.items() if schedule}
        if len(set(known.values())) > 1:
            told = "; ".join(f"fold {key} {schedule}" for key, schedule in known.items())
            texts.append(f"Folds of {method.name} were trained for different lengths: {told}.")
    if "schedules" in (comparison or {}):  # what is to be said of methods, it has said
        return texts
    folders = {method.name: method.fold_folders.values() for method in methods}
    return texts + about_schedules(shared_schedules(folders))


def _labelled(methods: list[Method]) -> list[Method]:
    """Names methods by their trainers, where these differ."""
    trainers = [method.name.partition("__")[0] for method in methods]
    if len(set(trainers)) < len(trainers):
        return methods
    return [
        Method(m.name, trainer, m.evaluation, m.model_folder, m.folds)
        for m, trainer in zip(methods, trainers, strict=True)
    ]


def _ordered(methods: list[Method], comparison: Mapping[str, Any] | None) -> list[Method]:
    baseline = (comparison or {}).get("baseline")
    return sorted(methods, key=lambda method: method.name == baseline)


def raw_folder(study: Study) -> Path | None:
    """Folder of the data set in nnUNet_raw; None where it is not found."""
    candidates = [Path(m.evaluation.info.get("reference") or "").parent for m in study.methods]
    if raw := os.environ.get("nnUNet_raw"):
        candidates.insert(0, Path(raw) / study.dataset)
    return next((folder for folder in candidates if (folder / "dataset.json").is_file()), None)
