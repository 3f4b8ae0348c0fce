"""An S3 server on loopback with one model, as slow as it is told: what a download asks for, a listing and files.

`python -m benchmarks.slow_s3 FOLDER BYTES_PER_S` serves `s3://models/m` until it is ended; its first line is the URL.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "s3://models/m"
BEGINS = "/begins"
"""Asked for by whoever the weights are to wait for, where they do."""

_CHUNK = 16 * 1024


@contextmanager
def slow_s3(folder: Path, bytes_per_s: float | None = None, begins: threading.Event | None = None) -> Iterator[str]:
    """Serve the files of a folder; gives the URL.

    Args:
        folder: the model's.
        bytes_per_s: what all downloads together get; `None` for no limit.
        begins: set when `/begins` is asked for; until then, nobody gets weights.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, _Tap(bytes_per_s), begins))
    thread = threading.Thread(target=server.serve_forever, name="slow S3", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if begins is not None:
            begins.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Tap:
    """Limit the bytes per second of all downloads together."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0  # when the next chunk may be sent
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Wait until so many bytes may be sent."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            at_s = max(self._free_s, time.monotonic())
            self._free_s = at_s + count / self._bytes_per_s
        time.sleep(max(self._free_s - time.monotonic(), 0.0))


def _handler(folder: Path, tap: _Tap, begins: threading.Event | None) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            file = folder / path.rpartition("/")[2]
            if path == BEGINS and begins is not None:
                begins.set()
                self._send(200, b"", with_body)
            elif path.count("/") < 2:  # the bucket
                self._send(200, _listing(folder), with_body)
            elif not file.is_file():
                self._send(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", with_body)
            else:
                if begins is not None and with_body and file.suffix == ".safetensors":
                    begins.wait()
                self._send(200, file.read_bytes(), with_body)

        def _send(self, status: int, body: bytes, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            for start in range(0, len(body) if with_body else 0, _CHUNK):
                chunk = body[start : start + _CHUNK]
                tap.take(len(chunk))
                self.wfile.write(chunk)

    return Handler


def _listing(folder: Path) -> bytes:
    contents = "".join(
        f'<Contents><Key>m/{file.name}</Key><Size>{file.stat().st_size}</Size><ETag>"1"</ETag></Contents>'
        for file in sorted(folder.iterdir())
        if file.is_file()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>models</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    with slow_s3(Path(sys.argv[1]), float(sys.argv[2])) as url:
        print(url, flush=True)
        threading.Event().wait()
