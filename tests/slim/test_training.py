"""What a slim training decides, shares and leaves out."""

import pytest
import torch

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.network.slim import backbone_tensors, is_slim, support_slim
from refsam3d_nnunet.slim.backbone import BackboneFinder, backbone_content, file_name
from refsam3d_nnunet.slim.training import moments_for, slim_down, wants_slim


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A frozen and a tuned layer."""
    monkeypatch.delenv("REFSAM3D_BACKBONE", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.setenv("REFSAM3D_WEIGHTS", str(tmp_path / "store"))
    torch.manual_seed(0)
    network = torch.nn.ModuleDict(
        {"image_encoder": torch.nn.Linear(3, 2), "b": torch.nn.Linear(2, 2)}
    )
    network["image_encoder"].requires_grad_(False)
    support_slim(network)
    network.backbone.find = BackboneFinder(folder=tmp_path)
    return network


def down(network, folder, *, before=None, writes=True):
    return slim_down(network, folder, of_folder=before, writes=writes)


@pytest.mark.parametrize(
    ("asked", "before", "wanted"),
    [(None, None, False), (None, {}, True), (True, None, True), (False, {}, False)],
)
def test_the_variable_decides_else_the_folds_before(asked, before, wanted):
    assert wants_slim(Settings(slim_checkpoints=asked), "adapter", before) is wanted


@pytest.mark.parametrize("mode", ["full", "scratch"])
def test_only_where_something_is_frozen(mode):
    with pytest.raises(ValueError, match=f"in tuning mode '{mode}' nothing is frozen"):
        wants_slim(Settings(slim_checkpoints=True), mode, None)
    assert not wants_slim(Settings(), mode, None)


def test_one_process_writes(network, tmp_path):
    entry = down(network, tmp_path / "a", writes=False)
    assert not (tmp_path / "a").exists()
    network.backbone.sha256 = None
    assert down(network, tmp_path / "a") == entry
    assert [path.name for path in (tmp_path / "a").iterdir()] == [entry["backbone"]]
    assert entry["backbone"] == file_name(entry["sha256"])
    assert is_slim(network.state_dict())


def test_a_resumed_training_brings_its_backbone_along(network, tmp_path, monkeypatch):
    entry = down(network, tmp_path)
    elsewhere = (tmp_path / entry["backbone"]).rename(tmp_path / "mine.safetensors")
    monkeypatch.setenv("REFSAM3D_BACKBONE", str(elsewhere))
    state = network.state_dict()
    network.backbone.sha256 = None
    network.load_state_dict(state)
    (tmp_path / "model").mkdir()
    assert down(network, tmp_path / "model") == entry
    assert (tmp_path / "model" / entry["backbone"]).is_file()


def test_what_is_tuned_here_is_never_left_out(network, tmp_path):
    """Although the backbone that was loaded has it."""
    state = down(network, tmp_path) and network.state_dict()
    network.load_state_dict(state)
    network["image_encoder"].bias.requires_grad_(True)
    down(network, tmp_path)
    assert "image_encoder.bias" in network.state_dict()
    assert "image_encoder.weight" not in network.state_dict()


def test_what_the_backbone_lacks_is_never_left_out(network, tmp_path):
    """Although it is frozen here: it gets a backbone file of its own."""
    before = down(network, tmp_path)
    network.load_state_dict(network.state_dict())
    network["b"].requires_grad_(False)
    after = down(network, tmp_path)
    assert after != before
    assert "b.weight" not in network.state_dict()
    assert "b.weight" in network.backbone.find(after["sha256"])


def test_rounding_is_taken_over_and_more_is_refused(network, tmp_path):
    before = down(network, tmp_path)
    first = {name: tensor.clone() for name, tensor in backbone_tensors(network).items()}
    network.backbone.sha256 = None
    network["image_encoder"].weight.mul_(1 + 1e-6)
    assert down(network, tmp_path, before=before) == before
    assert backbone_content(backbone_tensors(network)) == backbone_content(first)
    network.backbone.sha256 = None
    network["image_encoder"].weight[0, 0] += 0.01
    with pytest.raises(ValueError, match="1 of 2 tensors differ, the first is 'image_encoder.weig"):
        down(network, tmp_path, before=before)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_the_backbone_of_the_folds_before_is_lost(network, tmp_path):
    before = {"backbone": file_name("ab" * 32), "sha256": "ab" * 32}
    with pytest.raises(FileNotFoundError, match=before["backbone"]):
        down(network, tmp_path, before=before)


@pytest.mark.parametrize(
    ("name", "slim", "kept"),
    [
        ("checkpoint_latest.pth", True, True),
        ("checkpoint_final.pth", True, False),
        ("checkpoint_best.pth", True, False),
        ("checkpoint_final.pth", False, True),
    ],
)
def test_moments(network, tmp_path, name, slim, kept):
    optimizer = torch.optim.AdamW(network["b"].parameters())
    network["b"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with moments_for(tmp_path / name, optimizer, slim=slim):
        inside = optimizer.state_dict()
    assert bool(inside["state"]) is kept
    assert optimizer.state_dict()["state"], "the optimiser itself has them, whatever was saved"
