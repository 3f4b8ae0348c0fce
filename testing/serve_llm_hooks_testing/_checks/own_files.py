"""Files that look, to each node, as if no other node had written them; and notes of the files that are looked at."""

from __future__ import annotations

import builtins
import functools
import hashlib
import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_ONE_PATH = ("open", "lstat", "access", "remove", "unlink", "utime", "chmod", "truncate")
_OF_TWO_PATHS = ("rename", "replace")


class OwnFiles:
    """Puts other functions in the place of those that take a path, for as long as the process lives.

    Args:
        paths: the files; code reaches, under these paths, others in the node's own folder.
        folder: that folder.
        look: called with each path that ``os.stat`` finds, which nothing else tells.
    """

    def __init__(self, paths: tuple[str, ...], folder: str, look: Callable[[str], object]) -> None:
        self._own = {path: os.path.join(folder, hashlib.sha256(path.encode()).hexdigest()[:16]) for path in paths}
        self._folder = folder
        self._look = look

    def install(self) -> None:
        """Put the functions in place."""
        os.stat = self._looking(self._mapped(os.stat, 1))
        if not self._own:
            return
        os.makedirs(self._folder, exist_ok=True)
        builtins.open = io.open = self._mapped(builtins.open, 1)
        for count, names in enumerate((_OF_ONE_PATH, _OF_TWO_PATHS), 1):
            for name in names:
                setattr(os, name, self._mapped(getattr(os, name), count))

    def _mapped(self, function: Any, count: int) -> Any:
        """Return a function whose first so many arguments are paths."""
        if not self._own:
            return function

        @functools.wraps(function)
        def with_own(*args: Any, **kwargs: Any) -> Any:
            return function(*map(self._mapped_path, args[:count]), *args[count:], **kwargs)

        return with_own

    def _mapped_path(self, path: Any) -> Any:
        if isinstance(path, str | os.PathLike):
            return self._own.get(os.path.abspath(os.fspath(path)), path)
        return path

    def _looking(self, function: Any) -> Any:
        @functools.wraps(function)
        def looked_at(path: Any, *args: Any, **kwargs: Any) -> Any:
            found = function(path, *args, **kwargs)
            if isinstance(path, str | os.PathLike):
                with suppress(Exception):  # of a path's own code
                    self._look(os.fspath(path))
            return found

        return looked_at
