"""Slim checkpoints made whole: files as nnU-Net's trainer writes them, but small."""

import argparse
import json
import os
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.network.slim import BACKBONE_HASH, hash_tensor
from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint
from refsam3d_nnunet.slim import arguments, merge
from refsam3d_nnunet.slim.backbone import backbone_content, write_backbone
from refsam3d_nnunet.slim.merge import export_zip, merge_checkpoint, merge_folder

FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"
FROZEN = {
    "image_encoder.pos_embed": torch.arange(6.0),
    "image_encoder.blocks.0.mlp.w": torch.ones(2, 3),
}
CONTENT, SHA256 = backbone_content(FROZEN)


@pytest.fixture(autouse=True)
def _nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv("REFSAM3D_BACKBONE", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.setenv("REFSAM3D_WEIGHTS", str(tmp_path / "store"))


def checkpoint(**weights):
    """With the kinds of objects that nnU-Net's trainer stores."""
    block = {"tuning": "adapter", "slim": {"backbone": "b.safetensors", "sha256": SHA256}}
    return {
        "network_weights": {"mask_decoder.w": torch.full((2,), 3.0), **weights},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5)],
            "train_losses": [np.float32(0.1)],
            "epoch_start_timestamps": [1.5],
        },
        "_best_ema": np.float64(0.25),
        "current_epoch": 1,
        "init_args": {
            "plans": {"dataset_name": "Dataset001_One", "refsam3d": block},
            "configuration": "3d_fullres",
            "device": torch.device("cpu"),
        },
        "trainer_name": "RefSAM3DTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


@pytest.fixture
def model(tmp_path) -> Path:
    """A model folder with two slim folds, the backbone, and what nnU-Net exports."""
    folder = tmp_path / "results" / "Dataset001_One" / "RefSAM3DTrainer__P__3d_fullres"
    slim = checkpoint(**{BACKBONE_HASH: hash_tensor(SHA256)})
    for fold in ("fold_0", "fold_1"):
        (folder / fold / "validation").mkdir(parents=True)
        (folder / fold / "validation" / "summary.json").write_text("{}")
        (folder / fold / "progress.png").write_bytes(b"png")
        for name in (FINAL, BEST):
            torch.save(slim, folder / fold / name)
    plans = slim["init_args"]["plans"]
    for name, content in (("plans", plans), ("dataset", {}), ("dataset_fingerprint", {})):
        (folder / f"{name}.json").write_text(json.dumps(content))
    write_backbone(CONTENT, folder)
    return folder


def weights_of(path: Path) -> dict:
    return read_nnunet_checkpoint(path)["network_weights"]


def slim_in_plan(folder: Path) -> bool:
    return "slim" in json.loads((folder / "plans.json").read_text())["refsam3d"]


def run(command, *options):
    parser = argparse.ArgumentParser()
    arguments.COMMANDS[command][1](parser)
    return getattr(merge, f"run_{command}")(parser.parse_args([str(option) for option in options]))


def test_a_merged_checkpoint_has_all_and_nothing_else_changes(model, tmp_path):
    path, out = model / "fold_0" / FINAL, tmp_path / "out.pth"
    assert merge_checkpoint(path, out, folder=model)
    before, after = (torch.load(p, weights_only=False) for p in (path, out))
    slim, whole = before.pop("network_weights"), after.pop("network_weights")
    assert set(whole) == set(slim) - {BACKBONE_HASH} | set(FROZEN)
    for name, tensor in FROZEN.items():
        assert torch.equal(whole[name], tensor)
    assert torch.equal(whole["mask_decoder.w"], slim["mask_decoder.w"])
    del before["init_args"]["plans"]["refsam3d"]["slim"]
    assert after == before
    assert not merge_checkpoint(out, tmp_path / "again.pth")
    assert not (tmp_path / "again.pth").exists()


def test_a_folder_in_place(model):
    merged = merge_folder(model)
    assert merged == sorted(model / f / n for f in ("fold_0", "fold_1") for n in (FINAL, BEST))
    for path in merged:
        assert set(FROZEN) < set(weights_of(path))
    assert not slim_in_plan(model)
    assert merge_folder(model) == []


def test_as_long_as_one_is_slim_the_plan_says_so(model):
    assert len(merge_folder(model, [FINAL])) == 2
    assert slim_in_plan(model)
    assert BACKBONE_HASH in weights_of(model / "fold_0" / BEST)
    assert len(merge_folder(model, [BEST])) == 2
    assert not slim_in_plan(model)


