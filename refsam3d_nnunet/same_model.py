"""The folds of a model folder are of one model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refsam3d_nnunet.plans import (
    NETWORK_CLASS,
    WEIGHT_FILES,
    family_of,
    network_config,
    resolved_configuration,
    trained_classes,
)
from refsam3d_nnunet.text.phrases import ClassPhrases

# What all folds of one model folder must share; the rest may differ from fold to fold.
_SHARED_BY_FOLDS = ("format", "tuning", "class_prompts", "classes", "text")
# How their images were preprocessed, by the configuration and by the plan as a whole.
_SHARED_IMAGES = ("spacing", "normalization_schemes")
_SHARED_DATA = ("transpose_forward", "foreground_intensity_properties_per_channel")

Json = dict[str, Any]


def plans_of_folder(folder: Path) -> Json:
    """plans.json of a model folder, empty if no fold of RefSAM3D has been trained there."""
    path = folder / "plans.json"
    if not path.is_file() or not any(folder.glob("fold_*/checkpoint_*.pth")):
        return {}
    trained = json.loads(path.read_text(encoding="utf-8"))
    return trained if "refsam3d" in trained else {}


def phrases_of_folds(
    classes: Sequence[ClassPhrases], given: Mapping[str, Sequence[str]], trained: Json
) -> list[ClassPhrases]:
    """The phrases that trained folds have, where the synonym table has changed since.

    Args:
        classes: What data set, user and this version's synonyms say now.
        given: The user's own phrases, label -> phrases.
        trained: See :func:`plans_of_folder`.

    Returns:
        The folds' classes; or ``classes``, if there are no folds, or theirs have other canonical
        phrases or other phrases than the user gives now.
    """
    there = trained_classes(trained["refsam3d"]) if trained else []
    if [one.canonical for one in there] != [one.canonical for one in classes]:
        return list(classes)
    literal = {label for label, phrases in given.items() if len(phrases) > 1}
    changed = any(
        here.label in literal and here.training != old.training
        for here, old in zip(classes, there, strict=True)
    )
    return list(classes) if changed else there


def architecture_of_folds(plans: Json, configuration: str, trained: Json) -> Json | None:
    """The network that trained folds have, for a plan that does not name one of ours.

    This version of the package might design another for the same patch.

    Args:
        plans: The plan about to be trained or validated.
        configuration: Name of the configuration.
        trained: See :func:`plans_of_folder`.

    Returns:
        The architecture block; None if there is none for the plan's patch and spacing.
    """
    if configuration not in trained.get("configurations", {}):
        return None
    here = resolved_configuration(plans, configuration)
    there = resolved_configuration(trained, configuration)
    fits = all(here[key] == there[key] for key in ("patch_size", "spacing"))
    ours = there["architecture"]["network_class_name"] == NETWORK_CLASS
    return there["architecture"] if fits and ours else None


def check_same_model(plans: Json, trained: Json, configuration: str, folder: Path) -> None:
    """Refuses to mix folds of different networks in one model folder.

    Args:
        plans: The plan about to be trained or validated.
        trained: plans.json of the model folder, written by its first fold.
        configuration: Name of the configuration.
        folder: The model folder, for the message.

    Raises:
        ValueError: If architecture, preprocessing, tuning mode or prompts differ; the message
            names what.
            Or if one of the plans has no such configuration.
    """
    here, there = plans["refsam3d"], trained.get("refsam3d", {})
    mine, theirs = (resolved_configuration(one, configuration) for one in (plans, trained))
    differing = [
        f"{key}: {_short(other.get(key))} there, {_short(one.get(key))} here"
        for keys, one, other in (
            (_SHARED_BY_FOLDS, here, there),
            (_SHARED_IMAGES, mine, theirs),
            (_SHARED_DATA, plans, trained),
        )
        for key in keys
        if one.get(key) != other.get(key)
    ]
    if family_of(here) != family_of(there):
        differing.append(f"family of the weights: {family_of(there)} there, {family_of(here)} here")
    differing += [
        f"{key}: {there.get(key)} there, {here.get(key)} here"
        for key in WEIGHT_FILES
        if (there.get(key) is None) != (here.get(key) is None)
    ]
    numbers, others = (network_config(one).to_json() for one in (mine, theirs))
    differing += [
        f"{key}: {others[key]!r} there, {numbers[key]!r} here"
        for key in numbers
        if numbers[key] != others[key]
    ]
    if differing:
        raise ValueError(
            f"{folder} holds folds of another RefSAM3D model ({'; '.join(differing)}). Set the "
            f"REFSAM3D_* variables as they were for those folds, or plan under a name of its own "
            f"with 'nnUNetv2_plan_experiment -pl RefSAM3DPlanner -overwrite_plans_name NAME', "
            f"or delete the folder.{_hint_of_phrases(here, there)}"
        )


def _hint_of_phrases(here: Json, there: Json) -> str:
    """How to have the phrases of earlier folds, where the same labels are called otherwise now.

    This version of the package may read a name such as ``Tumor (left)`` in another way.
    """
    mine, theirs = (
        {one.label: one.canonical for one in trained_classes(block)} for block in (here, there)
    )
    if list(mine) != list(theirs) or mine == theirs:
        return ""
    changed = {label: phrase for label, phrase in theirs.items() if mine[label] != phrase}
    return (
        f" To go on with the phrases of those folds, put {json.dumps(changed)} into the JSON file "
        f"that REFSAM3D_PROMPTS_FILE names, or into a new one if it names none."
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
