"""Whatever a server does, nothing half-written or wrong is found under the final name."""

import io
import re
import shutil

import pytest

from refsam3d_nnunet.weights import transfer
from refsam3d_nnunet.weights.transfer import TransferError, download
from tests.weights.loopback import CONTENT, DIGEST, OTHER, SIZE, Answer, Server, sha256

HALF = 150_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "tiny.pth"


@pytest.fixture
def fetch(server, path):
    """Function that downloads what the server's script brings."""

    def fetch(*script, size=SIZE, digest=DIGEST):
        if script:
            server.answers(*script)
        return download(server.url, path, size=size, sha256=digest)

    return fetch


def beside(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_a_whole_file_arrives_in_one_request(fetch, server, path):
    assert fetch() == DIGEST
    assert path.read_bytes() == CONTENT
    assert beside(path) == ["tiny.pth"]
    assert len(server.requests) == 1
    assert "Range" not in server.requests[0]


def test_what_is_not_known_is_not_asked_for(fetch, path):
    assert fetch(Answer(OTHER), size=None, digest=None) == sha256(OTHER)
    assert path.read_bytes() == OTHER


def test_a_break_is_continued_where_it_was(fetch, server, path):
    fetch(Answer(sent=HALF), Answer())
    assert path.read_bytes() == CONTENT
    first, second = server.requests
    start = int(re.fullmatch(r"bytes=(\d+)-", second["Range"])[1])
    assert 0 < start <= HALF
    assert second["If-Range"] == '"v1"'


def test_the_next_call_continues_what_an_earlier_one_left(fetch, server, path):
    with pytest.raises(TransferError, match=r"broke off 5 times .* [1-9][\d,]+ bytes are kept"):
        fetch(Answer(sent=HALF), Answer(sent=0))
    assert beside(path) == ["tiny.pth.part", "tiny.pth.part.json"]
    left = (path.parent / "tiny.pth.part").stat().st_size
    server.requests.clear()
    fetch(Answer())
    assert server.requests[0]["Range"] == f"bytes={left}-"
    assert path.read_bytes() == CONTENT
    assert beside(path) == ["tiny.pth"]


def test_a_whole_part_needs_no_request(fetch, server, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_checked", lambda *args: 1 / 0)  # killed before the renaming
        with pytest.raises(ZeroDivisionError):
            fetch()
    server.stop()
    assert fetch() == DIGEST
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        Answer(ranges=False),
        Answer(OTHER, etag='"v2"'),  # changed, and the server heeds If-Range
        Answer(OTHER, etag='"v2"', if_range=False),  # changed, and it does not
        Answer(CONTENT[:HALF], if_range=False, etag='"v2"'),  # now shorter than what is kept
    ],
    ids=["no ranges", "changed", "changed, If-Range ignored", "shorter"],
)
def test_what_cannot_be_continued_starts_anew(fetch, path, answer):
    fetch(Answer(sent=HALF + 100_000), answer, size=None, digest=None)
    assert path.read_bytes() == answer.body


def test_without_a_mark_of_the_version_nothing_is_continued(fetch, server, path):
    fetch(Answer(sent=HALF, etag=None), Answer(OTHER, etag=None), digest=sha256(OTHER))
    assert path.read_bytes() == OTHER
    assert all("Range" not in request for request in server.requests)


def test_a_weak_etag_is_no_mark(fetch, server):
    fetch(Answer(sent=HALF, etag='W/"v1"'), Answer())
    assert "Range" not in server.requests[1]


def test_what_another_address_sent_is_not_continued(fetch, path):
    with Server() as mirror:
        mirror.answers(Answer(OTHER, sent=HALF), Answer(sent=0))
        with pytest.raises(TransferError, match="broke off"):
            download(mirror.url, path, size=SIZE, sha256=None)
    fetch()
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [SIZE + 1, SIZE - 1, 2 * SIZE])
def test_a_lie_about_the_length_is_refused(fetch, server, path, length):
    with pytest.raises(TransferError, match=rf"offers a file of {length:,} bytes, and it must"):
        fetch(Answer(length=length))
    assert beside(path) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("length", "match"),
    [(SIZE + 1, "broke off 5 times"), (-1, "does not say how long")],
)
def test_a_length_that_nothing_can_be_held_against(fetch, path, length, match):
    with pytest.raises(TransferError, match=match):
        fetch(Answer(length=length), size=None, digest=None)
    assert not path.exists()


