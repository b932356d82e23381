"""Trainers of the benchmarks: the baselines' recipes, seeds, and the record of a run."""

import json
import math
import types

import numpy as np
import pytest
import torch
from torch import nn

from refsam3d_nnunet.crossval.folds import Fold, Method
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def _trainer(cls, monkeypatch):
    """A trainer as far as its optimiser and schedule go: 3 epochs of 4 steps."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    monkeypatch.setattr(nnUNetTrainer, "on_train_epoch_start", lambda self: None)
    monkeypatch.setattr(
        nnUNetTrainer,
        "train_step",
        lambda self, batch: {"loss": 0, "lr": [g["lr"] for g in self.optimizer.param_groups]},
    )
    monkeypatch.setenv("BENCHMARK_SEED", "0")
    trainer = cls.__new__(cls)
    trainer.network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    trainer.current_epoch, trainer.local_rank = 0, 1
    trainer.num_epochs, trainer.num_iterations_per_epoch = 3, 4
    trainer.logger = types.SimpleNamespace(get_value=lambda name, step: [])
    return trainer


def _rates(trainer):
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    rates = []
    for epoch in range(trainer.num_epochs):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        rates += [trainer.train_step({})["lr"] for _ in range(trainer.num_iterations_per_epoch)]
    return rates


def test_the_unet_gets_our_optimiser_and_rates(load_benchmark, monkeypatch):
    from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer

    theirs = _trainer(load_benchmark("trainers/nnunet_seeded").nnUNetTrainerAdamW, monkeypatch)
    ours = _trainer(RefSAM3DTrainer, monkeypatch)
    numbers = {"num_epochs": 3, "iterations_per_epoch": 4, "val_iterations": 1}
    ours.refsam3d = {"schedule": {**DEFAULT_SCHEDULE, **numbers}}
    ours._follow(ours.refsam3d["schedule"])
    monkeypatch.setattr(ours, "_draw_phrases", lambda: None)
    rates = _rates(ours)
    assert _rates(theirs) == rates
    assert len(rates) == 12
    assert len(set(map(tuple, rates))) == 12
    groups = zip(theirs.optimizer.param_groups, ours.optimizer.param_groups, strict=True)
    for one, other in groups:
        assert [p.shape for p in one["params"]] == [p.shape for p in other["params"]]
        assert {**one, "params": 0} == {**other, "params": 0}
    assert type(theirs.optimizer) is type(ours.optimizer) is torch.optim.AdamW


def test_nnunets_own_recipe_is_left_alone(load_benchmark):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    own = load_benchmark("trainers/nnunet_seeded").nnUNetTrainerSeeded
    for name in ("configure_optimizers", "train_step", "_build_loss", "get_dataloaders"):
        assert getattr(own, name) is getattr(nnUNetTrainer, name)


class _Base:
    """Hooks of nnU-Net's trainer, as far as seeds and records need them."""

    current_epoch, num_iterations_per_epoch, batch_size = 0, 2, 2
    inference_allowed_mirroring_axes = None
    configuration_manager = types.SimpleNamespace(patch_size=[8, 8, 8])
    logger = types.SimpleNamespace(get_value=lambda name, step: math.nan)
    network = nn.Linear(2, 1)

    def initialize(self):
        pass

    def on_train_epoch_start(self):
        np.random.rand()

    def on_train_epoch_end(self, outputs):
        pass

    def on_validation_epoch_start(self):
        pass

    def on_epoch_end(self):
        self.current_epoch += 1


@pytest.fixture
def seeded(load_benchmark, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_SEED", "3")
    mixin = load_benchmark("trainers/seeded").Seeded
    trainer = type("Trainer", (mixin, _Base), {})()
    trainer.output_folder = str(tmp_path)
    return trainer


def _epoch(trainer):
    trainer.on_train_epoch_start()
    drawn = [np.random.rand(), torch.rand(1).item()]
    trainer.on_train_epoch_end([])
    trainer.on_validation_epoch_start()
    watched = np.random.rand()
    trainer.on_epoch_end()
    return drawn, watched


def test_epochs_draw_the_same_numbers_again_and_are_recorded_once(seeded, tmp_path, monkeypatch):
    first = [_epoch(seeded) for _ in range(3)]
    assert first[0][0] != first[1][0]
    assert first[0][1] == first[1][1]
    seeded.current_epoch = 1  # resumed after epoch 0
    assert [_epoch(seeded) for _ in range(2)] == first[1:]
    record = json.loads((tmp_path / "benchmark_run.json").read_text())
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1, 2]
    assert record["epochs"][0]["dice"] is None
    assert record["epochs"][0]["seconds"] >= 0
    assert (record["parameters"], record["patch"], record["batch"]) == (3, [8, 8, 8], 2)
    monkeypatch.setenv("BENCHMARK_SEED", "4")
    seeded.current_epoch = 0
    assert _epoch(seeded)[0] != first[0][0]


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("", 5), ("0", 5), (None, 5)])
def test_a_study_keeps_the_threads_it_was_given(seeded, monkeypatch, asked, threads):
    taken = [5]  # by nnU-Net's command
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    seeded.initialize()
    assert taken[-1] == threads


def test_what_a_run_left(load_benchmark, tmp_path):
    labels = {"background": 0, "kidney_left": 1, "kidney_right": 2}
    fold = Fold(Method("T", "P"), 0, tmp_path, ("v0",), ".nii.gz")
    (fold.folder / "validation").mkdir(parents=True)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    rows = [{"prediction_file": "a/v0.nii.gz", "metrics": {"1": {"Dice": 0.5}, "2": {"Dice": 1}}}]
    summary = fold.folder / "validation" / "summary.json"
    summary.write_text(json.dumps({"metric_per_case": rows}))
    epochs = [
        {"epoch": n, "steps": 3, "seconds": 2.0, "processor_seconds": 1.0, "dice": n / 10}
        for n in range(2)
    ]
    record = {"patch": [8, 8, 8], "batch": 2, "epochs": epochs}
    (fold.folder / "benchmark_run.json").write_text(json.dumps(record))
    told = load_benchmark("accuracy_report").measured(fold)
    assert told["dice"] == {"v0": {"kidney_left": 0.5, "kidney_right": 1}}
    assert (told["steps"], told["seconds"], told["processor_seconds"]) == (6, 4.0, 2.0)
    curve = {"steps": [3, 6], "seconds": [2.0, 4.0], "dice": [0.0, 0.1]}
    assert told["curve"] == curve | {"processor_seconds": [1.0, 2.0]}
    assert told["patch"] == [8, 8, 8]
    assert "epochs" not in told
