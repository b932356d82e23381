"""The only code, beside :mod:`refsam3d_nnunet.same_model`, that knows the keys of ``plans.json``.

Planner, trainer and predictor meet in that file. Beside the architecture of each configuration it
has a block of ours::

    "refsam3d": {
        "format": 1,
        "tuning": "adapter" | "full" | "scratch",
        "checkpoint": null | "path of the image encoder's weights",
        "family": null | "sam" | "vit",          # what that file holds
        "decoder_checkpoint": null | "path of weights with SAM's mask decoder",
        "weights_sha256": {"checkpoint": ..., "decoder_checkpoint": ...},  # of these files
        "text_encoder": "minilm" | ...,
        # the user's own when this was planned:
        "given_prompts": {"dataset": "DatasetXXX_Name", "prompts": {"label": ["phrase", ...]}},
        "schedule": {...},                       # see DEFAULT_SCHEDULE
        # by the trainer:
        "class_prompts": ["background", ...],    # canonical phrase of each output channel
        "classes": [{"label": ..., "training": [...], "held_out": [...]}, ...],
        "text": {"encoder": ..., "weights_sha256": ..., "dim": ..., "words": ...},
        "orientations": {"LPS": 20, ...}         # how many training cases are stored so
        "slim": {"backbone": "refsam3d_backbone_....safetensors", "sha256": ...}  # if they are
    }
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from refsam3d_nnunet.config import PRESETS, NetworkConfig
from refsam3d_nnunet.design import as_volume, default_preset, design_network, parts_for
from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.fit import smaller_batch
from refsam3d_nnunet.memory import Task
from refsam3d_nnunet.text.phrases import ClassPhrases, background_of

FORMAT = 1
# Keys that name files of pretrained weights; prediction does not read them.
WEIGHT_FILES = ("checkpoint", "decoder_checkpoint")
# Beside the plans of a data set: the embeddings of its prompts, shared by all folds.
TEXT_BANK = "refsam3d_text_embeddings.npz"
NETWORK_CLASS = "refsam3d_nnunet.network.refsam3d.RefSAM3D"
# Channels of the mask decoder of SAM, MedSAM and LiteMedSAM.
SAM_DECODER_DIM = 256
# Memory target of nnU-Net's default plans, in GB.
FOREIGN_PLAN_GB = 8
# Epochs and iterations are nnU-Net's; the rest is for AdamW.
DEFAULT_SCHEDULE: dict[str, float] = {
    "num_epochs": 1000,
    "iterations_per_epoch": 250,
    "val_iterations": 50,
    "initial_lr": 5e-4,
    "weight_decay": 0.02,
    "warmup_fraction": 0.05,
    "pretrained_lr_scale": 1.0,
}
# Of the rate of all else: in mode full AdamW would soon have walked away from the checkpoint.
PRETRAINED_LR_SCALE = 0.1

Json = dict[str, Any]


def new_block(settings: Settings) -> Json:
    """Our block of a new plan, as far as the planner knows it.

    Raises:
        ValueError: If weights are to be tuned but none are named, or the decoder's do not fit.
    """
    tuning = settings.tuning or ("adapter" if settings.checkpoint else "scratch")
    if settings.checkpoint is None and tuning != "scratch":
        raise ValueError(
            f"Tuning mode {tuning!r} starts from pretrained weights, but none are named: set "
            f"REFSAM3D_CHECKPOINT (see `refsam3d weights list`), or REFSAM3D_TUNING to scratch."
        )
    if settings.checkpoint is not None and tuning == "scratch":
        raise ValueError(
            "Tuning mode 'scratch' uses no pretrained weights, but REFSAM3D_CHECKPOINT names "
            f"{settings.checkpoint}: unset it, or set REFSAM3D_TUNING to adapter or full."
        )
    fitting = [name for name, preset in PRESETS.items() if preset.decoder_dim == SAM_DECODER_DIM]
    if settings.decoder_checkpoint is not None and settings.preset not in fitting:
        raise ValueError(
            f"REFSAM3D_DECODER_CHECKPOINT names {settings.decoder_checkpoint}, but SAM's decoder "
            f"fits the presets {', '.join(fitting)} alone, and "
            f"{settings.preset or 'the default, vit_t or vit_s,'} is asked for: set "
            f"REFSAM3D_PRESET to one of them, or unset it."
        )
    return {
        "format": FORMAT,
        "tuning": tuning,
        "checkpoint": settings.checkpoint,
        "family": settings.family,
        "decoder_checkpoint": settings.decoder_checkpoint,
        "text_encoder": settings.text_encoder or "auto",
        "schedule": dict(DEFAULT_SCHEDULE)
        | ({"pretrained_lr_scale": PRETRAINED_LR_SCALE} if tuning == "full" else {}),
    }


def complete_plans(
    plans: Json,
    configuration: str,
    settings: Settings,
    classes: Sequence[ClassPhrases],
    known: Json | None = None,
    *,
    ranks: int = 1,
) -> Json:
    """Makes any nnU-Net plan ours, in place, for one configuration.

    A plan of RefSAM3DPlanner is taken as it is, but for the schedule and the text encoder that
    the environment asks for. Any other plan, such as nnU-Net's default one, keeps patch and
    preprocessing, and gets our architecture for its patch; a batch made for a U-Net in 2D may be
    cut to what fits the memory that nnU-Net plans for, on each GPU. A configuration of
    RefSAM3DPlanner whose architecture was taken out gets one too; its batch stays.

    Args:
        plans: Content of plans.json.
        configuration: Name of the configuration to be trained.
        settings: What the environment asks for.
        classes: Phrases of every output channel.
        known: Architecture block that such a plan gets in place of a new one.
        ranks: GPUs that share a batch.

    Returns:
        Our block, which is part of ``plans``.

    Raises:
        ValueError: If the plan was written by another version, or the settings contradict it.
    """
    planned = "refsam3d" in plans
    block = plans["refsam3d"] if planned else new_block(settings)
    plans["refsam3d"] = block
    _check_format(block)
    resolved = resolved_configuration(plans, configuration)
    # nnU-Net's plans of old have no such block.
    if resolved.get("architecture", {}).get("network_class_name") != NETWORK_CLASS:
        own = plans["configurations"][configuration]
        own["architecture"] = known or architecture(
            _design_for(resolved, settings, block["tuning"], _preset_of_weights(plans)),
            decoder_checkpoint=block["decoder_checkpoint"],
        )
        _refuse_contradictions(block, network_config(own), settings)
        if not planned:
            block["planned_batch_size"] = resolved["batch_size"]
            of_each = smaller_batch(
                network_config(own),
                task_of({**resolved, **own}, block["tuning"], classes),
                math.ceil(resolved["batch_size"] / ranks),
                FOREIGN_PLAN_GB,
            )
            own["batch_size"] = min(of_each * ranks, resolved["batch_size"])
    elif planned:
        _refuse_contradictions(block, network_config(resolved), settings)
        _refuse_other_patch(resolved, configuration)
    block["text_encoder"] = settings.text_encoder or block["text_encoder"]
    # The file may lie elsewhere than on the machine that planned; its hash is recorded.
    for key in WEIGHT_FILES:
        block[key] = getattr(settings, key) or block.get(key)
    block["schedule"] = {**DEFAULT_SCHEDULE, **block["schedule"], **settings.schedule()}
    block["class_prompts"] = [one.canonical for one in classes]
    block["classes"] = [one.to_json() for one in classes]
    return block


def _refuse_other_patch(resolved: Json, configuration: str) -> None:
    """Refuses a configuration whose patch was changed without its network.

    Raises:
        ValueError: If the network is built for another patch.
    """
    built_for = network_config(resolved).patch_size
    if list(built_for) != [int(size) for size in as_volume(resolved["patch_size"])]:
        raise ValueError(
            f"{configuration} has patches of {list(resolved['patch_size'])}, and a network for "
            f"{list(built_for)}. To have one for its patch, give it an architecture of its own "
            f"that is not RefSAM3D's, "
            f'"architecture": {{"network_class_name": ""}}: the trainer designs it then. Or plan '
            f"with another -gpu_memory_target."
        )


def task_of(configuration: Json, tuning: str, classes: Sequence[ClassPhrases]) -> Task:
    """What the memory of a configuration depends on beside the architecture."""
    modalities = len(configuration["normalization_schemes"])
    # A cascade's second stage sees the labels of the first, one channel each.
    labels = len(classes) if "previous_stage" in configuration else 0
    return Task(
        modalities + labels,
        len(classes),
        tuning,
        label_channels=labels,
        regions=background_of(classes) is None,
    )


def trained_task(configuration: Json, block: Json) -> Task:
    """The same of a configuration whose block has been through RefSAM3DTrainer."""
    return task_of(configuration, block["tuning"], trained_classes(block))


def _preset_of_weights(plans: Json) -> str | None:
    """Preset that pretrained weights were planned for, as another configuration has it."""
    if not plans["refsam3d"].get("checkpoint"):
        return None
    for name in plans["configurations"]:
        resolved = resolved_configuration(plans, name)
        if resolved.get("architecture", {}).get("network_class_name") == NETWORK_CLASS:
            return network_config(resolved).preset
    return None


def _design_for(
    resolved: Json, settings: Settings, tuning: str, planned: str | None
) -> NetworkConfig:
    preset = settings.preset or planned or default_preset(resolved["patch_size"])
    return design_network(
        resolved["patch_size"],
        resolved["spacing"],
        preset,
        **parts_for(tuning, len(resolved["normalization_schemes"])),
    )


def architecture(config: NetworkConfig, *, decoder_checkpoint: str | None = None) -> Json:
    """The architecture block of a configuration, in nnU-Net's form.

    Args:
        config: Architecture.
        decoder_checkpoint: Weights of SAM's decoder, whose first look of the class tokens at each
            other has no residual.
    """
    if decoder_checkpoint is not None:
        config = replace(config, residual_class_tokens=False)
    return {
        "network_class_name": NETWORK_CLASS,
        "arch_kwargs": config.to_json(),
        "_kw_requires_import": [],
    }


def network_config(configuration: Json) -> NetworkConfig:
    """Reads the architecture back from a configuration of a plan.

    Raises:
        ValueError: If the numbers are not those of this version.
    """
    return NetworkConfig.from_json(configuration["architecture"]["arch_kwargs"])


def same_network(one: Json, other: Json) -> bool:
    """Whether two configurations have the same architecture.

    A number that an older version did not write counts as its default.
    """
    try:
        return network_config(one) == network_config(other)
    except (KeyError, ValueError):  # none of its own, as in a cascade, or of another class
        return one.get("architecture") == other.get("architecture")


def text_shape(block: Json) -> Json:
    """Channels, words and phrases per class of the stored embeddings, as the network's arguments.

    Raises:
        ValueError: If the plan has not been through RefSAM3DTrainer.
    """
    classes = trained_classes(block)
    return {
        "text_dim": block["text"]["dim"],
        "text_words": block["text"]["words"],
        "text_phrases": [len(one.training) for one in classes],
    }


def trained_classes(block: Json) -> list[ClassPhrases]:
    """Phrases of every output channel of a trained model; a model may have one phrase each.

    Raises:
        ValueError: If the plan has not been through RefSAM3DTrainer.
    """
    _check_format(block)
    if "class_prompts" not in block:
        raise ValueError(
            "This plan has no text prompts yet: train it with '-tr RefSAM3DTrainer'; the model "
            "folder's plans.json then holds them."
        )
    if "classes" in block:
        return [ClassPhrases.from_json(one) for one in block["classes"]]
    return [ClassPhrases(phrase, (phrase,)) for phrase in block["class_prompts"]]


def resolved_configuration(plans: Json, configuration: str) -> Json:
    """A configuration with what it inherits.

    Raises:
        ValueError: If the plan has no such configuration.
    """
    if configuration not in plans["configurations"]:
        raise ValueError(
            f"The plan has no configuration {configuration!r}; it has "
            f"{', '.join(plans['configurations'])}."
        )
    own = plans["configurations"][configuration]
    if "inherits_from" not in own:
        return own
    return {**resolved_configuration(plans, own["inherits_from"]), **own}


def family_of(block: Mapping[str, Any]) -> str | None:
    """Family of the pretrained weights; plans of before there were others have SAM's."""
    return block.get("family") or ("sam" if block.get("checkpoint") else None)


