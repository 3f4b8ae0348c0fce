"""Find the store of a place, and the folder of a node. In a test, a ``FakeStore`` stands for all of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from .folder import Folder
from .globs import fits
from .store import ASIDE, Missing, StoreError, tried_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .store import Found, Store
    from .uri import Uri

FAKE_STORE: str = "SERVE_LLM_HOOKS_FAKE_STORE"
"""The variable in which ``serve_llm_hooks_testing.FakeStore`` names the folder that stands for all stores and disks."""


def open_store(uri: Uri) -> Store:
    """Return the store of a place.

    Raises:
        StoreError: credentials are missing, and which.
        ModuleNotFoundError: obstore is not installed.
    """
    fake = os.environ.get(FAKE_STORE)
    if fake:
        return Folder(str(Path(fake, "stores", uri.scheme, uri.bucket)))
    if uri.scheme == "file":
        return Folder()
    from .bucket import Bucket  # what reads no bucket does without obstore

    return Bucket(uri)


def is_fake() -> bool:
    """Return True in a test with a ``FakeStore``."""
    return bool(os.environ.get(FAKE_STORE))


def on_disk(folder: str, node_id: str) -> Path:
    """Return a folder of a node: itself, or the one that stands for it in a test with a ``FakeStore``."""
    fake = os.environ.get(FAKE_STORE)
    return Path(fake, "disks", node_id, folder.lstrip("/")) if fake else Path(folder)


def on_node(folder: str, node_id: str) -> list[Path]:
    """Return where the files of a node's folder are: of a test with a ``FakeStore``, what was fetched, and its own."""
    fake = os.environ.get(FAKE_STORE)
    here = on_disk(folder, node_id)
    return [here, Path(fake, "stores", "file", folder.lstrip("/"))] if fake else [here]


def find(store: Store, uri: Uri, files: Sequence[str] = ()) -> list[Found]:
    """Return the files of a place.

    Args:
        store: its store.
        uri: a folder, a file, or a glob.
        files: names and globs below the folder; left out, all of them.

    Raises:
        StoreError: one that is named is not there; a glob matches nothing; the place is empty.
    """
    if uri.scheme in ("http", "https"):  # which lists nothing
        return _look_at(store, uri.path, files) if files else [tried_again(lambda: store.look(uri.path))]
    wanted = [uri.pattern] if uri.pattern else list(files)
    everything = tried_again(lambda: store.list(uri.path))
    if not everything and uri.scheme == "hf":  # of a fake store, where no revision is named, any is meant
        everything = store.list(uri.path.partition("@")[0])
    listed = [found for found in everything if found.name and ASIDE not in found.name.split("/")]
    if not listed and not wanted and not uri.text.endswith("/"):
        listed = [tried_again(lambda: store.look(uri.path))]
    return selected(uri, listed, wanted)


def selected(uri: Uri, listed: Sequence[Found], wanted: Sequence[str]) -> list[Found]:
    """Return the files of a listing that names and globs stand for; without any, all.

    Raises:
        StoreError: a name or a glob stands for nothing; there are no files; a name leads out of the folder.
    """
    for found in listed:
        if found.name.startswith("/") or ".." in found.name.split("/"):
            raise StoreError(f"{uri}: a file there is named {found.name!r}, which leads out of the folder")
    for name in wanted:
        if not any(fits(found.name, name) for found in listed):
            raise Missing(f"{uri}: there is no {name!r} among the {len(listed)} files there")
    if not listed:
        raise Missing(f"{uri}: there are no files")
    return [found for found in listed if not wanted or any(fits(found.name, name) for name in wanted)]


def _look_at(store: Store, folder: str, names: Sequence[str]) -> list[Found]:
    names = list(dict.fromkeys(names))  # a file that is brought twice at once is moved away from its other half
    with ThreadPoolExecutor(16) as threads:
        looked = threads.map(lambda name: tried_again(lambda: store.look(f"{folder}/{name}".strip("/"))), names)
        return [found._replace(name=name) for found, name in zip(looked, names, strict=True)]
