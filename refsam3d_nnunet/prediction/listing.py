"""What a model folder has: its classes, from plans.json alone, and its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refsam3d_nnunet.plans import trained_classes


def read_block(model: Path) -> dict[str, Any]:
    """The part of a model folder's plans.json that is RefSAM3D's.

    Raises:
        FileNotFoundError: If the folder holds no plans.json.
        ValueError: If the model is not one of RefSAM3DTrainer.
    """
    path = model / "plans.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: -m wants the folder that nnU-Net trained into, such as "
            f"nnUNet_results/Dataset004_X/RefSAM3DTrainer__RefSAM3DPlans__3d_fullres."
        )
    block = json.loads(path.read_text(encoding="utf-8")).get("refsam3d")
    if block is None:
        raise ValueError(f"{model} is not a model of RefSAM3DTrainer, so it has no prompts.")
    return block


def checkpoint_files(model: Path, folds: Sequence[int | str] | None, name: str) -> list[Path]:
    """Files of the folds asked for, or of all that were trained ("all" is not one of these).

    Args:
        model: Model folder.
        folds: Numbers, or "all"; None or empty for all that were trained.
        name: Name of the checkpoint, such as checkpoint_final.pth.

    Raises:
        FileNotFoundError: If one of them, or every one, is missing.
    """
    if not folds:
        found = sorted(model.glob(f"fold_[0-9]*/{name}")) or sorted(model.glob(f"fold_all/{name}"))
    else:
        found = [model / f"fold_{fold}" / name for fold in folds]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise FileNotFoundError(
            f"There is no {missing[0] if missing else model / 'fold_*' / name}."
        )
    return found


def listing(model: Path, *, as_json: bool = False) -> str:
    """Classes and phrases of a model, as text or as JSON.

    Raises:
        FileNotFoundError: If the folder holds no plans.json.
        ValueError: If the model is not one of RefSAM3DTrainer.
    """
    classes = trained_classes(read_block(model))
    if as_json:
        return json.dumps([one.to_json() for one in classes], indent=2)
    lines = []
    for one in classes:
        lines.append(f"{one.canonical}  (label {one.label})")
        lines += [f"    {phrase}" for phrase in one.training[1:]]
        lines += [f"    {phrase}  (held out: not trained)" for phrase in one.held_out]
    return "\n".join(lines)
