"""Keep notes beside the files that recipes have brought, such as their sha256."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_note(path: Path) -> Any:
    """Return what was written; nothing if it is not there, or broken."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return None


def write_note(path: Path, content: Any) -> None:
    """Write it, all at once."""
    aside = path.with_suffix(".part")  # what is left of it is removed with other parts
    aside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    aside.replace(path)


class Sums:
    """The sha256 of files, each read for it once: again when the file is another one, or was written to.

    Args:
        dest: the files' folder.
        note: where they are noted.
        wanted: what they should be, by names.
    """

    def __init__(self, dest: Path, note: Path, wanted: dict[str, str]) -> None:
        self.dest = dest
        self.note = note
        self.wanted = {name: digest.lower() for name, digest in wanted.items()}
        self.noted: dict[str, Any] = {}

    def load(self) -> None:
        """Take up what earlier starts have noted."""
        noted = read_note(self.note) if self.wanted else None
        self.noted = noted if isinstance(noted, dict) else {}

    def fits(self, name: str) -> bool:
        """Return whether a file has the sha256 that is wanted, or none is wanted."""
        if name not in self.wanted:
            return True
        state = _state(self.dest / name)
        if self.noted.get(name) != [*state, self.wanted[name]]:
            self.noted[name] = [*state, sha256_of(self.dest / name)]
        return bool(self.noted[name][-1] == self.wanted[name])

    def add(self, name: str) -> None:
        """Note a file that was checked before it got its name."""
        if name in self.wanted:
            self.noted[name] = [*_state(self.dest / name), self.wanted[name]]

    def save(self) -> None:
        """Keep them for the next start."""
        if self.wanted:
            write_note(self.note, self.noted)


def sha256_of(path: Path) -> str:
    """Read a file for its sha256."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _state(path: Path) -> list[int]:
    """Return what changes with each write: the time of the last change is one that no program sets."""
    stat = os.stat(path)
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
