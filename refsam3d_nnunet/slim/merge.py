"""Slim checkpoints made whole again: in place, and in a zip for others."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from refsam3d_nnunet.files import link, replacing, write_json
from refsam3d_nnunet.network.slim import BACKBONE_HASH, backbone_hash, is_slim
from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint
from refsam3d_nnunet.slim.backbone import BackboneFinder

ALL = "checkpoint_*.pth"
PLANS = "plans.json"
# What nnU-Net's export wants of a fold beside its checkpoints.
_OF_FOLD = ("progress.png", "validation/summary.json")
_EXPORT = (
    "import json, sys; from nnunetv2.model_sharing.model_export import export_pretrained_model; "
    "export_pretrained_model(**json.loads(sys.argv[1]))"
)


def merge_checkpoint(path: Path, out: Path, *, folder: Path | None = None) -> bool:
    """Writes a self-contained copy of a slim checkpoint, whole or not at all.

    Args:
        path: Checkpoint of nnU-Net; no code is run from it.
        out: Where to write; may be ``path`` itself.
        folder: Model folder, where the backbone is looked for first.

    Returns:
        Whether it was slim. A whole one is not written again.

    Raises:
        FileNotFoundError: If checkpoint or backbone are not there.
        ValueError: If one of them is damaged, or the backbone is not that of the checkpoint.
    """
    checkpoint = read_nnunet_checkpoint(path)
    weights = checkpoint["network_weights"]
    if not is_slim(weights):
        return False
    plans = checkpoint["init_args"]["plans"]
    tensors = BackboneFinder(plans["dataset_name"], folder)(backbone_hash(weights))
    del weights[BACKBONE_HASH]
    checkpoint["network_weights"] = {**tensors, **weights}
    plans["refsam3d"].pop("slim", None)
    with replacing(out) as temporary:
        torch.save(checkpoint, temporary)
    return True


def merge_folder(model: Path, names: Sequence[str] = (ALL,)) -> list[Path]:
    """Makes the checkpoints of a model folder self-contained, in place.

    The backbone file stays. If no slim checkpoint is left, the plan no longer says that there
    are: folds that are trained later are whole as well.

    Args:
        model: Model folder.
        names: Names or patterns of checkpoints.

    Returns:
        The checkpoints that were slim.

    Raises:
        FileNotFoundError: If there are no such checkpoints, or a backbone is missing.
        ValueError: See :func:`merge_checkpoint`.
    """
    _read_plans(model)
    found = sorted({path for name in names for path in model.glob(f"fold_*/{name}")})
    if not found:
        raise FileNotFoundError(f"{model} has no {' or '.join(f'fold_*/{n}' for n in names)}.")
    merged = [path for path in found if merge_checkpoint(path, path, folder=model)]
    rest = set(model.glob(f"fold_*/{ALL}")) - set(found)
    if not any(is_slim(read_nnunet_checkpoint(path)["network_weights"]) for path in rest):
        _write_plans_without_slim(model, model)
    return merged


def export_zip(
    model: Path,
    out: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoints: Sequence[str] = ("checkpoint_final.pth",),
) -> list[Path]:
    """Writes a self-contained zip of a model, by nnU-Net's own export.

    nnU-Net exports from a copy of the model folder: checkpoints merged, the rest links.

    Args:
        model: Model folder, two levels below nnUNet_results.
        out: The zip, written whole or not at all.
        folds: Folds to pass on; None: all that have the checkpoints.
        checkpoints: Names of the checkpoints to pass on.

    Returns:
        The checkpoints in it.

    Raises:
        FileNotFoundError: If a file is missing that nnU-Net's export wants, or a backbone.
        ValueError: See :func:`merge_checkpoint`; or if the folder has not the name of a model.
    """
    model = model.resolve()
    if len(model.name.split("__")) != 3:
        raise ValueError(
            f"{model} is not named as nnU-Net names model folders, TRAINER__PLANS__CONFIGURATION."
        )
    folds = folds or sorted(
        path.parent.name.removeprefix("fold_") for path in model.glob(f"fold_*/{checkpoints[0]}")
    )
    wanted = [model / f"fold_{fold}" / name for fold in folds for name in checkpoints]
    others = [model / f"fold_{fold}" / name for fold in folds for name in _OF_FOLD]
    missing = [path for path in [*wanted, *others] if not path.is_file()]
    if missing or not wanted:
        raise FileNotFoundError(
            f"There is no {missing[0] if missing else model / 'fold_*' / checkpoints[0]}, which "
            f"nnU-Net's export wants: train the fold to its end, or leave it out with -f."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tmp.") as folder:
        _stage(model, Path(folder), wanted)
        with replacing(out) as temporary:
            _export(Path(folder), model, temporary.resolve(), folds=folds, checkpoints=checkpoints)
    return wanted


def _stage(model: Path, results: Path, wanted: Sequence[Path]) -> None:
    """Copies a model folder below another nnUNet_results, as far as nnU-Net exports it."""
    copy = results / model.parent.name / model.name
    _link_all([*model.glob("*.json"), *model.glob("crossval_results_*")], copy)
    _link_all(model.parent.glob("inference_information.*"), copy.parent)
    for fold in {path.parent for path in wanted}:
        _link_all((path for path in fold.iterdir() if not path.match(ALL)), copy / fold.name)
    for path in wanted:
        target = copy / path.parent.name / path.name
        if not merge_checkpoint(path, target, folder=model):
            link(path, target)
    _write_plans_without_slim(model, copy)


def _link_all(paths: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # even if there is nothing to link
    for path in paths:
        link(path, folder / path.name)


def _export(
    results: Path, model: Path, out: Path, *, folds: Sequence[str], checkpoints: Sequence[str]
) -> None:
    """Runs nnU-Net's export in a process of its own: it reads nnUNet_results when imported."""
    trainer, plans, configuration = model.name.split("__")
    arguments = {
        "dataset_name_or_id": model.parent.name,
        "output_file": str(out),
        "configurations": [configuration],
        "trainer": trainer,
        "plans_identifier": plans,
        "folds": [int(fold) if fold.isdecimal() else fold for fold in folds],
        "save_checkpoints": list(checkpoints),
    }
    command = [sys.executable, "-c", _EXPORT, json.dumps(arguments)]
    environment = {**os.environ, "nnUNet_results": str(results)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise ValueError(f"nnU-Net could not export {model}: {last[0]}")


def _read_plans(model: Path) -> dict:
    path = model / PLANS
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}: wanted is a model folder of nnU-Net.")
    return json.loads(path.read_text(encoding="utf-8"))


