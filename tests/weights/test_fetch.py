"""Bringing weights here: by name, and from a copy."""

import subprocess
import sys
import time

import huggingface_hub
import pytest
from huggingface_hub import constants

from refsam3d_nnunet.weights import store
from refsam3d_nnunet.weights.fetch import get
from refsam3d_nnunet.weights.hashes import recorded_hash
from refsam3d_nnunet.weights.registry import REGISTRY, Entry, Hub, Package
from tests.weights.conftest import files
from tests.weights.loopback import CONTENT, DIGEST, OTHER, SIZE, Answer, sha256

TWO = """
import sys
from refsam3d_nnunet.weights.fetch import get
from refsam3d_nnunet.weights.registry import REGISTRY, Address, Entry
url, size, digest = sys.argv[1:]
REGISTRY["tiny"] = Entry("tiny", "t", Address(url), "tiny.pth", int(size), digest, "MIT", "me")
print(get("tiny"))
"""


@pytest.fixture
def tiny(server, store_folder, monkeypatch):
    monkeypatch.setitem(REGISTRY, "tiny", server.entry())
    return store_folder / "tiny.pth"


def test_get_tells_licence_and_citation_and_notes_the_hash(tiny, told):
    assert get("tiny") == tiny
    assert tiny.read_bytes() == CONTENT
    assert "Licence: MIT" in told.text
    assert "Please cite: nobody" in told.text
    assert "trusted" not in told.text
    assert recorded_hash(tiny) == DIGEST
    assert files(tiny.parent) == ["tiny.pth", "tiny.pth.sha256"]


def test_what_is_here_is_not_fetched_again(tiny, server, told):
    get("tiny")
    get("tiny")
    assert len(server.requests) == 1
    assert "It is here, and whole" in told.text


def test_a_whole_file_in_a_folder_of_others_is_left_alone(tiny, server):
    tiny.parent.mkdir()
    tiny.write_bytes(CONTENT)
    assert get("tiny") == tiny
    assert list(tiny.parent.iterdir()) == [tiny]  # not even a lock
    assert server.requests == []


def test_a_damaged_file_is_replaced(tiny, told):
    get("tiny")
    tiny.write_bytes(OTHER)
    get("tiny")
    assert tiny.read_bytes() == CONTENT
    assert "is damaged; it is replaced once" in told.text


def test_a_damaged_file_is_not_replaced_by_a_worse_one(tiny, server):
    tiny.parent.mkdir()
    tiny.write_bytes(b"damaged, and maybe of use")
    server.answers(Answer(OTHER))
    with pytest.raises(ValueError, match=r"tiny: What arrived.*Try again\. Or fetch http:"):
        get("tiny")
    assert tiny.read_bytes() == b"damaged, and maybe of use"


def test_without_a_published_hash_the_first_one_counts(server, store_folder, monkeypatch, told):
    monkeypatch.setitem(REGISTRY, "tiny", server.entry(size=None, digest=None))
    server.answers(Answer(OTHER))
    path = get("tiny")
    assert "what comes first is trusted, and noted" in told.text
    assert recorded_hash(path) == sha256(OTHER)
    assert store.find("tiny").state(hashed=True) == store.WHOLE
    path.write_bytes(CONTENT)
    assert store.find("tiny").state(hashed=True) == store.DAMAGED


def test_without_network_the_message_tells_the_way_round(tiny, server):
    server.stop()
    with pytest.raises(
        OSError, match=rf"cannot be reached.*Or fetch {server.url} on .*get tiny --from-file FILE`"
    ):
        get("tiny")
    assert files(tiny.parent) == []


def test_an_unknown_name_to_get(store_folder):
    with pytest.raises(FileNotFoundError, match="Did you mean sam_vit_b"):
        get("sam_vitb")


def test_a_copy_needs_no_network(tiny, server, tmp_path):
    server.stop()
    copy = tmp_path / "from a stick.bin"
    copy.write_bytes(CONTENT)
    assert get("tiny", copy) == tiny
    assert tiny.read_bytes() == CONTENT
    assert copy.exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [(CONTENT[1:], "has 300,000 bytes, and tiny has 300,001"), (OTHER, "has SHA-256 .* another")],
)
def test_a_wrong_copy_is_refused(tiny, tmp_path, content, match):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        get("tiny", copy)
    assert files(tiny.parent) == []


