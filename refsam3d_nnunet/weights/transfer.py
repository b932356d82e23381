"""Downloads that go on after a break, and appear under their name only when they are whole."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.weights.part import Part

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
BREAKS = 5  # how often a download that breaks off is taken up again
BACKOFF = 0.5  # seconds before the second try, doubled with each further one
CHUNK = 1 << 16

_log = logging.getLogger(__name__)
_RETRIED = (429, 500, 502, 503, 504)
_CONNECTION = re.compile(r"^HTTPS?Connection\(.*?\): ")  # how urllib3 begins its reasons
_BYTES = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class TransferError(OSError):
    """A file did not arrive; the message says why, and what was kept."""


class _BrokenOffError(Exception):
    """A request ended before the file did; the next one may go on."""


def download(url: str, path: Path, *, size: int | None, sha256: str | None) -> str:
    """Fetches a file. What arrives is kept in ``<path>.part`` until it is whole and checked.

    Args:
        url: Address of the file.
        path: Where it goes; a file there is replaced, and only by a whole one.
        size: Bytes that it must have; None if that is not known.
        sha256: What it must hash to; None if that is not known.

    Returns:
        Its SHA-256.

    Raises:
        TransferError: If it could not be fetched; what has arrived is kept.
        ValueError: If what arrived is not the file wanted; nothing of it is kept.
        OSError: If there is no room for it, or it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Part(path, url)
    with _quiet_retries(), _session() as session:
        _receive_all(session, url, part, size)
    found = _checked(part, size, sha256)
    part.rename_to(path)
    return found


def check_space(folder: Path, wanted: int) -> None:
    """Makes sure that a file fits on the disk.

    Raises:
        OSError: If it does not.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OSError(
            f"{folder} has room for {free:,} bytes, and {wanted:,} are wanted; free some, or name "
            f"another folder in REFSAM3D_WEIGHTS"
        )


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Without urllib3's warning at each retry; the last error is told in any case."""
    logger = logging.getLogger("urllib3.connectionpool")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _session() -> requests.Session:
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # else lengths are not those of the file
    retry = Retry(
        total=None,
        connect=2,
        read=2,
        status=4,
        backoff_factor=BACKOFF,
        status_forcelist=_RETRIED,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for hours, and nobody would know why
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _receive_all(session: requests.Session, url: str, part: Part, size: int | None) -> None:
    for turn in range(1, BREAKS + 1):
        if size is not None and part.length() == size:
            return
        try:
            _receive(session, url, part, size)
        except _BrokenOffError as error:
            if turn == BREAKS:
                raise TransferError(
                    f"{_host(url)} broke off {BREAKS} times ({error}). {part.length():,} bytes are "
                    f"kept, and the same command goes on from there"
                ) from error
            _log.info("%s broke off after %s bytes; going on", _host(url), f"{part.length():,}")
            time.sleep(BACKOFF * 2 ** (turn - 1))
        else:
            return


def _receive(session: requests.Session, url: str, part: Part, size: int | None) -> None:
    """Makes one request, and keeps what it brings."""
    start = part.length()
    headers = {"Range": f"bytes={start}-", "If-Range": part.validator()} if start else {}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        kept = f"; {start:,} bytes from before are kept" if start else ""
        raise TransferError(f"{_host(url)} cannot be reached ({_reason(error)}){kept}") from error
    with response:
        _refuse_other_answers(response, part)
        start, total = _extent(response, part, start)
        if size is None and total is None:
            raise TransferError(f"{_host(url)} does not say how long the file is")
        if None not in (size, total) and total != size:
            raise TransferError(
                f"{_host(url)} offers a file of {total:,} bytes, and it must have {size:,}: it is "
                f"another file, or a page that stands in for it"
            )
        check_space(part.file.parent, (total or 0) - start)
        if start == 0:
            part.start(_validator(response))
        _write(response, part, start, total if total is not None else size)


def _refuse_other_answers(response: requests.Response, part: Part) -> None:
    """Lets pass what brings (a part of) a file."""
    status, host = response.status_code, _host(response.url)
    if status == 416:  # what is kept is no part of the file that is there now
        part.discard()
        raise _BrokenOffError("what was kept does not belong to the file there")
    if status not in (200, 206):
        later = "try again later" if status in _RETRIED else "the address may have changed"
        raise TransferError(f"{host} answers with {status} {response.reason}; {later}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise TransferError(
            f"{host} sends a web page instead of the file, as a login page or a proxy does"
        )


def _extent(response: requests.Response, part: Part, start: int) -> tuple[int, int | None]:
    """Where in the file the answer starts, and the bytes of the whole file if it says so."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    extent = _BYTES.match(response.headers.get("Content-Range", ""))
    if not extent or int(extent[1]) != start or _validator(response) != part.validator():
        part.discard()
        raise _BrokenOffError("the server sent another part than it was asked for")
    return start, None if extent[2] == "*" else int(extent[2])


def _write(response: requests.Response, part: Part, start: int, total: int | None) -> None:
    bar = tqdm(
        total=total,
        initial=start,
        disable=None,  # tqdm's word for: unless it is a terminal
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
    )
    done = start
    with part.file.open("ab" if start else "wb") as stream, bar:
        try:
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
                if total is not None and done > total:
                    break
        except requests.RequestException as error:
            raise _BrokenOffError(_reason(error)) from error
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and done < total:
        raise _BrokenOffError(f"{total - done:,} bytes are missing")


def _checked(part: Part, size: int | None, sha256: str | None) -> str:
    """Hashes what has arrived; deletes it if it is not what is wanted."""
    length, found = part.file.stat().st_size, sha256_of(part.file)
    if (size is None or length == size) and sha256 in (None, found):
        return found
    part.discard()
    wanted = f"{size:,} bytes" if size is not None and length != size else f"SHA-256 {sha256}"
    raise ValueError(
        f"What arrived has {length:,} bytes and SHA-256 {found}, and not {wanted}: it was changed "
        f"on its way or at its source. It was deleted"
    )


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    weak = not etag or etag.startswith("W/")  # no proof that bytes are equal
    return response.headers.get("Last-Modified", "") if weak else etag


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _reason(error: Exception) -> str:
    """The innermost reason of what requests and urllib3 have wrapped."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    inner = getattr(error, "reason", None)
    return _reason(inner) if isinstance(inner, Exception) else _CONNECTION.sub("", str(error))
