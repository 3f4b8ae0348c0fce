"""``Uri``: where files are, as a config names it. Checked when it is read, without asking anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from .. import _arguments
from .globs import is_glob

SCHEMES: dict[str, str] = {
    "s3": "s3://bucket/folder",
    "gs": "gs://bucket/folder",
    "az": "az://container/folder",
    "abfss": "abfss://container@account.dfs.core.windows.net/folder",
    "http": "http://host/file",
    "https": "https://host/file",
    "file": "file:///folder",
    "hf": "hf://organization/model",
}
"""The schemes, and how each is written."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class Uri(NamedTuple):
    """A place in a store.

    Attributes:
        text: as it was written.
        scheme: one of ``SCHEMES``; a plain path has ``"file"``.
        bucket: the bucket, the container, the host, the organization; empty for a path.
        path: the folder or the file in it, without slashes around it; with its first slash for a local path.
        pattern: a glob for the names below ``path``; empty if there is none.
        account: an Azure account that the text names; empty elsewhere.
    """

    text: str
    scheme: str
    bucket: str
    path: str
    pattern: str = ""
    account: str = ""

    def __str__(self) -> str:
        return self.text


def parse(text: object, *, what: str, schemes: tuple[str, ...] = tuple(SCHEMES)) -> Uri:
    """Return a place from its text.

    Args:
        text: what the config says.
        what: the parameter's name, for messages.
        schemes: those that are possible there.

    Raises:
        TypeError: it is no text.
        ValueError: an unknown scheme, no bucket, a relative path, a secret in it.
    """
    if not isinstance(text, str | os.PathLike):
        raise TypeError(f"{what} is a text, such as {SCHEMES[schemes[0]]!r}, and not a value of {type(text).__name__}")
    text = os.fspath(text)
    if not isinstance(text, str):
        raise TypeError(f"{what} is a text and not bytes")
    _arguments.no_secret(what, text)
    _arguments.written_out(what, text)
    if "://" not in text:
        if not text.startswith("/") or "file" not in schemes:
            raise ValueError(f"{what}={text!r} is neither an absolute path nor a place in a store: {_ways(schemes)}")
        return _with_pattern(Uri(text, "file", "", _local(text)))
    scheme = text.partition("://")[0]
    if scheme not in schemes:
        raise ValueError(f"{what}: there is no scheme {scheme + '://'!r} here: {_ways(schemes)}")
    return _with_pattern(_of_scheme(text, what))


def _of_scheme(text: str, what: str) -> Uri:
    scheme, rest = text.split("://", 1)
    bucket, _, path = rest.partition("/")
    if scheme == "file":
        if bucket not in ("", "localhost"):
            raise ValueError(f"{what}={text!r} is a relative path: write {SCHEMES['file']!r}, with three slashes")
        return Uri(text, scheme, "", _local(unquote(path)))
    if not bucket:
        raise ValueError(f"{what}={text!r} names no bucket: write {SCHEMES[scheme]!r}")
    account = ""
    if scheme == "abfss":
        bucket, _, host = bucket.partition("@")
        account = host.partition(".")[0]
        if not bucket or not account:
            raise ValueError(f"{what}={text!r} names no container and account: write {SCHEMES[scheme]!r}")
    if scheme in ("http", "https") and not _is_host(bucket):
        raise ValueError(f"{what}={text!r}: {bucket!r} is no host: its port is a number, as in 'http://host:8080/file'")
    if scheme not in ("http", "https") and not _BUCKET.fullmatch(bucket):
        raise ValueError(
            f"{what}={text!r}: {bucket!r} is no name of a bucket, which has letters, digits, '.', '-' and '_'. Of a "
            "store of your own, the address is in the environment"
        )
    if scheme == "hf" and not path.strip("/"):
        raise ValueError(f"{what}={text!r} names no model: write {SCHEMES[scheme]!r}")
    if scheme in ("http", "https"):
        path = unquote(path)
    path = path.strip("/")
    if path and not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"{what}={text!r} has '//', '/./' or '/../' in its path, by which no store finds anything")
    return Uri(text, scheme, bucket, path, "", account)


def _is_host(text: str) -> bool:
    port = text.rpartition(":")[2]
    return _arguments.HOST.fullmatch(text) is not None and (not port.isdecimal() or int(port) < 1 << 16)


def _local(path: str) -> str:
    """Return a path without the slashes and dots that mean nothing; what '..' means is for the disk to say."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _with_pattern(uri: Uri) -> Uri:
    """Part the folder from the glob in a path."""
    if uri.scheme in ("http", "https", "hf") or not is_glob(uri.path):
        return uri
    parts = uri.path.split("/")
    first = next(number for number, part in enumerate(parts) if is_glob(part))
    folder = "/".join(parts[:first]) or ("/" if uri.scheme == "file" else "")
    return uri._replace(path=folder, pattern="/".join(parts[first:]))


def checked_folder(text: object, *, what: str) -> str:
    """Return an absolute folder on a node.

    Raises:
        TypeError: it is no text.
        ValueError: it is relative: each process would take it from a working directory of its own.
    """
    if not isinstance(text, str | os.PathLike):
        raise TypeError(f"{what} is the path of a folder, and not a value of {type(text).__name__}")
    folder = str(os.fspath(text))
    _arguments.no_secret(what, folder)
    if "://" in folder:
        raise ValueError(f"{what}={folder!r} is a place in a store: files are put into a folder of each node")
    if not os.path.isabs(folder):
        raise ValueError(
            f"{what}={folder!r} is a relative path: a node's process has a working directory of its own. Write an "
            "absolute one, such as '/models/llama'"
        )
    _arguments.written_out(what, folder)
    folder = os.path.normpath(f"/{folder.lstrip('/')}") if os.sep == "/" else os.path.normpath(folder)
    if folder == os.path.dirname(folder) or "\0" in folder:
        raise ValueError(f"{what}={folder!r} is no folder for files: write one below it, such as '/models/llama'")
    return folder


def checked_number(value: object, *, what: str) -> int:
    """Return a number of parallel reads as it was given, if it is one.

    Raises:
        ValueError: it is none, or not from 1 to 256.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256:
        raise ValueError(f"{what} is a number of reads, from 1 to 256, and not {value!r}")
    return value


def checked_names(files: object, *, what: str) -> list[str]:
    """Return names and globs below a folder.

    Raises:
        TypeError: they are none.
        ValueError: one leads out of the folder.
    """
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, Iterable) or isinstance(files, Mapping | bytes):
        raise TypeError(f"{what} is a list of names and globs, as in ['*.json'], and not {_kind(files)}")
    names = []
    for name in files:
        if not isinstance(name, str):
            raise TypeError(f"{what} is a list of names and globs, as in ['*.json'], and not of {type(name).__name__}")
        if "://" in name:  # which may have a password
            raise ValueError(f"{what} has a place in it; it has names and globs below src")
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{what}: {name!r} is not below src")
        if not {"", "."}.isdisjoint(name.split("/")):
            raise ValueError(f"{what}: {name!r} has './' or '//' in it, or a '/' at its end: a folder is 'folder/*'")
        names.append(name)
    return names


def _kind(value: object) -> str:
    return "empty: leave it out" if value is None else f"a value of {type(value).__name__}"


def _ways(schemes: tuple[str, ...]) -> str:
    shown = [SCHEMES[scheme] for scheme in schemes if scheme != "http"]
    return f"write {', '.join(shown)}" + (" or /folder" if "file" in schemes else "")
