"""Lists what a model was trained on, from its plans.json alone."""

from __future__ import annotations

import json
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
