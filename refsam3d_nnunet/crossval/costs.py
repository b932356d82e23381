"""What a method costs, from what its folds left behind."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from refsam3d_nnunet.crossval.folds import FINAL, Fold
from refsam3d_nnunet.crossval.job import read_attempts
from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint

# How the costs were measured, for tables and reports.
MEASURED = {
    "hours": "training epochs of all folds, by nnU-Net's clock; without validation, and without "
    "epochs that were lost and repeated",
    "memory_gb": "largest resident memory of one process of a training (host memory, not that of "
    "a GPU, which nnU-Net does not record); empty where refsam3d did not start the training",
    "parameters": "of the network, each counted once",
    "checkpoint_mb": "size of checkpoint_final.pth, mean over folds; a slim one needs the backbone "
    "file that all folds share",
}


def costs_of(folds: Sequence[Fold], jobs: Mapping[Fold, Path]) -> dict[str, float | None]:
    """Adds up what the folds of one method cost.

    Args:
        folds: Its folds; their trainings are over.
        jobs: Folder of each fold's jobs, where their memory was noted.

    Returns:
        ``hours``, ``memory_gb``, ``parameters`` and ``checkpoint_mb``, measured as ``MEASURED``
        says; None where nothing is known.
    """
    parts = ("network_weights", "logging")
    checkpoints = [read_nnunet_checkpoint(fold.folder / FINAL, parts) for fold in folds]
    peaks = [
        attempt["peak_memory_gb"]
        for fold in folds
        for attempt in read_attempts(jobs[fold])
        if "peak_memory_gb" in attempt and attempt["stage"] != "validate"
    ]
    sizes = [(fold.folder / FINAL).stat().st_size / 1e6 for fold in folds]
    return {
        "hours": sum(_hours(checkpoint["logging"]) for checkpoint in checkpoints),
        "memory_gb": max(peaks, default=None),
        "parameters": _recorded(folds[0]) or _counted(checkpoints[0]["network_weights"]),
        "checkpoint_mb": statistics.mean(sizes),
    }


def _hours(logging: Mapping[str, Sequence[float]]) -> float:
    # An epoch that was stopped in its middle has a start and no end.
    spans = zip(logging["epoch_start_timestamps"], logging["epoch_end_timestamps"], strict=False)
    return float(sum(end - start for start, end in spans)) / 3600


def _recorded(fold: Fold) -> int | None:
    """The number that RefSAM3DTrainer wrote down: its checkpoint also holds embeddings."""
    path = fold.folder / "refsam3d_run.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get("parameters")


def _counted(weights: Mapping[str, torch.Tensor]) -> int:
    """Counts tensors of floating point once each: nnU-Net's U-Net lists many under two names."""
    places = {
        (tensor.untyped_storage().data_ptr(), tensor.storage_offset()): tensor.numel()
        for tensor in weights.values()
        if tensor.is_floating_point()
    }
    return sum(places.values())
