"""`refsam3d weights`: what it prints, and its exit status."""

import subprocess
import sys

import pytest

from refsam3d_nnunet.cli import main
from refsam3d_nnunet.weights import arguments, command, store
from refsam3d_nnunet.weights.registry import REGISTRY
from tests.weights.loopback import CONTENT, OTHER, Answer


@pytest.fixture
def tiny(server, store_folder, monkeypatch):
    """The registry with one entry alone."""
    for name in list(REGISTRY):
        monkeypatch.delitem(REGISTRY, name)
    monkeypatch.setitem(REGISTRY, "tiny", server.entry())
    return store_folder / "tiny.pth"


@pytest.fixture
def weights(capsys):
    """Function that runs `refsam3d weights`, and returns the exit status and what it says."""

    def weights(*arguments):
        status = main(["weights", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return weights


def test_each_command_with_options_has_something_to_run():
    assert list(arguments.COMMANDS) == list(command.COMMANDS)


def test_list_says_what_is_here(tiny, weights, tmp_path):
    row = r"tiny  no    0 MB  SHA-256     tests   MIT"
    assert row in weights("list")[1]
    weights("get", "tiny")
    assert row.replace("no ", "yes") in weights("list")[1]
    tiny.write_bytes(CONTENT[1:])
    assert "tiny  damaged" in weights("list")[1]
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    weights("add", tmp_path / "mine.pth")
    (tiny.parent / "hand.pth").write_bytes(CONTENT)
    status, out, _ = weights("list")
    assert status == 0
    assert "mine  yes      0 MB  its first hash  your own file  -" in out
    assert "hand  yes      0 MB  nothing " in out


def test_list_reads_no_file(tiny, weights, monkeypatch):
    weights("get", "tiny")
    monkeypatch.setattr(store, "hash_once", lambda path: 1 / 0)
    assert "tiny  yes" in weights("list")[1]


def test_list_says_what_is_trusted_on_first_use(tiny, server, weights, monkeypatch):
    monkeypatch.setitem(REGISTRY, "tiny", server.entry(size=None, digest=None))
    assert "tiny  no    ?     its first hash" in weights("list")[1]


@pytest.mark.parametrize("arguments", [["list"], ["where"], ["--help"], ["get", "--help"]])
def test_nothing_heavy_is_loaded(repo, arguments, store_folder):
    code = (
        "import sys; from refsam3d_nnunet import cli\n"
        f"try: cli.main({['weights', *arguments]})\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], cwd=repo, text=True)
    loaded = {*out.splitlines()[-1].split()}
    assert {"torch", "numpy", "nnunetv2", "transformers", "requests"} & loaded == set()


def test_get_prints_the_path_alone(tiny, weights):
    assert weights("get", "tiny")[:2] == (0, f"{tiny}\n")


def test_a_failure_is_one_line_and_status_2(tiny, server, weights):
    server.answers(Answer(b"<html>", content_type="text/html"))
    status, out, err = weights("get", "tiny")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("refsam3d: error: tiny was not fetched: 127.0.0.1:")
    assert "--from-file FILE" in err.splitlines()[-1]
    assert not tiny.exists()


def test_verify_tells_whole_damaged_and_unknown(tiny, weights, tmp_path):
    assert weights("verify")[:2] == (0, "There is nothing to verify.\n")
    weights("get", "tiny")
    assert weights("verify")[:2] == (0, "tiny: whole\n")
    (tiny.parent / "hand.pth").write_bytes(CONTENT)
    status, out, _ = weights("verify")
    assert status == 0
    assert f"hand: unknown, as no SHA-256 of it is known ({tiny.parent / 'hand.pth'})" in out
    tiny.write_bytes(OTHER)
    assert weights("verify", "hand")[0] == 0
    status, out, _ = weights("verify", "tiny", "hand")
    assert status == 1
    assert f"tiny: damaged ({tiny}); `refsam3d weights get tiny`" in out


def test_verify_tells_what_was_named_and_is_not_here(tiny, weights):
    assert weights("verify", "tiny")[:2] == (1, "tiny: missing; `refsam3d weights get tiny`\n")
    status, _, err = weights("verify", "tinny")
    assert status == 2
    assert "Did you mean tiny?" in err


def test_where_prints_one_line(tiny, weights):
    assert weights("where")[:2] == (0, f"{tiny.parent}\n")
    status, out, err = weights("where", "tiny")
    assert (status, out) == (2, "")
    assert "`refsam3d weights get tiny`" in err
    weights("get", "tiny")
    assert weights("where", "tiny")[:2] == (0, f"{tiny}\n")


def test_where_a_text_encoder_is(weights, store_folder):
    status, out, _ = weights("where", "minilm")
    assert status == 0
    assert out.rstrip().endswith("model.safetensors")


def test_get_from_file_and_add_by_name(tiny, weights, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(CONTENT)
    assert weights("get", "tiny", "--from-file", copy)[:2] == (0, f"{tiny}\n")
    mine = tiny.parent / "mine.pth"
    assert weights("add", copy, "--name", "mine")[:2] == (0, f"{mine}\n")
    copy.write_bytes(OTHER)
    assert weights("add", copy, "--name", "mine")[0] == 2
    assert weights("add", copy, "--name", "mine", "--replace")[:2] == (0, f"{mine}\n")
    assert mine.read_bytes() == OTHER
