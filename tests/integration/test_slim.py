"""Slim checkpoints through the trainer and the predictor."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import maybe_load_checkpoint

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.network.slim import BACKBONE_HASH, backbone_hash, backbone_tensors
from refsam3d_nnunet.slim.merge import merge_checkpoint
from tests.integration.trainer_steps import FINAL, backbones, batch_for, finish, load, save

pytestmark = [
    pytest.mark.integration,
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def slim(make, sam_file, monkeypatch, planned):
    """Makes slim trainers; what they leave is deleted."""
    monkeypatch.setenv("REFSAM3D_SLIM_CHECKPOINTS", "1")

    def _slim(fold=0, *, start=True):
        trainer = make(fold, plan={"tuning": "adapter", "checkpoint": str(sam_file)})
        if start:
            trainer.initialize()
            trainer.network.train()
        return trainer

    yield _slim
    shutil.rmtree(planned.model(), ignore_errors=True)


def equal(one: dict, other: dict) -> bool:
    return set(one) == set(other) and all(torch.equal(t, other[name]) for name, t in one.items())


def test_a_slim_checkpoint_and_its_backbone_are_the_whole_network(slim):
    trainer = slim()
    path = finish(trainer)
    (backbone,) = backbones(path.parents[1])
    stored = load(path)
    state = stored["network_weights"]
    assert backbone_hash(state) == sha256_of(backbone)
    assert stored["init_args"]["plans"]["refsam3d"]["slim"] == {
        "backbone": backbone.name,
        "sha256": sha256_of(backbone),
    }
    assert not set(state) & set(backbone_tensors(trainer.network))
    trainer.network.backbone.slim = False
    whole = trainer.network.state_dict()
    assert merge_checkpoint(path, path.with_name("merged.pth"))
    assert equal(load(path.with_name("merged.pth"))["network_weights"], whole)


def test_training_is_the_same_whatever_is_stored(slim, monkeypatch):
    whole = []
    for value in ("1", "0"):
        monkeypatch.setenv("REFSAM3D_SLIM_CHECKPOINTS", value)
        trainer = slim()
        trainer.train_step(batch_for(trainer))
        trainer.network.backbone.slim = False
        whole.append(trainer.network.state_dict())
    assert equal(*whole)


def test_folds_share_one_backbone_and_the_choice(slim, monkeypatch):
    finish(slim(0))
    monkeypatch.delenv("REFSAM3D_SLIM_CHECKPOINTS")
    path = finish(slim(1))
    assert BACKBONE_HASH in load(path)["network_weights"]
    assert len(backbones(path.parents[1])) == 1


def test_only_the_latest_has_moments(slim):
    final = finish(slim())
    trainer = slim()
    latest = finish(trainer, "checkpoint_latest.pth")
    moments = load(latest)["optimizer_state"]
    without = load(final)["optimizer_state"]
    assert len(moments["state"]) == sum(p.requires_grad for p in trainer.network.parameters())
    assert without["state"] == {}
    assert without["param_groups"] == moments["param_groups"]
    trainer.optimizer.load_state_dict(without)
    trainer.train_step(batch_for(trainer))
    assert trainer.optimizer.state


def test_a_resumed_run_takes_the_next_step_of_an_uninterrupted_one(slim, sam_file, monkeypatch):
    first = slim()
    finish(first, "checkpoint_latest.pth")
    first.current_epoch, first._iteration = 1, 0
    first.train_step(batch_for(first))
    monkeypatch.delenv("REFSAM3D_SLIM_CHECKPOINTS")
    monkeypatch.delenv("REFSAM3D_CHECKPOINT")

    second = slim(start=False)
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    second.network.train()
    assert second.optimizer.state
    second._slim_down()  # on_train_start does
    assert second.refsam3d["slim"] == first.refsam3d["slim"]
    second.train_step(batch_for(second))

    assert equal(second.network.state_dict(), first.network.state_dict())
    assert equal(backbone_tensors(second.network), backbone_tensors(first.network))


def test_a_run_that_goes_on_without_moments_says_so(slim, capsys):
    finish(slim(), "checkpoint_best.pth")
    trainer = slim(start=False)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    trainer.on_train_start()
    out = capsys.readouterr().out
    trainer.dataloader_train._finish()
    trainer.dataloader_val._finish()
    assert "no moments of the optimiser; they start anew" in out
    record = json.loads((Path(trainer.output_folder) / "refsam3d_run.json").read_text())
    (backbone,) = backbones(Path(trainer.output_folder_base))
    assert record["slim_checkpoints"] == {
        "backbone": backbone.name,
        "sha256": sha256_of(backbone),
        "folder": trainer.output_folder_base,
    }
    assert "SLIM CHECKPOINTS" in out and backbone.name in out


@pytest.mark.parametrize("kind", ["slim", "whole"])
def test_validation_loads_either(slim, monkeypatch, kind):
    trainer = slim()
    path = finish(trainer)
    if kind == "whole":
        merge_checkpoint(path, path)
    trainer.network.backbone.slim = False
    other = slim(start=False)
    maybe_load_checkpoint(other, continue_training=False, validation_only=True)
    other.network.backbone.slim = False
    assert equal(other.network.state_dict(), trainer.network.state_dict())


def test_pretrained_weights_from_slim_to_slim(slim):
    path = finish(slim(0))
    second = slim(1)
    load_pretrained_weights(second.network, str(path))
    state = load(path)["network_weights"]
    tuned = {name: t for name, t in second.network.state_dict().items() if "seg_layers" not in name}
    assert equal(tuned, {name: t for name, t in state.items() if "seg_layers" not in name})
    assert second._weights["from"] == "another training, by -pretrained_weights"


def test_pretrained_weights_beside_another_backbone_are_refused(slim, sam_file, planned):
    path = finish(slim(0))
    kept = sam_file.with_name("elsewhere.pth")
    path.rename(kept)
    shutil.rmtree(planned.model())
    other = torch.load(sam_file, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in other.items()}, sam_file)
    second = slim(1)
    before = second.network.state_dict()
    with pytest.raises(ValueError, match="this training adapts another one") as caught:
        load_pretrained_weights(second.network, str(kept))
    assert backbone_hash(before) in str(caught.value)
    assert backbone_hash(load(kept)["network_weights"]) in str(caught.value)


def forget_hashes(model: Path) -> None:
    """Makes the plan of a model folder one of before plans had hashes of the weights' files."""
    plans = json.loads((model / "plans.json").read_text())
    del plans["refsam3d"]["weights_sha256"]
    (model / "plans.json").write_text(json.dumps(plans))


