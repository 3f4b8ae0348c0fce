"""An S3 server on loopback that fails as real ones do. Only what a download asks for: a listing, and files.

A bucket's name says how it fails; each has the same two files of a model.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["faulty_s3"]

DENIED, DENIED_WEIGHTS, CUT, STUCK = "denied", "denied-weights", "cut", "stuck"
FILES = {"config.json": b"{}", "model.safetensors": b"0" * 4096}


@contextmanager
def faulty_s3(when_stuck: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Serve; gives the URL.

    Args:
        when_stuck: called once, when the weights in the bucket ``stuck`` are first asked for. That request is never
            answered; later ones are.
    """
    over = threading.Event()
    first = threading.Lock()  # taken by the first who asks

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            bucket, _, key = urlsplit(self.path).path.strip("/").partition("/")
            name = key.rpartition("/")[2]
            if bucket == DENIED or (bucket == DENIED_WEIGHTS and name == "model.safetensors"):
                self._send(403, _error("AccessDenied", "Access Denied"), with_body)
            elif not key:
                self._send(200, _listing(bucket), with_body)
            elif name not in FILES:
                self._send(404, _error("NoSuchKey", "The specified key does not exist."), with_body)
            elif with_body and bucket == CUT and name == "model.safetensors":
                self._send(200, FILES[name], with_body, cut=True)
            elif with_body and bucket == STUCK and name == "model.safetensors" and first.acquire(blocking=False):
                when_stuck()
                over.wait()
                self.close_connection = True
            else:
                self._send(200, FILES[name], with_body)

        def _send(self, status: int, body: bytes, with_body: bool, *, cut: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if with_body:
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="faulty S3", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(bucket: str) -> bytes:
    contents = "".join(
        f'<Contents><Key>m/{name}</Key><Size>{len(body)}</Size><ETag>"1"</ETag></Contents>'
        for name, body in FILES.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated><KeyCount>{len(FILES)}</KeyCount>{contents}"
        "</ListBucketResult>"
    ).encode()


def _error(code: str, message: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
