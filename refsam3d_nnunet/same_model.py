"""The folds of a model folder are of one model."""

import json
from pathlib import Path
from typing import Any

from refsam3d_nnunet.plans import family_of, resolved_configuration

# What all folds of one model folder must share; the rest may differ from fold to fold.
_SHARED_BY_FOLDS = ("format", "tuning", "class_prompts", "classes", "text")

Json = dict[str, Any]


def block_of_folder(folder: Path, plans: Json, configuration: str) -> Json:
    """Our block of the plan in a model folder, empty if no fold has been trained.

    Raises:
        ValueError: If its folds are of another model, see :func:`check_same_model`.
    """
    path = folder / "plans.json"
    if not path.is_file() or not any(folder.glob("fold_*/checkpoint_*.pth")):
        return {}
    trained = json.loads(path.read_text(encoding="utf-8"))
    check_same_model(plans, trained, configuration, folder)
    return trained["refsam3d"]


def check_same_model(plans: Json, trained: Json, configuration: str, folder: Path) -> None:
    """Refuses to mix folds of different networks in one model folder.

    Args:
        plans: The plan about to be trained or validated.
        trained: plans.json of the model folder, written by its first fold.
        configuration: Name of the configuration.
        folder: The model folder, for the message.

    Raises:
        ValueError: If architecture, tuning mode or prompts differ; the message names what.
            Or if one of the plans has no such configuration.
    """
    here, there = plans["refsam3d"], trained.get("refsam3d", {})
    differing = [
        f"{key}: {_short(there.get(key))} there, {_short(here.get(key))} here"
        for key in _SHARED_BY_FOLDS
        if here.get(key) != there.get(key)
    ]
    if family_of(here) != family_of(there):
        differing.append(f"family of the weights: {family_of(there)} there, {family_of(here)} here")
    numbers = resolved_configuration(plans, configuration)["architecture"]["arch_kwargs"]
    others = resolved_configuration(trained, configuration)["architecture"]["arch_kwargs"]
    differing += [
        f"{key}: {others.get(key)!r} there, {numbers.get(key)!r} here"
        for key in {**others, **numbers}
        if numbers.get(key) != others.get(key)
    ]
    if differing:
        raise ValueError(
            f"{folder} holds folds of another RefSAM3D model ({'; '.join(differing)}). Set the "
            f"REFSAM3D_* variables as they were for those folds, or plan under a name of its own "
            f"with 'nnUNetv2_plan_experiment -pl RefSAM3DPlanner -overwrite_plans_name NAME', "
            f"or delete the folder."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