def test_another_backbone_in_one_model_folder_is_refused(slim, sam_file):
    model = finish(slim(0)).parents[1]
    other = torch.load(sam_file, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in other.items()}, sam_file)
    with pytest.raises(ValueError, match="is not what the plan, or the folds trained before"):
        slim(1)
    forget_hashes(model)
    with pytest.raises(ValueError, match="share one frozen image encoder.*tensors differ"):
        slim(1)


def test_a_backbone_that_differs_by_rounding_is_taken_over(slim, sam_file):
    """Resampling gives other last digits on another machine."""
    path = finish(slim(0))
    forget_hashes(path.parents[1])
    other = torch.load(sam_file, weights_only=True)
    torch.save({name: tensor * (1 + 1e-6) for name, tensor in other.items()}, sam_file)
    trainer = slim(1)
    (backbone,) = backbones(path.parents[1])
    assert trainer.network.backbone.sha256 == sha256_of(backbone)
    (trained,) = {backbone_hash(load(p)["network_weights"]) for p in (path, finish(trainer))}
    assert trained == sha256_of(backbone)


def test_nothing_is_frozen_in_the_other_modes(make, monkeypatch):
    monkeypatch.setenv("REFSAM3D_SLIM_CHECKPOINTS", "1")
    with pytest.raises(ValueError, match="in tuning mode 'scratch' nothing is frozen"):
        make()


def predictor_of(model: Path, checkpoint: str, kind=nnUNetPredictor, folds=(0, 1)):
    predictor = kind(
        device=torch.device("cpu"),
        use_mirroring=False,
        perform_everything_on_device=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(model), folds, checkpoint)
    return predictor


def test_predictions_from_slim_merged_and_whole_are_identical(slim):
    """As nnU-Net's predictor loads: an ensemble of folds, each loaded again for every case."""
    for fold in (0, 1):
        trainer = slim(fold)
        path = finish(trainer)
        merge_checkpoint(path, path.with_name("checkpoint_merged.pth"))
        trainer.network.backbone.slim = False
        save(trainer, path.with_name("checkpoint_whole.pth"))
    model = path.parents[1]
    patch = trainer.configuration_manager.patch_size
    cases = [torch.randn(1, *(p + 3 for p in patch)) for _ in range(2)]
    logits = {}
    for name in (FINAL, "checkpoint_merged.pth", "checkpoint_whole.pth"):
        predictor = predictor_of(model, name)
        logits[name] = [predictor.predict_logits_from_preprocessed_data(case) for case in cases]
    for name, found in logits.items():
        for case, wanted in zip(found, logits["checkpoint_whole.pth"], strict=True):
            assert torch.equal(case, wanted), name
    assert not torch.equal(*(case[:, :2, :2, :2] for case in found)), "the cases differ"


def test_our_predictor_looks_into_the_folder_that_was_named(slim, tmp_path):
    from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor

    model = finish(slim()).parents[1]
    moved = tmp_path / "moved"
    shutil.move(model, moved)
    with pytest.raises(FileNotFoundError, match="REFSAM3D_BACKBONE"):
        predictor_of(moved, FINAL, folds=(0,))
    assert predictor_of(moved, FINAL, RefSAM3DPredictor, folds=(0,)).network