def test_a_copy_that_is_not_there(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*copy.pth, which --from-file names"):
        get("tiny", tmp_path / "copy.pth")


def test_a_disk_that_spoils_the_copy(tiny, tmp_path, monkeypatch):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(CONTENT)
    monkeypatch.setattr("shutil.copyfile", lambda source, target: target.write_bytes(OTHER))
    with pytest.raises(OSError, match="was not copied rightly"):
        get("tiny", copy)
    assert files(tiny.parent) == []


def test_a_package_is_not_installed_behind_the_users_back(store_folder, monkeypatch, tmp_path):
    source = Package("no-such-carrier", "1.0", "no_such_carrier", "x/tiny.pth", "ours[carrier]")
    entry = Entry("tiny", "tests", source, "tiny.pth", SIZE, DIGEST, "MIT", "nobody")
    monkeypatch.setitem(REGISTRY, "tiny", entry)
    with pytest.raises(FileNotFoundError, match=r"`pip install 'ours\[carrier\]'`.*x/tiny\.pth"):
        get("tiny")
    copy = tmp_path / "tiny.pth"
    copy.write_bytes(CONTENT)
    assert get("tiny", copy) == store_folder / "tiny.pth"


def test_two_processes_fetch_once(tiny, server, repo):
    server.answers(Answer(sent=100_000), Answer())
    command = [sys.executable, "-c", TWO, server.url, str(SIZE), DIGEST]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repo) for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [str(tiny)] * 2
    assert tiny.read_bytes() == CONTENT
    assert len(server.requests) == 2  # the broken one and the one that went on


def test_a_killed_process_leaves_what_the_next_one_continues(tiny, server, repo):
    server.answers(Answer(sent=200_000, stalls=True), Answer())
    command = [sys.executable, "-c", TWO, server.url, str(SIZE), DIGEST]
    with subprocess.Popen(command, cwd=repo, stderr=subprocess.DEVNULL) as process:
        part = tiny.with_name("tiny.pth.part")
        deadline = time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert not tiny.exists()
    left = part.stat().st_size
    assert 0 < left <= 200_000
    get("tiny")
    assert server.requests[1]["Range"] == f"bytes={left}-"
    assert tiny.read_bytes() == CONTENT
    assert files(tiny.parent) == ["tiny.pth", "tiny.pth.sha256"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A registered folder of the hub, and what the hub is asked for; nothing is fetched."""
    source = Hub("some/body", "f" * 40)
    entry = Entry("text", "t", source, "model.bin", SIZE, DIGEST, "MIT", "nobody", "some/body")
    monkeypatch.setitem(REGISTRY, "text", entry)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = []

    def snapshot_download(repository, *, revision, content=CONTENT, **options):
        folder = tmp_path / "models--some--body" / "snapshots" / revision
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.bin").write_bytes(content)
        asked.append((repository, revision, options))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_the_hub_is_asked_for_the_commit(hub):
    path = get("text")
    assert path.read_bytes() == CONTENT
    (repository, revision, options) = hub[0]
    assert (repository, revision) == ("some/body", "f" * 40)
    assert "model.bin" in options["allow_patterns"]
    assert not options["force_download"]
    path.write_bytes(OTHER)
    get("text")
    assert hub[1][2]["force_download"]


def test_a_wrong_file_of_the_hub(hub, monkeypatch):
    fetch = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: fetch(*a, content=OTHER, **k)
    )
    with pytest.raises(ValueError, match="is not the published file; run `refsam3d weights get"):
        get("text")


def test_the_hub_out_of_reach(hub, monkeypatch):
    def offline(*args, **options):
        raise OSError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(OSError, match=r"no network\. On a machine .*hf download some/body --rev"):
        get("text")


def test_a_folder_of_the_hub_is_no_single_file(hub, tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="several files.*REFSAM3D_TEXT_ENCODER=FOLDER"):
        get("text", tmp_path / "x")
