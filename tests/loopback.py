"""Parts for the tests' servers on loopback: a quiet handler of GET and HEAD, S3's listing, and a server's life."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Handler", "Listed", "error", "listing", "serving"]

FIRST_DAY = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


class Listed(NamedTuple):
    """A file in a bucket's listing; the name is its path in the bucket."""

    name: str
    size_bytes: int
    etag: str = '"1"'


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD by ``answer()``, which a subclass has, and says nothing of it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def answer(self, *, with_body: bool) -> None:
        """Answer one request."""
        raise NotImplementedError

    def send(self, status: int, body: bytes, headers: Mapping[str, str], *, with_body: bool, cut: bool = False) -> None:
        """Send an answer; ``cut`` ends it half-way."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def write(self, body: bytes) -> None:
        """Write a body."""
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone."""


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler], name: str) -> Iterator[str]:
    """Serve in a thread with this name until the block ends; gives the URL."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name=name, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listing(bucket: str, files: Iterable[Listed]) -> bytes:
    """Return S3's answer to a listing."""
    contents = "".join(
        f"<Contents><Key>{escape(file.name)}</Key><Size>{file.size_bytes}</Size><ETag>{file.etag}</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for file in files
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


def error(code: str, message: str) -> bytes:
    """Return S3's body of an error."""
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
