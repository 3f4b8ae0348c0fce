"""``Bucket``: a bucket, a container or an HTTP server as a store. Secrets come from the environment only."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._extra import from_the_extra
from . import credentials
from .store import CHUNK, Changed, Found, Missing, NoRanges, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .uri import Uri

STALLED_S = 60
"""Seconds after which a server that sends nothing counts as cut off."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT")


class Bucket:
    """A bucket, a container or an HTTP server, by obstore.

    obstore does not try again: when it goes on with a connection that was cut, it does not look whether the file is
    still the same one. ``Transfer`` does, and says in every request which version it wants.
    """

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self.has_ranges = uri.scheme not in ("http", "https")  # of an HTTP server one does not know
        credentials.check_here(uri)
        with _readable_errors(uri, ""):
            self._store = _obstore_of(uri)

    def list(self, path: str) -> list[Found]:
        """Return the files below a folder."""
        with _readable_errors(self.uri, ""):
            metas = [meta for chunk in self._store.list(path or None) for meta in chunk]
        below = f"{path}/" if path else ""
        return sorted(self._found(meta, meta["path"].removeprefix(below)) for meta in metas)

    def look(self, path: str) -> Found:
        """Return one file."""
        with _readable_errors(self.uri, path):
            return self._found(self._store.head(path), path.rpartition("/")[2])

    def read(self, found: Found, start: int, end: int) -> Iterator[Any]:
        """Yield the bytes of a range."""
        options: dict[str, Any] = {}
        if (start, end) != (0, found.size):  # not every HTTP server knows ranges
            options["range"] = (start, end)
        if found.etag and not found.etag.startswith("W/"):  # a weak one never matches
            options["if_match"] = f'"{found.etag}"'
        with _readable_errors(self.uri, found.path):
            got = self._store.get(found.path, options=options)
            if _version(self._found(got.meta, found.name)) != _version(found):
                raise Changed(f"{_place(self.uri, found.path)} was changed while it was read")
            yield from got.stream(min_chunk_size=CHUNK)

    def write(self, path: str, file: Path) -> None:
        """Put a file there."""
        with _readable_errors(self.uri, path):
            self._store.put(path, file)

    @staticmethod
    def _found(meta: Any, name: str) -> Found:
        etag = (meta["e_tag"] or "").strip('"')  # a listing of Azure's has no quotes, an answer to GET has
        return Found(name, meta["path"], meta["size"], meta["last_modified"].timestamp(), etag)


def _version(found: Found) -> tuple[int, str | int]:
    """Return what tells one version from another; a listing may have parts of seconds that an answer has not."""
    return (found.size, found.etag or int(found.modified_s))


def _obstore_of(uri: Uri) -> Any:
    from datetime import timedelta

    with from_the_extra():
        from obstore import store
    allow_http = uri.scheme == "http" or any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=STALLED_S),
            "timeout": timedelta(days=1),  # of a whole answer; obstore's 30 s would cut a large file
        },
        "retry_config": {"max_retries": 0},
    }
    if uri.scheme == "s3":
        return store.S3Store(uri.bucket, **options)
    if uri.scheme == "gs":
        return store.GCSStore(uri.bucket, **options)
    if uri.scheme in ("az", "abfss"):
        if uri.account:
            options["account_name"] = uri.account
        return store.AzureStore(uri.bucket, **options)
    return store.HTTPStore(f"{uri.scheme}://{uri.bucket}", **options)


@contextmanager
def _readable_errors(uri: Uri, path: str) -> Iterator[None]:
    """Say in our words what obstore says in long ones: with the place, and without what may be a secret in it."""
    with from_the_extra():
        from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        raise Missing(f"{_place(uri, path)} is not there") from error
    except exceptions.PreconditionError as error:
        raise Changed(f"{_place(uri, path)} was changed while it was read") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StoreError(f"{_place(uri, path)} may not be read: {_why(error)}{credentials.hint(uri)}") from error
    except exceptions.NotSupportedError as error:
        raise NoRanges(f"{_place(uri, path)}: the server sends no parts of files", may_pass=True) from error
    except exceptions.BaseError as error:
        why = _why(error)
        no_role = "169.254.169.254" in why or "Missing" in why
        hint = credentials.hint(uri) if no_role else ""
        raise StoreError(f"{_place(uri, path)}: {why}{hint}", may_pass=not no_role) from error


def _place(uri: Uri, path: str) -> str:
    if not path:
        return str(uri)
    container = f"{uri.bucket}@{uri.account}.dfs.core.windows.net" if uri.account else uri.bucket
    return f"{uri.scheme}://{container}/{path}"


def _why(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    status, code = re.search(r"status code: (\d{3}[ \w]*)", text), re.search(r"<Code>(\w+)</Code>", str(error))
    if status is not None and "169.254.169.254" not in text:
        return status[1].strip() + (f" ({code[1]})" if code else "")
    text = re.sub(r" in [\d.]+[mµn]?s\b", "", text)  # how long it took differs each time, and is no cause
    return re.sub(r"\?\S+", "?…", text)[:300]  # a query may be a signature
