"""A server on loopback for files: as S3, with a listing, and as plain HTTP. It fails as a test says."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from .loopback import FIRST_DAY, Handler, Listed, listing, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FileServer", "Request", "file_server"]


class Request(NamedTuple):
    """Hold a request: its method, a path such as ``/bucket/folder/file``, and the first byte."""

    method: str
    path: str
    start: int


class FileServer:
    """Files by their paths, and what goes wrong with them.

    Args:
        url: the server's.

    Attributes:
        files: the files, by ``/bucket/folder/file``; the first part is the bucket.
        listed: further files that the listing has, and that are not there.
        fault: called before each answer. It may change files, and it returns what goes wrong: a status (``403``), or
            ``"cut"`` for an answer that ends half-way.
        ranges: whether parts of files are sent.
        etags: whether files have one.
        headers: what each answer has besides.
        asked: the requests so far, those for listings left out.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.listed: list[str] = []
        self.fault: Callable[[Request], int | str | None] = lambda request: None
        self.ranges = True
        self.etags = True
        self.headers: dict[str, str] = {}
        self.asked: list[Request] = []

    def listing(self, bucket: str, prefix: str) -> bytes:
        """Return S3's answer to a listing."""
        names = [path.removeprefix(f"/{bucket}/") for path in self.files if path.startswith(f"/{bucket}/")]

        def listed(name: str) -> Listed:
            content = self.files.get(f"/{bucket}/{name}", b"gone")
            return Listed(name, len(content), etag(content))

        return listing(bucket, (listed(name) for name in sorted([*names, *self.listed]) if name.startswith(prefix)))

    def azure_listing(self, container: str, prefix: str) -> bytes:
        """Return Azure's answer to a listing."""
        blobs = "".join(
            f"<Blob><Name>{escape(path.removeprefix(f'/{container}/'))}</Name><Properties>"
            f"<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>{etag(content)[1:-1]}</Etag>"
            f"<Content-Length>{len(content)}</Content-Length><Content-Type>x</Content-Type></Properties></Blob>"
            for path, content in sorted(self.files.items())
            if path.startswith(f"/{container}/{prefix}")
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<EnumerationResults ContainerName="{container}"><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>'
        ).encode()


def etag(content: bytes) -> str:
    """Return the name of a version."""
    return f'"{hashlib.sha1(content).hexdigest()}"'


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve, until the block ends."""

    class Answers(Handler):
        def answer(self, *, with_body: bool) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            if "list-type" in query or query.get("comp") == ["list"]:
                listed = served.listing if "list-type" in query else served.azure_listing
                found = listed(path.strip("/"), query.get("prefix", [""])[0])
                self.send(200, found, served.headers, with_body=with_body)
                return
            asked_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            request = Request(self.command, path, int(asked_range[1]) if asked_range else 0)
            served.asked.append(request)
            fault = served.fault(request)
            content = served.files.get(path)
            if isinstance(fault, int) or content is None:
                status = fault if isinstance(fault, int) else 404
                code = {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "InternalError")
                body = f"<Error><Code>{code}</Code><Id>a secret</Id></Error>".encode()
                self.send(status, body, served.headers, with_body=with_body)
                return
            headers = served.headers | FIRST_DAY | ({"ETag": etag(content)} if served.etags else {})
            if self.headers.get("If-Match", etag(content)) != etag(content) and served.etags:
                self.send(412, b"", served.headers, with_body=with_body)
            elif asked_range and served.ranges:
                end = min(int(asked_range[2] or len(content)), len(content) - 1)
                headers["Content-Range"] = f"bytes {request.start}-{end}/{len(content)}"
                part = content[request.start : end + 1]
                self.send(206, part, headers, with_body=with_body, cut=fault == "cut")
            else:
                self.send(200, content, headers, with_body=with_body, cut=fault == "cut")

    with serving(Answers, "file server") as url:
        served = FileServer(url)
        yield served
