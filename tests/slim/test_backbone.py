"""Backbone files: written once, found in order, and refused when they are not the right one."""

import multiprocessing as mp
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.slim.backbone import (
    BackboneFinder,
    backbone_content,
    file_name,
    looking_first_in,
    read_backbone,
    write_backbone,
)
from refsam3d_nnunet.weights import hashes

DATASET = "Dataset001_One"


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    names = ("image_encoder.pos_embed", "image_encoder.blocks.0.attn.qkv.weight")
    return {name: torch.randn(3, 5, generator=generator) for name in names}


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Folders in which a backbone may be, in the order of looking."""
    for name in ("REFSAM3D_BACKBONE", "nnUNet_results", "REFSAM3D_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REFSAM3D_BACKBONE", str(tmp_path / "named"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("REFSAM3D_WEIGHTS", str(tmp_path / "store"))
    return [
        tmp_path / "named",
        tmp_path / "model",
        tmp_path / "results" / DATASET / "RefSAM3DTrainer__P__3d_fullres",
        tmp_path / "results" / "Dataset000_Other" / "T__P__2d",
        tmp_path / "store" / "backbones",
    ]


def test_named_by_its_own_hash_and_read_back(tmp_path):
    content, sha256 = backbone_content(tensors())
    path = write_backbone(content, tmp_path / "new")
    assert path == tmp_path / "new" / file_name(sha256)
    assert sha256_of(path) == sha256
    assert path.name == f"refsam3d_backbone_{sha256[:16]}.safetensors"
    found = read_backbone(path, sha256)
    assert {name: t.tolist() for name, t in found.items()} == {
        name: t.tolist() for name, t in tensors().items()
    }


def test_the_order_of_tensors_does_not_matter():
    backwards = dict(reversed(tensors().items()))
    assert backbone_content(backwards) == backbone_content(tensors())
    assert backbone_content(tensors(1)) != backbone_content(tensors())


def test_written_once(tmp_path, monkeypatch):
    content, sha256 = backbone_content(tensors())
    path = write_backbone(content, tmp_path)
    before = path.stat()
    assert write_backbone(content, tmp_path) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    path.write_bytes(content[:100])  # as a full disk leaves it
    write_backbone(content, tmp_path)
    assert sha256_of(path) == sha256
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def stop(self, content):
        self.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_backbone(backbone_content(tensors())[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def _write(folder, barrier):
    content, _ = backbone_content(tensors())
    barrier.wait()
    write_backbone(content, folder)


def test_two_folds_at_once_write_one_file(tmp_path):
    context = mp.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_write, args=(tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    (path,) = tmp_path.iterdir()
    assert path.name == file_name(sha256_of(path))
    assert len(load_file(path)) == 2


def test_looked_for_in_this_order(places):
    content, sha256 = backbone_content(tensors())
    with looking_first_in(places[1]):
        find = BackboneFinder(DATASET)
    for place in reversed(places):
        path = write_backbone(content, place)
        assert find.path(sha256) == path
    assert torch.equal(
        find(sha256)["image_encoder.pos_embed"], tensors()["image_encoder.pos_embed"]
    )


def test_the_variable_may_name_the_file_itself(tmp_path, monkeypatch):
    content, sha256 = backbone_content(tensors())
    path = write_backbone(content, tmp_path).rename(tmp_path / "mine.safetensors")
    monkeypatch.setenv("REFSAM3D_BACKBONE", str(path))
    assert BackboneFinder()(sha256)
    with pytest.raises(ValueError, match=f"mine.safetensors.*has the SHA-256 {sha256}, and"):
        BackboneFinder()("ab" * 32)


def test_a_folder_named_for_one_network_is_not_looked_at_by_the_next(places):
    content, sha256 = backbone_content(tensors())
    write_backbone(content, places[1])
    with looking_first_in(places[1]):
        assert BackboneFinder().path(sha256)
    with pytest.raises(FileNotFoundError):
        BackboneFinder().path(sha256)


def test_what_is_missing_is_told_with_all_places(places):
    sha256 = "5a" * 32
    with pytest.raises(FileNotFoundError) as caught:
        BackboneFinder(DATASET, places[1])(sha256)
    message = str(caught.value)
    assert file_name(sha256) in message and sha256 in message
    for place in (*places[:2], places[2].parent / "*", places[4]):
        assert str(place) in message
    for remedy in ("REFSAM3D_BACKBONE", "refsam3d weights export", "refsam3d weights merge"):
        assert remedy in message


def test_without_any_variable(monkeypatch):
    for name in ("REFSAM3D_BACKBONE", "nnUNet_results", "REFSAM3D_WEIGHTS"):
        monkeypatch.delenv(name)
    with pytest.raises(FileNotFoundError, match=r"refsam3d/weights/backbones\."):
        BackboneFinder().path("5a" * 32)


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-1] + b"x", lambda b: b""])
def test_a_damaged_file_is_named_and_refused(tmp_path, damage):
    content, sha256 = backbone_content(tensors())
    path = write_backbone(content, tmp_path)
    path.write_bytes(damage(content))
    with pytest.raises(ValueError, match=rf"{path.name}.*damaged, cut short, or another one"):
        read_backbone(path, sha256)


def test_hashed_once_and_again_after_a_change(tmp_path, monkeypatch):
    hashed = []

    def counting(path):
        hashed.append(path)
        return sha256_of(path)

    monkeypatch.setattr(hashes, "sha256_of", counting)
    content, sha256 = backbone_content(tensors())
    path = write_backbone(content, tmp_path)
    for _ in range(3):
        read_backbone(path, sha256)
    assert len(hashed) == 1
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="damaged"):
        read_backbone(path, sha256)
    assert len(hashed) == 2
