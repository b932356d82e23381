"""Files of one's own in the store of weights."""

import pytest

from refsam3d_nnunet.weights import store
from refsam3d_nnunet.weights.fetch import add
from refsam3d_nnunet.weights.hashes import recorded_hash
from tests.weights.conftest import files
from tests.weights.loopback import CONTENT, DIGEST, OTHER


@pytest.fixture
def mine(tmp_path, store_folder):
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    return path


def test_a_file_of_ones_own(mine, store_folder):
    path = add(mine)
    assert path == store_folder / "mine.pth"
    assert store.locate("mine") == path
    assert recorded_hash(path) == DIGEST
    assert add(mine, "other") == store_folder / "other.pth"
    assert add(mine, "third.pth") == store_folder / "third.pth"
    assert mine.exists()


def test_another_file_of_that_name_stays_unless_told(mine, store_folder, told):
    path = add(mine)
    assert add(mine) == path
    assert "The same file is here as mine" in told.text
    mine.write_bytes(OTHER)
    with pytest.raises(ValueError, match=f"SHA-256 {DIGEST[:12]}.* --name, or --replace it"):
        add(mine)
    assert path.read_bytes() == CONTENT
    add(mine, replace=True)
    assert path.read_bytes() == OTHER
    assert f"Replacing {path}, which has SHA-256 {DIGEST}" in told.text
    assert store.locate("mine") == path


def test_a_name_stands_for_one_file(mine, store_folder):
    add(mine)
    other = mine.with_suffix(".onnx")
    other.write_bytes(OTHER)
    with pytest.raises(ValueError, match="is another file here"):
        add(other)
    add(other, replace=True)
    assert files(store_folder) == ["mine.onnx", "mine.onnx.sha256"]


def test_a_damaged_file_of_ones_own(mine, store_folder):
    add(mine).write_bytes(OTHER)
    with pytest.raises(ValueError, match="damaged.*`refsam3d weights add FILE --name mine --rep"):
        store.locate("mine")


@pytest.mark.parametrize(
    ("file", "name", "match"),
    [
        ("mine.pth", "../mine", "cannot be a name"),
        ("mine.pth", "sam_vit_b", "published file of sam_vit_b"),
        ("mine.txt", None, "does not end in .pth"),
    ],
)
def test_what_cannot_be_added(mine, store_folder, file, name, match):
    (mine.parent / file).write_bytes(CONTENT)
    with pytest.raises(ValueError, match=match):
        add(mine.parent / file, name)
    assert not store_folder.exists()


def test_nothing_to_add(tmp_path, store_folder):
    with pytest.raises(FileNotFoundError, match="no file .*x.pth to add"):
        add(tmp_path / "x.pth")
