"""What benchmarks/accuracy.py trains: one patch and batch for all methods, and their steps."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from redesign import redesigned
from studies import CONFIGURATION

from refsam3d_nnunet.plans import network_config
from refsam3d_nnunet.text.names import mentions_side
from refsam3d_nnunet.text.phrases import phrase_bank

# Method -> its trainer. All but the first are baselines.
OURS = "refsam3d"
TRAINERS = {
    OURS: "RefSAM3DTrainerSeeded",
    "nnunet": "nnUNetTrainerSeeded",
    "nnunet_adamw": "nnUNetTrainerAdamW",
    "nnunet_adamw_sides": "nnUNetTrainerAdamWSides",
}
# The one that mirrors less than another, where labels name a side.
SIDES, SIDES_LIKE = "nnunet_adamw_sides", "nnunet_adamw"
# What measures seconds -> its key in records: time that passes, or time of the processor, which
# on one thread is what would pass if nothing else ran.
CLOCKS = {"wall": "seconds", "process": "processor_seconds"}
# Epochs that a schedule may have; points of the learning curve.
EPOCHS = (16, 20, 24)
# No patch reaches this memory, so nnU-Net's planner never makes it smaller.
UNLIMITED_GB = 1e6

Json = dict[str, Any]


class Budget(NamedTuple):
    """What every training may spend.

    Args:
        kind: steps or seconds.
        amount: How many.
    """

    kind: str
    amount: int

    @property
    def name(self) -> str:
        """Name in plans and results."""
        return f"{self.kind}{self.amount}"

    @property
    def text(self) -> str:
        """As the command line has it."""
        return f"{self.kind}:{self.amount}"

    def steps(self, seconds_per_step: Mapping[str, float]) -> dict[str, int]:
        """Steps of every method.

        Args:
            seconds_per_step: Of every method, as measured side by side.

        Raises:
            ValueError: If the time is too short for a single step.
        """
        if self.kind == "steps":
            return dict.fromkeys(seconds_per_step, self.amount)
        steps = {name: int(self.amount / one) for name, one in seconds_per_step.items()}
        short = [name for name, count in steps.items() if count < 1]
        if short:
            raise ValueError(f"--budget {self.text} is shorter than one step of {short[0]}")
        return steps


def parse_budget(text: str) -> Budget:
    """Reads ``steps:400`` or ``seconds:1800``.

    Raises:
        ValueError: If it is neither.
    """
    match = re.fullmatch(r"(steps|seconds):([1-9]\d*)", text)
    if not match:
        raise ValueError(f"--budget {text!r} is neither steps:NUMBER nor seconds:NUMBER")
    return Budget(match[1], int(match[2]))


def schedule_of(steps: int) -> tuple[int, int]:
    """Epochs and steps of an epoch, which make as many of the steps as they can, and no more.

    Args:
        steps: From 1 up.
    """
    fewest, usual, most = (min(steps, epochs) for epochs in EPOCHS)
    return max(
        ((epochs, steps // epochs) for epochs in range(fewest, most + 1)),
        key=lambda pair: (math.prod(pair), -abs(pair[0] - usual)),
    )


def methods_for(methods: Sequence[str], dataset_json: Json) -> list[str]:
    """The methods that differ on a data set: where no label names a side, one is like another."""
    sided = mentions_side(one.canonical for one in phrase_bank(dataset_json))
    return [name for name in methods if sided or name != SIDES or SIDES_LIKE not in methods]


def unet_architecture(
    dataset: str, spacing: Sequence[float], patch: Sequence[int]
) -> tuple[Json, list[int]]:
    """nnU-Net's U-Net for a patch, as nnU-Net's own planner makes it.

    The planner is told that images are as large as the patch and that memory has no limit. So it
    chooses stages, kernels, strides and features, and makes the patch larger where its poolings
    do not divide it.

    Args:
        dataset: ``DatasetXXX_Name``; nnU-Net's folders are those of the environment.
        spacing: In mm.
        patch: In voxels.

    Returns:
        The architecture, and the patch that it divides, which is no smaller than the one given.

    Raises:
        ValueError: If the planner makes the patch smaller all the same.
    """
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.utilities.json_export import recursive_fix_for_json_export

    planner = ExperimentPlanner(dataset, gpu_memory_target_in_gb=UNLIMITED_GB)
    told = planner.get_plans_for_configuration(
        np.array(spacing), np.array(patch), "unused", math.prod(patch), {}
    )
    found = [int(size) for size in told["patch_size"]]
    if any(size < wanted for size, wanted in zip(found, patch, strict=True)):
        raise ValueError(f"{dataset}: nnU-Net's planner cuts the patch {list(patch)} to {found}")
    block = dict(told["architecture"])
    recursive_fix_for_json_export(block)
    return json.loads(json.dumps(block)), found


def plans_of_both(base: Json, unet: Json, patch: Sequence[int]) -> tuple[Json, Json]:
    """RefSAM3D's plan and the U-Net's, which differ in the network and in nothing else.

    Args:
        base: Content of RefSAM3DPlanner's plan.
        unet: Architecture of the U-Net.
        patch: For both; a larger one than the base's gives RefSAM3D an architecture for it.
    """
    configuration = base["configurations"][CONFIGURATION]
    shared = dict(configuration)
    if list(configuration["patch_size"]) != list(patch):
        shared |= redesigned(configuration, patch, network_config(configuration).preset)
    ours = {**base, "configurations": {CONFIGURATION: shared}}
    theirs = {key: value for key, value in base.items() if key != "refsam3d"}
    theirs["configurations"] = {CONFIGURATION: {**shared, "architecture": unet}}
    return ours, theirs
