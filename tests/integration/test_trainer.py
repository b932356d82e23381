"""The trainer's own promises, step by step and without nnU-Net's data loaders."""

import json

import pytest
import torch

from tests.integration.conftest import SHORT

pytestmark = [
    pytest.mark.integration,
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def make(planned, monkeypatch):
    """Makes trainers of fold 0 inside this process."""
    for name, value in planned.environment({**SHORT, "REFSAM3D_NUM_EPOCHS": "4"}).items():
        monkeypatch.setenv(name, value)
    from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer

    folder = planned.preprocessed / planned.name

    def _make(fold: int = 0) -> RefSAM3DTrainer:
        torch.manual_seed(fold)
        trainer = RefSAM3DTrainer(
            json.loads((folder / "RefSAM3DPlans.json").read_text()),
            "3d_fullres",
            fold,
            json.loads((folder / "dataset.json").read_text()),
            torch.device("cpu"),
        )
        return trainer

    return _make


def batch_for(trainer) -> dict:
    generator = torch.Generator().manual_seed(1)
    patch = trainer.configuration_manager.patch_size
    labels = torch.randint(0, 3, (2, 1, *patch), generator=generator).float()
    targets = [
        labels[:, :, :: round(1 / d), :: round(1 / h), :: round(1 / w)]
        for d, h, w in trainer._get_deep_supervision_scales()
    ]
    return {"data": torch.randn(2, 1, *patch, generator=generator), "target": targets}


def test_a_resumed_run_takes_the_next_step_of_an_uninterrupted_one(make, tmp_path):
    first = make()
    first.initialize()
    first.network.train()
    batch = batch_for(first)
    first.train_step(batch)
    for key, value in (("mean_fg_dice", 0.5), ("dice_per_class_or_region", [0.5, 0.5])):
        first.logger.log(key, value, 0)
    first.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    first.current_epoch, first._iteration = 1, 0
    first.train_step(batch)

    second = make()
    second.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    second.network.train()
    assert second.current_epoch == 1
    second.train_step(batch)

    other = second.network.state_dict()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]


def test_auxiliary_masks_weigh_half_of_the_next_finer(make):
    trainer = make()
    trainer.initialize()
    scales = trainer._get_deep_supervision_scales()  # thick slices are halved late
    assert scales == [[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.25, 0.25]]
    weights = trainer.loss.weight_factors
    assert weights == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    trainer.set_deep_supervision_enabled(False)
    assert torch.is_tensor(trainer.network.eval()(batch_for(trainer)["data"]))


def test_learning_rate_moves_within_an_epoch(make):
    trainer = make()
    trainer.initialize()
    batch = batch_for(trainer)
    rates = []
    for _ in range(2):
        trainer.train_step(batch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] > rates[1] > 0


def test_loss_goes_down_on_one_batch(make):
    trainer = make()
    trainer.initialize()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
