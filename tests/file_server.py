"""A server on loopback for files: as S3, with a listing, and as plain HTTP. It fails as a test says."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

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
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.files.get(f'/{bucket}/{name}', b'gone'))}</Size>"
            f"<ETag>{etag(self.files.get(f'/{bucket}/{name}', b''))}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in sorted([*names, *self.listed])
            if name.startswith(prefix)
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        ).encode()

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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            if "list-type" in query or query.get("comp") == ["list"]:
                listing = served.listing if "list-type" in query else served.azure_listing
                self._send(200, listing(path.strip("/"), query.get("prefix", [""])[0]), {}, with_body)
                return
            asked_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            request = Request(self.command, path, int(asked_range[1]) if asked_range else 0)
            served.asked.append(request)
            fault = served.fault(request)
            content = served.files.get(path)
            if isinstance(fault, int) or content is None:
                status = fault if isinstance(fault, int) else 404
                code = {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "InternalError")
                self._send(status, f"<Error><Code>{code}</Code><Id>a secret</Id></Error>".encode(), {}, with_body)
                return
            headers = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"} | (
                {"ETag": etag(content)} if served.etags else {}
            )
            if self.headers.get("If-Match", etag(content)) != etag(content) and served.etags:
                self._send(412, b"", {}, with_body)
            elif asked_range and served.ranges:
                end = min(int(asked_range[2] or len(content)), len(content) - 1)
                headers["Content-Range"] = f"bytes {request.start}-{end}/{len(content)}"
                self._send(206, content[request.start : end + 1], headers, with_body, cut=fault == "cut")
            else:
                self._send(200, content, headers, with_body, cut=fault == "cut")

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], with_body: bool, *, cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | served.headers | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of clients that have gone."""

    server = Quiet(("127.0.0.1", 0), Handler)
    served = FileServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="file server", daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