def test_more_than_the_length_is_refused(fetch, path):
    with pytest.raises(ValueError, match=rf"and not {SIZE:,} bytes.*was deleted") as refusal:
        fetch(Answer(CONTENT + OTHER, length=-1))
    arrived = re.search(r"has ([\d,]+) bytes", str(refusal.value))[1]
    assert int(arrived.replace(",", "")) <= SIZE + transfer.CHUNK  # the rest was not waited for
    assert beside(path) == []


def test_less_than_the_length_is_continued(fetch, server, path):
    fetch(Answer(length=-1, sent=HALF), Answer())
    assert path.read_bytes() == CONTENT
    assert server.requests[1]["Range"] == f"bytes={HALF}-"


def test_wrong_content_is_deleted(fetch, path):
    with pytest.raises(ValueError, match=f"SHA-256 {sha256(OTHER)}, and not SHA-256"):
        fetch(Answer(OTHER))
    assert beside(path) == []


def test_a_wrong_end_is_deleted_too(fetch, path):
    with pytest.raises(ValueError, match="changed on its way or at its source"):
        fetch(Answer(sent=HALF), Answer(OTHER))
    assert beside(path) == []


def test_a_web_page_is_no_file_and_spoils_none(fetch, path):
    page = Answer(b"<html>log in</html>", content_type="text/html; charset=utf-8", etag=None)
    with pytest.raises(TransferError, match="web page instead of the file"):
        fetch(Answer(sent=HALF), page)
    assert not path.exists()
    assert (path.parent / "tiny.pth.part").stat().st_size > 0
    fetch(Answer())
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "match", "requests"),
    [(404, "404 Not Found; the address may", 1), (503, "503 .*; try again later", 5)],
)
def test_errors_of_the_server(fetch, server, path, monkeypatch, status, match, requests):
    monkeypatch.setattr("time.sleep", lambda seconds: 1 / (seconds < 60))
    with pytest.raises(TransferError, match=match):
        fetch(Answer(b"sorry", status=status))
    assert beside(path) == []
    assert len(server.requests) == requests


def test_an_error_that_passes_is_waited_for(fetch, path):
    fetch(Answer(b"", status=503), Answer(b"", status=502), Answer())
    assert path.read_bytes() == CONTENT


def test_the_bar_goes_on_where_the_file_does(fetch, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    fetch(Answer(sent=HALF), Answer())
    drawn = [text for text in re.split(r"[\r\n]", terminal.getvalue()) if "B/s" in text]
    starts = [text.strip() for text in drawn if "00:00<" in text]
    assert starts[0].startswith("0%|")
    assert re.match(r"[2-5]\d%\|.* \d+k/300k \[", starts[-1])


def test_no_bar_without_a_terminal(fetch, capsys):
    fetch()
    assert capsys.readouterr() == ("", "")


def test_nobody_there(fetch, server, path, caplog):
    server.stop()
    with pytest.raises(
        TransferError, match=r"127\.0\.0\.1:\d+ cannot be reached \(Failed .*refused\)$"
    ):
        fetch()
    assert beside(path) == []
    assert not caplog.records


def test_a_server_that_goes_away_leaves_what_came(fetch, server, path):
    with pytest.raises(TransferError, match="broke off"):
        fetch(Answer(sent=HALF), Answer(sent=0))
    server.stop()
    with pytest.raises(TransferError, match=r"cannot be reached .* bytes from before are kept"):
        fetch()


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_full_disk_is_noticed_before_anything_is_written(fetch, path, monkeypatch, size):
    usage = shutil.disk_usage(path.parents[1])._replace(free=SIZE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"has room for 300,000 bytes, and 300,001 are wanted"):
        fetch(size=size)
    assert beside(path) == []


@pytest.mark.parametrize(
    "answer", [Answer(OTHER), Answer(length=1), Answer(status=404), Answer(sent=9)]
)
def test_the_file_of_before_stays_until_a_whole_one_has_come(fetch, path, answer):
    path.parent.mkdir()
    path.write_bytes(b"before")
    with pytest.raises((TransferError, ValueError)):
        fetch(answer, Answer(sent=0))
    assert path.read_bytes() == b"before"
