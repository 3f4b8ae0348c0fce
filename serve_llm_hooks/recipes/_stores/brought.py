"""``Brought``: what a recipe has brought to a folder, to remove it when the store has it no longer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .disk import locked, make_folder
from .notes import read_note, write_note
from .store import ASIDE, logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Brought:
    """The files that have been brought to a folder, so that what leaves the store leaves the folder too.

    Nothing else is removed: neither files of a user's, nor those that the store still has and another deployment wants,
    nor those that a recipe of another kind brings by now (``take_over``).

    Args:
        dest: the folder.
        place: the store's place, for messages.
    """

    def __init__(self, dest: Path, place: str) -> None:
        self.dest = dest
        self.place = place
        self.note = dest / ASIDE / "brought.json"

    def add(self, names: Iterable[str]) -> None:
        """Note files before they are brought: a start that fails half-way has brought some."""
        make_folder(self.place, self.dest, ASIDE)
        with locked(self.note.with_name("lock"), self.place):
            self._write(self._read() | set(names))

    def remove_others(self, listed: Iterable[str]) -> None:
        """Remove what was brought, and is in the store no longer."""
        kept = set(listed)
        with locked(self.note.with_name("lock"), self.place):
            brought = self._read()
            for name in sorted(brought - kept):
                file = self.dest / name
                if file.is_file() or file.is_symlink():
                    file.unlink()
                    logger.info("%s: removed %s from %s: it is there no longer", self.place, name, self.dest)
            self._write(brought & kept)

    def leave(self, names: set[str]) -> None:
        """Forget files that are another recipe's now: they stay when the store has them no longer."""
        if names & self._read():
            with locked(self.note.with_name("lock"), self.place):
                self._write(self._read() - names)

    def _read(self) -> set[str]:
        noted = read_note(self.note)
        names = noted if isinstance(noted, list) else []
        return {name for name in names if isinstance(name, str) and not _leads_out(name)}

    def _write(self, names: set[str]) -> None:
        write_note(self.note, sorted(names))


def take_over(files: Iterable[Path], place: str) -> None:
    """Keep files that a model has brought to their folder, or to one above it, from being removed with it."""
    below: dict[Path, set[str]] = {}
    for file in files:
        for folder in file.parents:
            below.setdefault(folder, set()).add(file.relative_to(folder).as_posix())
    for folder, names in below.items():
        brought = Brought(folder, place)
        if os.path.isfile(brought.note):
            brought.leave(names)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")
