"""The interface of a store, and the errors that all stores raise."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("serve_llm_hooks.recipes")

CHUNK: int = 256 << 10
"""The bytes that are read at once. With 4 MiB, fresh memory for each piece costs more than all the rest."""
TRIES: int = 6
"""The tries without a new byte before an error, with longer and longer waits between: 15 s in all."""
FIRST_WAIT_S: float = 0.5
ASIDE: str = ".serve-llm-hooks"
"""The folder below a destination for what is not whole yet, so that a rename moves it to its place."""


class StoreError(Exception):
    """A store did not do what it was asked for.

    Attributes:
        may_pass: whether asking again may help.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Missing(StoreError):
    """There is no such file."""


class Changed(StoreError):
    """The file is not the one that was found."""


class NoRanges(StoreError):
    """The server sends whole files only, so that a read has to begin anew."""


class Found(NamedTuple):
    """A file in a store, as it was when it was found.

    Attributes:
        name: its path below the place that was asked for.
        path: its path in the store.
        size: in bytes.
        modified_s: when it was written, in seconds since the epoch; 0 if the store does not say.
        etag: the store's name for this version; empty if it has none.
    """

    name: str
    path: str
    size: int
    modified_s: float = 0.0
    etag: str = ""


class Store(Protocol):
    """Read, list and write files of a store, as recipes need it.

    Attributes:
        has_ranges: whether parts of one file are read at the same time.
    """

    has_ranges: bool

    def list(self, path: str) -> list[Found]:
        """Return the files below a folder."""
        ...

    def look(self, path: str) -> Found:
        """Return one file, or raise ``Missing``."""
        ...

    def read(self, found: Found, start: int, end: int) -> Iterator[Any]:
        """Yield the bytes of a range; raise ``Changed`` if the file is another one by now."""
        ...

    def write(self, path: str, file: Path) -> None:
        """Put a file there, all of it at once: no reader finds half of it."""


def tried_again(ask: Callable[[], T]) -> T:
    """Return what a store answers, asking again where that may help."""
    for tries in range(1, TRIES + 1):
        try:
            return ask()
        except StoreError as error:
            if not error.may_pass or tries == TRIES:
                raise
            logger.warning("%s; it is tried again", error)
        time.sleep(wait_s(tries))
    raise AssertionError("unreachable")


def wait_s(tries: int) -> float:
    """Return how long is waited after so many tries."""
    return FIRST_WAIT_S * float(2 ** (tries - 1))
