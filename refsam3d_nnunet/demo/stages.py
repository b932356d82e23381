"""The demo's stages, each of them a command of nnU-Net's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from refsam3d_nnunet.demo.workspace import DATASET_ID, Workspace

CONFIGURATION = "3d_fullres"
# Small enough a target that the patches train on a CPU within minutes.
CPU_MEMORY_TARGET = 2.0


class Model(NamedTuple):
    """What nnU-Net's options ``-pl``, ``-p`` and ``-tr`` name.

    Attributes:
        planner: Class of the planner.
        plans: Name of the plans that it writes.
        trainer: Class of the trainer.
    """

    planner: str = "RefSAM3DPlanner"
    plans: str = "RefSAM3DPlans"
    trainer: str = "RefSAM3DTrainer"


REFSAM3D = Model()


class Schedule(NamedTuple):
    """How long to train.

    Attributes:
        epochs: Number of epochs.
        iterations: Batches of an epoch.
    """

    epochs: int
    iterations: int

    @property
    def val_iterations(self) -> int:
        """Batches that estimate the Dice after each epoch."""
        return max(2, self.iterations // 10)


@dataclass(frozen=True)
class Stage:
    """A command to run.

    Attributes:
        title: What it does, for the user.
        command: Name of nnU-Net's command without ``nnUNetv2_``.
        arguments: The command's arguments.
        expected: Seconds that it took with the phantom on a machine with two cores.
        steps: Epochs or images that its output counts; 0 if there are none.
    """

    title: str
    command: str
    arguments: tuple[str, ...]
    expected: float
    steps: int = 0

    @property
    def typed(self) -> str:
        """The command as one would type it."""
        return shlex.join((f"nnUNetv2_{self.command}", *self.arguments))


def build_stages(
    workspace: Workspace,
    schedule: Schedule,
    *,
    device: str,
    memory_target: float | None = None,
    n_test: int = 4,
    model: Model = REFSAM3D,
) -> list[Stage]:
    """Lists the commands from raw images to scores.

    Args:
        workspace: Where data and results lie.
        schedule: How long to train.
        device: ``cpu``, ``cuda`` or ``mps``.
        memory_target: GB that the planner may fill; its own default if None.
        n_test: Number of held-out cases.
        model: Which classes plan and train.
    """
    n_proc = str(worker_count())
    trained = ("-tr", model.trainer, "-p", model.plans)
    target = () if memory_target is None else ("-gpu_memory_target", f"{memory_target:g}")
    data, predicted = workspace.data, str(workspace.predictions)
    dataset, cross_check = str(DATASET_ID), "--verify_dataset_integrity"
    plan = ("-d", dataset, "-pl", model.planner, "-c", CONFIGURATION, *target)
    predict = ("-d", dataset, "-i", str(data / "imagesTs"), "-o", predicted, "-f", "0", *trained)
    truth = (str(data / "labelsTs"), predicted, "-djfile", str(data / "dataset.json"))
    return [
        Stage(
            "Plan and preprocess",
            "plan_and_preprocess",
            (*plan, "-np", n_proc, "-npfp", n_proc, cross_check, "--no_pbar"),
            expected=25,
        ),
        Stage(
            "Train",
            "train",
            (dataset, CONFIGURATION, "0", *trained, "-device", device),
            expected=35 + schedule.epochs * (2 + 0.75 * schedule.iterations),
            steps=schedule.epochs,
        ),
        Stage(
            "Predict held-out images",
            "predict",
            # No processes for reading and writing: on a few images they take longer to start.
            (*predict, "-c", CONFIGURATION, "-device", device)
            + ("-npp", "0", "-nps", "0", "--disable_progress_bar"),
            expected=8 + n_test,
            steps=n_test,
        ),
        Stage(
            "Evaluate",
            "evaluate_folder",
            (*truth, "-pfile", str(plans_file(workspace, model)), "-np", "1"),
            expected=5,
        ),
    ]


def plans_file(workspace: Workspace, model: Model = REFSAM3D) -> Path:
    """Where the planner writes.

    Args:
        workspace: Where data and results lie.
        model: Which classes plan and train.
    """
    return workspace.preprocessed / workspace.dataset / f"{model.plans}.json"


def settings(workspace: Workspace, schedule: Schedule) -> dict[str, str]:
    """Environment variables that a user would export to run the same commands.

    Args:
        workspace: Where data and results lie.
        schedule: How long to train.
    """
    return {
        "nnUNet_raw": str(workspace.raw),
        "nnUNet_preprocessed": str(workspace.preprocessed),
        "nnUNet_results": str(workspace.results),
        "nnUNet_def_n_proc": str(worker_count()),
        "nnUNet_n_proc_DA": str(worker_count()),
        "REFSAM3D_NUM_EPOCHS": str(schedule.epochs),
        "REFSAM3D_ITERATIONS_PER_EPOCH": str(schedule.iterations),
        "REFSAM3D_VAL_ITERATIONS": str(schedule.val_iterations),
    }


def environment(
    workspace: Workspace, schedule: Schedule, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the commands.

    Args:
        workspace: Where data and results lie.
        schedule: How long to train.
        inherited: The environment of this process.
    """
    quiet = {
        # nnU-Net hands all cores to torch itself; its helpers must not fight over them.
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    return {**inherited, **quiet, **settings(workspace, schedule)}


def worker_count() -> int:
    """Processes that nnU-Net may use for loading: half of the cores, 1 to 4."""
    return min(4, max(1, (os.cpu_count() or 1) // 2))