def _check_format(block: Mapping[str, Any]) -> None:
    if block.get("format") != FORMAT:
        raise ValueError(
            f"The plan's 'refsam3d' block has format {block.get('format')!r}, this version of "
            f"refsam3d_nnunet reads format {FORMAT}: plan again with 'nnUNetv2_plan_experiment "
            f"-d DATASET -pl RefSAM3DPlanner', or install the version that wrote it."
        )


def _refuse_contradictions(block: Json, config: NetworkConfig, settings: Settings) -> None:
    """The plan decides on encoder and weights; the environment may not say otherwise later."""
    for key in WEIGHT_FILES:
        file = getattr(settings, key)
        if file is not None and block.get(key) is None:
            raise ValueError(
                f"REFSAM3D_{key.upper()} names {file}, but the plan was made without such weights: "
                f"unset it, or plan again with it set ('nnUNetv2_plan_experiment -pl "
                f"RefSAM3DPlanner')."
            )
    for variable, asked, planned in (
        ("REFSAM3D_PRESET, or the size of REFSAM3D_CHECKPOINT,", settings.preset, config.preset),
        ("REFSAM3D_TUNING", settings.tuning, block["tuning"]),
        ("The family of REFSAM3D_CHECKPOINT", settings.family, family_of(block)),
    ):
        if asked is not None and asked != planned:
            raise ValueError(
                f"{variable} asks for {asked!r}, but the plan was made for {planned!r}: unset it, "
                f"or plan again with it set ('nnUNetv2_plan_experiment -pl RefSAM3DPlanner')."
            )
