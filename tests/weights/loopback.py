"""A server on the loopback address that answers as it is told, and notes what it was asked."""

import hashlib
import random
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from refsam3d_nnunet.weights.registry import Address, Entry

CONTENT = random.Random(0).randbytes(300_001)
OTHER = random.Random(1).randbytes(300_001)
SIZE = len(CONTENT)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


DIGEST = sha256(CONTENT)


@dataclass
class Answer:
    """One answer; by default the whole file, or the part that is asked for.

    Args:
        body: What is served.
        status: Other than 200 and 206, an error.
        sent: Bytes of the body after which the connection is closed.
        length: Content-Length that is told; the true one if None, none at all if negative.
        ranges: Whether Range is looked at.
        if_range: Whether If-Range is looked at.
        etag: None if there is to be none.
        content_type: As told.
        stalls: Whether the connection stays open after what is sent, with nothing coming.
    """

    body: bytes = CONTENT
    status: int = 200
    sent: int | None = None
    length: int | None = None
    ranges: bool = True
    if_range: bool = True
    etag: str | None = '"v1"'
    content_type: str = "application/octet-stream"
    stalls: bool = False


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        start, status = self._start(answer), answer.status
        if start is not None and start >= len(answer.body):
            answer, start, status = Answer(b"", etag=None), 0, 416
        self.send_response(206 if start is not None and status == 200 else status)
        if start is not None and status == 200:
            end = len(answer.body)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        part = answer.body[start or 0 :]
        length = len(part) if answer.length is None else answer.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        if answer.etag:
            self.send_header("ETag", answer.etag)
        if status >= 500:
            self.send_header("Retry-After", "3600")
        self.send_header("Content-Type", answer.content_type)
        self.end_headers()
        self.wfile.write(part[: answer.sent])
        if answer.stalls:
            self.server.stopped.wait()

    def _start(self, answer):
        """Where the part starts; None if the whole file is to be sent."""
        asked = self.headers.get("Range")
        stale = answer.if_range and self.headers.get("If-Range") != answer.etag
        if not asked or not answer.ranges or stale:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args):
        """Keeps quiet."""


class Server:
    """Serves the answers of its script one after the other, the last one again and again."""

    def __enter__(self):
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.script, self._http.requests = [Answer()], []
        self._http.stopped = threading.Event()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/tiny.pth"
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        self._http.stopped.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answers(self, *script):
        self._http.script[:] = script

    @property
    def requests(self):
        return self._http.requests

    def entry(self, name="tiny", size=SIZE, digest=DIGEST):
        return Entry(name, "tests", Address(self.url), "tiny.pth", size, digest, "MIT", "nobody")
