"""The part of a model folder that prediction needs, self-contained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch

from refsam3d_nnunet.files import replacing, write_json
from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint
from refsam3d_nnunet.plans import WEIGHT_FILES, resolved_configuration
from refsam3d_nnunet.prediction.listing import checkpoint_files, read_block
from refsam3d_nnunet.slim.merge import merge_checkpoint

# What nnU-Net's predictor reads of a checkpoint; the optimizer's state is the larger part of it.
_READ = ("trainer_name", "init_args", "inference_allowed_mirroring_axes", "network_weights")
_COPIED = ("dataset.json", "dataset_fingerprint.json")


@dataclass(frozen=True)
class Model:
    """A model folder that can be submitted.

    Args:
        folder: Where it lies.
        checkpoints: Files of the folds.
        channels: Files of one image.
    """

    folder: Path
    checkpoints: tuple[Path, ...]
    channels: int


def read_model(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> Model:
    """Looks at a model folder, and writes nothing.

    Args:
        folder: Model folder.
        folds: Folds to submit; None for all that were trained.
        checkpoint: Name of the checkpoint.

    Raises:
        FileNotFoundError: If plans, data set or checkpoints are missing.
        ValueError: If a file is damaged, or the model is not RefSAM3D or a cascade's second stage.
    """
    read_block(folder)
    _read_json(folder / "dataset.json")
    files = checkpoint_files(folder, folds, checkpoint)
    configuration = [read_nnunet_checkpoint(f)["init_args"].get("configuration") for f in files][0]
    resolved = resolved_configuration(_read_json(folder / "plans.json"), configuration)
    if "previous_stage" in resolved:
        raise ValueError(
            f"{folder} is the second stage of a cascade, whose input is the labels that the first "
            f"predicted: refsam3d cannot predict with it. Submit the first stage, or 3d_fullres."
        )
    return Model(folder, tuple(files), len(resolved["normalization_schemes"]))


def copy_model(model: Model, out: Path) -> None:
    """Copies what prediction needs; slim checkpoints are made whole.

    Args:
        model: See :func:`read_model`.
        out: Folder to make.

    Raises:
        FileNotFoundError: If the backbone of a slim checkpoint is missing.
        ValueError: If a checkpoint or a backbone is damaged.
        OSError: If a file cannot be written.
    """
    out.mkdir()
    plans = _read_json(model.folder / "plans.json")
    plans["refsam3d"].pop("slim", None)
    _leave_out_folders(plans["refsam3d"])
    write_json(out / "plans.json", plans)
    for name in _COPIED:
        if (model.folder / name).is_file():
            shutil.copyfile(model.folder / name, out / name)
    for path in model.checkpoints:
        target = out / path.parent.name / path.name
        target.parent.mkdir()
        merged = merge_checkpoint(path, target, folder=model.folder)
        content = read_nnunet_checkpoint(target if merged else path)
        _leave_out_folders(content["init_args"]["plans"].get("refsam3d", {}))
        with replacing(target) as temporary:
            torch.save({key: content[key] for key in _READ if key in content}, temporary)


def _leave_out_folders(block: dict[str, Any]) -> None:
    """Names pretrained weights by their file alone: whose disk they lay on is nobody's business."""
    for key in WEIGHT_FILES:
        if block.get(key):
            block[key] = PureWindowsPath(block[key]).name  # knows both kinds of slashes


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}: wanted is a model folder of nnU-Net.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no readable JSON ({error}).") from error
