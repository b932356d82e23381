"""Reading checkpoints: the formats in use, and every way in which a file can be wrong."""

import argparse
import os
import pickle
import subprocess

import pytest
import torch
from safetensors.torch import save_file

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.pretrained.checkpoint import read_checkpoint

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -2.0]).half()}


def _same(state):
    return list(state) == list(STATE) and all(
        torch.equal(state[name], STATE[name]) and state[name].dtype == STATE[name].dtype
        for name in STATE
    )


@pytest.mark.parametrize("wrapped", [STATE, {"model": STATE}, {"state_dict": STATE, "epoch": 3}])
@pytest.mark.parametrize("name", ["w.pth", "w.pt"])
def test_pickled(name, wrapped, tmp_path):
    torch.save(wrapped, tmp_path / name)
    assert _same(read_checkpoint(tmp_path / name))


def test_wrapped_twice_with_an_optimiser(tmp_path):
    content = {"model": {"state_dict": STATE}, "optimizer": {"lr": 1e-4, "steps": [1, 2]}}
    torch.save(content, tmp_path / "w.pth")
    assert _same(read_checkpoint(tmp_path / "w.pth"))


def test_before_torch_wrote_zip_files(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert _same(read_checkpoint(tmp_path / "w.pth"))


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    state = read_checkpoint(str(tmp_path / "w.safetensors"))
    assert _same(dict(sorted(state.items(), reverse=True)))


def test_parameters_are_tensors(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth")["a"].tolist() == [1, 1]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint .*gone.pth; check the path"):
        read_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_checkpoint(tmp_path)


def test_another_ending(tmp_path):
    torch.save(STATE, tmp_path / "w.ckpt")
    with pytest.raises(ValueError, match="w.ckpt does not end in .pth, .pt, .safetensors or .onnx"):
        read_checkpoint(tmp_path / "w.ckpt")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_cut_short(form, kept, tmp_path):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw))])
    with pytest.raises(ValueError, match="bytes. cannot be read .* Fetch it again"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com/spec/v1\n" * 3],
)
def test_something_else_under_that_name(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="something else under that name"):
        read_checkpoint(tmp_path / name)


class _Opens:
    """Unpickling one runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("writer", ["torch", "torch, legacy", "pickle"])
def test_code_is_not_run(writer, tmp_path):
    trap, path = tmp_path / "ran", tmp_path / "w.pth"
    content = {"model": STATE, "extra": _Opens(trap)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(_Opens(trap), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(ValueError, match="w.pth holds objects other .* refused.*save the tensors"):
        read_checkpoint(path)
    assert not trap.exists()


def test_training_arguments_are_named_as_the_obstacle(tmp_path):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="objects other than tensors"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "holds a Tensor, wanted is a state dict"),
        ([STATE], "holds a list, wanted"),
        ({}, "holds an empty dict"),
        ({"model": {}}, "holds an empty dict"),
        ({"a": torch.ones(2), "epoch": 3}, "entry 'epoch' is a int"),
        ({0: torch.ones(2)}, "entry 0 is a Tensor"),
        ({"network_weights": STATE}, "'network_weights' is a dict.*under 'model' or 'state_dict'"),
    ],
)
def test_no_state_dict(content, message, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(error.value)


def test_sha256(tmp_path):
    file = tmp_path / "w.bin"
    file.write_bytes(os.urandom(3 << 20))
    printed = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
    assert sha256_of(file) == printed.stdout.split()[0]