def _write_plans_without_slim(model: Path, copy: Path) -> None:
    plans = _read_plans(model)
    plans.get("refsam3d", {}).pop("slim", None)
    write_json(copy / PLANS, plans)


def run_merge(args: argparse.Namespace) -> tuple[str, int]:
    """Runs `refsam3d weights merge`.

    Returns:
        What goes to standard output, and the exit status.

    Raises:
        ValueError: If the options do not go together; see :func:`merge_checkpoint`.
        OSError: If a file is missing or cannot be written.
    """
    model: Path = args.model
    if model.is_dir():
        if args.output is not None:
            raise ValueError(
                f"-o goes with one checkpoint file, and {model} is a folder, whose checkpoints "
                f"are replaced. `refsam3d weights export` writes a copy."
            )
        merged = merge_folder(model, args.checkpoints or (ALL,))
        lines = [f"{path}: self-contained now" for path in merged]
        return "\n".join(lines or [f"{model}: nothing to do, no checkpoint is slim"]), 0
    if args.checkpoints:
        raise ValueError(f"--checkpoints goes with a model folder, and {model} is none.")
    out = args.output or model
    out.parent.mkdir(parents=True, exist_ok=True)
    if merge_checkpoint(model, out, folder=model.resolve().parent.parent):
        return f"{out}: self-contained now", 0
    if out == model:
        return f"{model}: nothing to do, it is not slim", 0
    with replacing(out) as temporary:
        shutil.copyfile(model, temporary)
    return f"{out}: a copy, as {model} is not slim", 0


def run_export(args: argparse.Namespace) -> tuple[str, int]:
    """Runs `refsam3d weights export`; see :func:`run_merge` and :func:`export_zip`."""
    inside = export_zip(args.model, args.output, folds=args.folds, checkpoints=args.checkpoints)
    return f"{args.output}: self-contained, with {len(inside)} checkpoints", 0
