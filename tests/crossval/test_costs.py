"""Costs of a method, from checkpoints and notes that are written here by hand."""

import json

import numpy as np
import pytest
import torch

from refsam3d_nnunet.crossval.costs import MEASURED, costs_of
from refsam3d_nnunet.crossval.folds import Fold, Method


def write_fold(folder, seconds, **notes):
    """A checkpoint as nnU-Net's trainer saves it, and what a job noted."""
    network = torch.nn.ModuleDict(
        {"conv": torch.nn.Conv3d(1, 2, 3), "norm": torch.nn.BatchNorm3d(2)}
    )
    network["again"] = network["conv"]  # the same tensors under a second name
    starts = [np.float64(1000.0 * i) for i in range(len(seconds) + 1)]  # one was not ended
    checkpoint = {
        "network_weights": network.state_dict(),
        "logging": {
            "train_losses": [np.float32(0.5)],
            "epoch_start_timestamps": starts,
            "epoch_end_timestamps": [s + t for s, t in zip(starts, seconds, strict=False)],
        },
        "init_args": {"device": torch.device("cpu"), "plans": {"patch_size": [1, 2]}},
        "current_epoch": len(seconds),
    }
    folder.mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoint_final.pth")
    if notes:
        (folder / "jobs").mkdir()
        (folder / "jobs" / "progress.json").write_text(json.dumps({"attempts": [notes]}))


@pytest.fixture
def folds(tmp_path):
    return [
        Fold(Method("T", "P"), number, tmp_path / "model", ("a",), ".nii.gz") for number in (0, 1)
    ]


def test_costs(folds):
    write_fold(folds[0].folder, [1800.0, 900.0], stage="train", peak_memory_gb=1.5)
    write_fold(folds[1].folder, [450.0, 450.0], stage="train", peak_memory_gb=2.5)
    costs = costs_of(folds, {fold: fold.folder / "jobs" for fold in folds})
    assert set(costs) == set(MEASURED)
    assert costs["hours"] == pytest.approx(1.0)
    assert costs["memory_gb"] == 2.5
    # 54 weights and 2 biases; scale, shift, mean and variance of two channels: buffers count.
    assert costs["parameters"] == 54 + 2 + 8
    size = (folds[0].folder / "checkpoint_final.pth").stat().st_size
    assert costs["checkpoint_mb"] == pytest.approx(size / 1e6, rel=1e-2)


def test_what_is_not_known_is_none(folds):
    write_fold(folds[0].folder, [3600.0], stage="validate", peak_memory_gb=9.0)
    costs = costs_of(folds[:1], {folds[0]: folds[0].folder / "jobs"})
    assert costs["memory_gb"] is None


def test_refsam3d_has_noted_its_parameters(folds):
    write_fold(folds[0].folder, [3600.0])
    (folds[0].folder / "refsam3d_run.json").write_text('{"parameters": 123}')
    costs = costs_of(folds[:1], {folds[0]: folds[0].folder / "jobs"})
    assert costs["parameters"] == 123
