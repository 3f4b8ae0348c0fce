"""An S3 server on loopback with one model, as slow as it is told: what a download asks for, a listing and files.

`python -m benchmarks.slow_s3 FOLDER BYTES_PER_S` serves `s3://models/m` until it is ended; its first line is the URL.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.loopback import FIRST_DAY, Handler, Listed, error, listing, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    with serving(_handler(folder, _Tap(bytes_per_s), begins), "slow S3") as url:
        try:
            yield url
        finally:
            if begins is not None:
                begins.set()


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


def _handler(folder: Path, tap: _Tap, begins: threading.Event | None) -> type[Handler]:
    class Slow(Handler):
        def answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            file = folder / path.rpartition("/")[2]
            status, body = 200, b""
            if path == BEGINS and begins is not None:
                begins.set()
            elif path.count("/") < 2:  # the bucket
                found = sorted(file for file in folder.iterdir() if file.is_file())
                body = listing("models", (Listed(f"m/{file.name}", file.stat().st_size) for file in found))
            elif not file.is_file():
                status, body = 404, error("NoSuchKey", "none")
            else:
                if begins is not None and with_body and file.suffix == ".safetensors":
                    begins.wait()
                body = file.read_bytes()
            self.send(status, body, {"ETag": '"1"', **FIRST_DAY}, with_body=with_body)

        def write(self, body: bytes) -> None:
            for start in range(0, len(body), _CHUNK):
                chunk = body[start : start + _CHUNK]
                tap.take(len(chunk))
                self.wfile.write(chunk)

    return Slow


if __name__ == "__main__":
    with slow_s3(Path(sys.argv[1]), float(sys.argv[2])) as url:
        print(url, flush=True)
        threading.Event().wait()
