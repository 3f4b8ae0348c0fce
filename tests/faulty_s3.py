"""An S3 server on loopback that fails as real ones do. Only what a download asks for: a listing, and files.

A bucket's name says how it fails; each has the same two files of a model.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .loopback import FIRST_DAY, Handler, Listed, error, listing, serving

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

    class Faulty(Handler):
        def answer(self, *, with_body: bool) -> None:
            bucket, _, key = urlsplit(self.path).path.strip("/").partition("/")
            name = key.rpartition("/")[2]
            status, body, cut = 200, FILES.get(name, b""), False
            if bucket == DENIED or (bucket == DENIED_WEIGHTS and name == "model.safetensors"):
                status, body = 403, error("AccessDenied", "Access Denied")
            elif not key:
                body = listing(bucket, (Listed(f"m/{name}", len(body)) for name, body in FILES.items()))
            elif name not in FILES:
                status, body = 404, error("NoSuchKey", "The specified key does not exist.")
            elif with_body and bucket == CUT and name == "model.safetensors":
                cut = True
            elif with_body and bucket == STUCK and name == "model.safetensors" and first.acquire(blocking=False):
                when_stuck()
                over.wait()
                self.close_connection = True
                return
            self.send(status, body, {"ETag": '"1"', **FIRST_DAY}, with_body=with_body, cut=cut)

    with serving(Faulty, "faulty S3") as url:
        try:
            yield url
        finally:
            over.set()
