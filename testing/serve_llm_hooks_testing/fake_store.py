"""``FakeStore``: stands for all stores and disks that recipes know, so that a test fetches nothing from anywhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SERVE_LLM_HOOKS_FAKE_STORE"
"""The recipes look for it; processes of a fake cluster get it with the rest of the environment."""

_ESCAPED = ("http", "https")


class FakeStore:
    """Files that recipes find in stores, and a disk of its own for each node: a temporary folder.

    While it is entered, recipes read and write every place (``s3://``, ``gs://``, ``az://``, ``https://``, ``hf://``,
    local paths) here, and put what they fetch on the node's disk here. So the config under test may be the one that is
    deployed. ``Notify`` sends nothing. Nothing else knows of it: neither Ray's own download nor hooks of yours.

    Args:
        files: the files that are there, by their places: a text, bytes, or a ``Path`` whose content is taken.

    Example:
        >>> with FakeStore({"s3://models/llama/config.json": "{}"}) as store:
        ...     store.put("s3://models/llama/model.safetensors", b"123")
        ...     store.read("s3://models/llama/model.safetensors")
        b'123'
    """

    def __init__(self, files: Mapping[str, str | bytes | Path] | None = None) -> None:
        """Keep the files until it is entered."""
        self._files = dict(files or {})
        self._before: str | None = None
        self._root: Path | None = None

    def __enter__(self) -> FakeStore:
        """Write the files, and let recipes find them."""
        self._root = Path(tempfile.mkdtemp(prefix="fake-store-"))
        self._before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self._root)
        for place, content in self._files.items():
            self.put(place, content)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove everything."""
        if self._before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._before
        shutil.rmtree(self._entered())
        self._root = None

    def put(self, place: str, content: str | bytes | Path) -> None:
        """Put a file there, or replace it."""
        file = self._file(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def read(self, place: str) -> bytes:
        """Return the content of a file in a store."""
        return self._file(place).read_bytes()

    def delete(self, place: str) -> None:
        """Remove a file, or a folder."""
        file = self._file(place)
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    def places(self) -> list[str]:
        """Return the places of all files in stores, those that recipes have written included."""
        stores = self._entered() / "stores"
        files = sorted(file.relative_to(stores) for file in stores.rglob("*") if file.is_file())
        return ["/".join(("", *file.parts[1:])) if file.parts[0] == "file" else _place(file) for file in files]

    def disk(self, node_id: str, path: str = "/") -> Path:
        """Return the file or folder that stands for one on a node."""
        return self._entered() / "disks" / node_id / path.lstrip("/")

    def wipe_disks(self) -> None:
        """Empty the disks of all nodes, as if new ones were there."""
        shutil.rmtree(self._entered() / "disks", ignore_errors=True)

    def _file(self, place: str) -> Path:
        """Return the file that stands for a place, which is read as recipes read theirs."""
        scheme, has_scheme, rest = place.partition("://")
        bucket, _, path = rest.partition("/")
        if not has_scheme and place.startswith("/"):
            scheme, bucket, path = "file", "", place
        elif scheme == "file" and bucket in ("", "localhost"):
            bucket, path = "", unquote(path)
        elif not has_scheme or not bucket or scheme == "file":
            raise ValueError(f"{place!r} is neither an absolute path nor a place such as 's3://bucket/folder/file'")
        if scheme in _ESCAPED:
            path = unquote(path)
        if scheme == "abfss":
            bucket = bucket.partition("@")[0]
        return self._entered() / "stores" / scheme / bucket / path.strip("/")

    def _entered(self) -> Path:
        if self._root is None:
            raise RuntimeError("a FakeStore is used in a with statement: `with FakeStore({...}) as store:`")
        return self._root


def _place(file: Path) -> str:
    scheme, *parts = file.parts
    path = "/".join(parts)
    return f"{scheme}://{path.replace('%', '%25') if scheme in _ESCAPED else path}"
