"""``Folder``: a folder of this machine as a store, or one that it has mounted."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .store import CHUNK, Changed, Found, Missing, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folder:
    """A folder of this machine, or one that it has mounted.

    Args:
        root: what all paths are below of.
    """

    has_ranges = True

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)

    def list(self, path: str) -> list[Found]:
        """Return the files below a folder."""
        top = self._file(path)
        found = []
        for folder, _, names in os.walk(top, followlinks=True):
            for name in names:
                file = Path(folder, name)
                with _told_of_files(str(file)):
                    found.append(self._found(file, file.relative_to(top).as_posix()))
        return sorted(found)

    def look(self, path: str) -> Found:
        """Return one file."""
        file = self._file(path)
        with _told_of_files(path):
            if file.is_dir():
                raise Missing(f"{path} is a folder, and there is no file in it")
            return self._found(file, file.name)

    def read(self, found: Found, start: int, end: int) -> Iterator[Any]:
        """Yield the bytes of a range."""
        file = self.root / found.path
        with _told_of_files(found.path), file.open("rb", buffering=0) as opened:
            opened.seek(start)
            while start < end:
                stat = os.fstat(opened.fileno())
                if (stat.st_size, stat.st_mtime) != (found.size, found.modified_s):
                    raise Changed(f"{found.path} was changed while it was read")
                chunk = opened.read(min(CHUNK, end - start))
                start += len(chunk)
                yield chunk

    def write(self, path: str, file: Path) -> None:
        """Put a file there."""
        target = self._file(path)
        aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        with _told_of_files(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(file, aside)
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)

    def _file(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _found(self, file: Path, name: str) -> Found:
        stat = file.stat()
        return Found(name, file.relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime)


@contextmanager
def _told_of_files(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Missing(f"{path} is not there") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
