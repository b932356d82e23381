"""What a method was made with: plan, prompts, weights, seeds, software, files and their hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refsam3d_nnunet.evaluation.table import read_object
from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.report.study import Method, Study

# Of the many lines of nnU-Net's debug.json, those that say how and where a fold was trained.
DEBUG = (
    "gpu_name",
    "device",
    "torch_version",
    "cudnn_version",
    "network",
    "num_epochs",
    "num_iterations_per_epoch",
    "num_val_iterations_per_epoch",
    "batch_size",
    "initial_lr",
    "weight_decay",
    "oversample_foreground_percent",
    "optimizer",
)
PLAN = (
    "spacing",
    "patch_size",
    "batch_size",
    "normalization_schemes",
    "data_identifier",
    "batch_dice",
    "architecture.network_class_name",
)
FILES = ("plans.json", "dataset.json", "dataset_fingerprint.json")
MAX_TEXT = 300


class Fact(NamedTuple):
    """A named value.

    Attributes:
        name: Its name, a path with dots.
        value: In words; where folds differ, with the fold before each.
    """

    name: str
    value: str


def method_facts(method: Method, configuration: str) -> dict[str, list[Fact]]:
    """Gathers what the folder of a trained model says about it.

    Args:
        method: The method.
        configuration: Configuration of nnU-Net that was trained.

    Returns:
        Facts by the file that they are from; a file that is missing or damaged has none.
    """
    model = method.model_folder
    if model is None:
        return {}
    plan = _plan(model, configuration)
    run = _of_folds(model, "refsam3d_run.json")
    debug = [fact for fact in _of_folds(model, "debug.json") if fact.name in DEBUG]
    found = {
        "plans.json": plan,
        "refsam3d_run.json of the folds": run,
        "debug.json of the folds": debug,
        "SHA-256 of the files": [
            Fact(str(p.relative_to(model)), sha256_of(p)) for p in _kept(model)
        ],
    }
    return {source: facts for source, facts in found.items() if facts}


def study_facts(study: Study) -> list[Fact]:
    """Versions, tolerances and seeds of evaluation and comparison.

    Args:
        study: A cross-validation.
    """
    info = study.methods[0].evaluation.info
    comparison = study.comparison or {}
    wanted = {
        "library of the metrics": info.get("library"),
        "versions at evaluation": info.get("versions"),
        "tolerance of NSD in mm": info.get("tolerance_mm"),
        "bootstrap resamples": comparison.get("resamples"),
        "seed of the bootstrap": comparison.get("seed"),
        "margin of non-inferiority": comparison.get("margin"),
        "versions at comparison": comparison.get("versions"),
        "reference": info.get("reference"),
    }
    return [Fact(name, _text(value)) for name, value in wanted.items() if value is not None]


def prompts(method: Method) -> list[tuple[str, str]]:
    """Prompt of each class, with its number, that a model of this package was trained with.

    Args:
        method: The method.
    """
    for record in _records(method.model_folder, "refsam3d_run.json").values():
        named = record.get("class_prompts") or []
        return [(str(i), str(prompt)) for i, prompt in enumerate(named)]
    return []


def _plan(model: Path, configuration: str) -> list[Fact]:
    record = _records(model, "plans.json", folds=False).get("")
    if not record:
        return []
    flat = dict(_flat(_inherited(record.get("configurations") or {}, configuration)))
    facts = [Fact("plans_name", _text(record.get("plans_name")))]
    return facts + [Fact(name, flat[name]) for name in PLAN if name in flat]


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits, as nnU-Net resolves it."""
    own = configurations.get(name) or {}
    parent = own.get("inherits_from")
    known = {k: v for k, v in configurations.items() if k != name}  # no way back: no endless loop
    return (_inherited(known, parent) if parent else {}) | own


def _of_folds(model: Path, name: str) -> list[Fact]:
    """Facts of a file that every fold has; where folds differ, each fold's value is told."""
    values: dict[str, dict[str, str]] = {}
    for fold, record in _records(model, name).items():
        for key, text in _flat(record):
            values.setdefault(key, {})[fold] = text
    return [Fact(key, _joined(by_fold)) for key, by_fold in values.items()]


def _joined(by_fold: Mapping[str, str]) -> str:
    if len(set(by_fold.values())) == 1:
        return next(iter(by_fold.values()))
    return "; ".join(f"fold {fold}: {text}" for fold, text in by_fold.items())


def _records(model: Path | None, name: str, *, folds: bool = True) -> dict[str, dict[str, Any]]:
    """Content of a file by fold; damaged ones are passed over, a killed job may leave them."""
    found = {}
    for path in sorted(model.glob(f"fold_*/{name}" if folds else name)) if model else []:
        try:
            found[path.parent.name.removeprefix("fold_") if folds else ""] = read_object(path)
        except ValueError:
            continue
    return found


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _text(value)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(v)}" for key, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    text = re.sub(r"\s+", " ", str(value))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _kept(model: Path) -> list[Path]:
    """Files that another may want to tell apart: what was planned, and what was trained."""
    found = [model / name for name in FILES if (model / name).is_file()]
    return found + sorted(model.glob("fold_*/checkpoint_final.pth"))
