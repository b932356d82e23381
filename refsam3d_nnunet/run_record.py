"""What a training writes down about itself, and says when it starts."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from refsam3d_nnunet.memory import step_gb
from refsam3d_nnunet.plans import network_config, trained_task
from refsam3d_nnunet.pretrained.load import RANDOM


def run_record(
    trainer: nnUNetTrainer,
    network: nn.Module,
    *,
    block: Mapping[str, Any],
    weights: Mapping[str, Any],
    asked: Mapping[str, float],
    orientations: Mapping[str, int],
    compiled: bool,
) -> dict[str, Any]:
    """Content of refsam3d_run.json.

    Args:
        trainer: Initialised.
        network: Its network, without wrappers.
        block: Our block of its plan.
        weights: What became of the pretrained weights.
        asked: The numbers of the schedule that the environment asked for.
        orientations: How many training cases are stored how.
        compiled: Whether torch compiles the network.
    """
    configuration = trainer.configuration_manager.configuration
    config = network_config(configuration)
    task = trained_task(configuration, block)
    parameters = list(network.parameters())
    return {
        "preset": config.preset,
        "token_grid": config.grid_size,
        "patch_size": trainer.configuration_manager.patch_size,
        "batch_size": trainer.batch_size,
        "batch_size_planned": block.get("planned_batch_size", configuration["batch_size"]),
        "memory_estimate_gb": round(step_gb(config, task, trainer.batch_size), 1),
        "tuning": block["tuning"],
        "parameters": sum(p.numel() for p in parameters),
        "parameters_tuned": sum(p.numel() for p in parameters if p.requires_grad),
        "weights": weights,
        **_checkpoints(trainer, block),
        "text": block["text"],
        "class_prompts": block["class_prompts"],
        "classes": block["classes"],
        "orientations": orientations,
        "mirroring_axes": trainer.inference_allowed_mirroring_axes,
        "schedule": block["schedule"],
        "schedule_from_environment": asked,
        "started_at_epoch": trainer.current_epoch,
        "device": str(trainer.device),
        "precision": "float16 autocast" if trainer.device.type == "cuda" else "float32",
        "compiled": compiled,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("refsam3d_nnunet", "nnunetv2", "torch")},
    }


def _checkpoints(trainer: nnUNetTrainer, block: Mapping[str, Any]) -> dict[str, Any]:
    if "slim" not in block:
        return {}
    return {"slim_checkpoints": {**block["slim"], "folder": trainer.output_folder_base}}


def told(record: Mapping[str, Any]) -> list[str]:
    """What of it is printed, message by message: weights were on loading, phrases when planning."""
    shown = {key: record[key] for key in record if key != "classes"}
    shown["weights"] = record["weights"]["from"]
    messages = ["RefSAM3D: " + json.dumps(shown, indent=2)]
    if shown["weights"] == RANDOM:
        messages.append(
            "RefSAM3D: NO PRETRAINED WEIGHTS. The image encoder starts from random numbers; "
            "name others in REFSAM3D_CHECKPOINT when planning (`refsam3d weights list`)."
        )
    if "slim_checkpoints" in shown:
        slim = shown["slim_checkpoints"]
        messages.append(
            f"RefSAM3D: SLIM CHECKPOINTS. They need the frozen image encoder {slim['backbone']} in "
            f"{slim['folder']}: keep it with them, and pass the model on with `refsam3d weights "
            f"export`, because nnUNetv2_export_model_to_zip leaves it out."
        )
    return messages