@pytest.mark.parametrize("moment", ["save", "replace"])
def test_an_interrupted_merge_leaves_the_old_file_whole(model, monkeypatch, moment):
    path = model / "fold_0" / FINAL
    before, files = path.read_bytes(), set(model.rglob("*"))

    def stop_saving(content, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    def stop_replacing(*_):
        raise OSError("no space left")

    if moment == "save":
        monkeypatch.setattr(torch, "save", stop_saving)
    else:
        monkeypatch.setattr(os, "replace", stop_replacing)
    with pytest.raises((KeyboardInterrupt, OSError)):
        merge_checkpoint(path, path, folder=model)
    assert path.read_bytes() == before
    assert set(model.rglob("*")) == files


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_code_in_a_checkpoint_is_not_run(model, tmp_path):
    path = model / "fold_0" / FINAL
    torch.save({**checkpoint(), "grad_scaler_state": Code(tmp_path / "mark")}, path)
    with pytest.raises(ValueError, match=f"{FINAL} holds objects.*could run code"):
        merge_checkpoint(path, path, folder=model)
    assert not (tmp_path / "mark").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "mark").exists(), "it would have run"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:400]), "cannot be read: it is damaged"),
        (lambda p: p.write_bytes(b""), "cannot be read: it is damaged"),
        (lambda p: torch.save({"w": torch.zeros(1)}, p), "has no 'network_weights'"),
        (lambda p: torch.save([1], p), "has no 'network_weights'"),
        (lambda p: torch.save({"network_weights": {}}, p), "has no 'init_args'"),
    ],
    ids=["truncated", "empty", "state dict", "list", "no plans"],
)
def test_files_that_are_no_checkpoint(model, damage, message):
    path = model / "fold_0" / FINAL
    damage(path)
    with pytest.raises(ValueError, match=message):
        merge_checkpoint(path, path, folder=model)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda p: p.unlink(), FileNotFoundError, "needs the frozen image encoder"),
        (lambda p: p.write_bytes(CONTENT[:-3]), ValueError, "damaged, cut short"),
        (lambda p: p.write_bytes(CONTENT[:-1] + b"\1"), ValueError, "damaged, cut short"),
    ],
    ids=["missing", "truncated", "another"],
)
def test_a_backbone_that_is_not_there_or_not_it(model, damage, error, message):
    (backbone,) = model.glob("*.safetensors")
    damage(backbone)
    before = sha256_of(model / "fold_0" / FINAL)
    with pytest.raises(error, match=message):
        merge_folder(model)
    assert sha256_of(model / "fold_0" / FINAL) == before
    assert slim_in_plan(model)


@pytest.mark.parametrize("links", [True, False], ids=["links", "as on Windows"])
def test_export_leaves_the_model_as_it_is(model, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "symlink", Mock(side_effect=OSError("refused")))
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.is_file()}
    text, status = run("export", model, "-o", tmp_path / "out" / "model.zip", "-f", "1")
    assert (status, "with 1 checkpoints" in text) == (0, True)
    assert {p: p.stat().st_mtime_ns for p in model.rglob("*") if p.is_file()} == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.zip"]
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as archive:
        archive.extractall(tmp_path / "installed")
    installed = tmp_path / "installed" / model.parent.name / model.name
    assert {str(p.relative_to(installed)) for p in installed.rglob("*") if p.is_file()} == {
        "plans.json",
        "dataset.json",
        "dataset_fingerprint.json",
        f"fold_1/{FINAL}",
        "fold_1/progress.png",
        "fold_1/validation/summary.json",
    }
    assert set(FROZEN) < set(weights_of(installed / "fold_1" / FINAL))
    assert not slim_in_plan(installed)


@pytest.mark.parametrize("lost", ["progress.png", "validation/summary.json", FINAL])
def test_export_says_what_a_fold_lacks(model, tmp_path, lost):
    (model / "fold_1" / lost).unlink()
    with pytest.raises(FileNotFoundError, match=f"fold_1/{lost}, which nnU-Net's export wants"):
        export_zip(model, tmp_path / "model.zip", folds=["0", "1"])
    assert not (tmp_path / "model.zip").exists()


def test_export_of_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="TRAINER__PLANS__CONFIGURATION"):
        export_zip(tmp_path, tmp_path / "model.zip")


def test_commands(model, tmp_path):
    path, out = model / "fold_0" / FINAL, tmp_path / "out.pth"
    out = out.parent / "new folder" / out.name
    assert run("merge", path, "-o", out) == (f"{out}: self-contained now", 0)
    assert BACKBONE_HASH in weights_of(path)
    assert "a copy, as" in run("merge", out, "-o", tmp_path / "copy.pth")[0]
    assert "nothing to do" in run("merge", out)[0]
    assert set(weights_of(tmp_path / "copy.pth")) == set(weights_of(out))
    text, _ = run("merge", model, "--checkpoints", FINAL)
    assert text.count("self-contained now") == 2
    assert "nothing to do" in run("merge", model, "--checkpoints", FINAL)[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["{model}", "-o", "x.pth"], ValueError, "-o goes with one checkpoint file"),
        (["{model}/fold_0/" + FINAL, "--checkpoints", FINAL], ValueError, "goes with a model"),
        (["{model}", "--checkpoints", "no.pth"], FileNotFoundError, r"has no fold_\*/no.pth"),
        (["{model}/fold_0"], FileNotFoundError, "wanted is a model folder"),
        (["{model}/no.pth"], FileNotFoundError, "There is no checkpoint"),
    ],
)
def test_options_that_do_not_go_together(model, options, error, message):
    with pytest.raises(error, match=message):
        run("merge", *(option.format(model=model) for option in options))
