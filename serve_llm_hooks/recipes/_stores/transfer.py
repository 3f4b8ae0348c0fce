"""``Transfer``: files from a store to a folder of this node, in parallel, each whole or not at all."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .disk import check_space, locked, make_folder, shown
from .notes import Sums, sha256_of
from .store import ASIDE, TRIES, NoRanges, StoreError, logger, wait_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .store import Found, Store

PART = 64 << 20
"""A file is read in parts of so many bytes, several at once."""
SMALL = 16 << 20
"""Of a smaller file nothing is kept when the process is killed."""
PROGRESS_S = 10.0


class Transfer:
    """Bring files to a folder.

    A file that is there with the store's size and time is left as it is. What another process brings to the same folder
    is waited for. After a failure, and after the process was killed, the next try goes on where this one has stopped,
    if the store still has that version.

    Args:
        store: where the files are.
        place: the store's place, for messages.
        dest: the folder.
        sha256: of files, by their names; checked before a file gets its name, and once of one that is there already.
        parallel: how many reads there are at once.
    """

    def __init__(
        self, store: Store, place: str, dest: Path, *, sha256: Mapping[str, str] | None = None, parallel: int = 16
    ) -> None:
        self.store = store
        self.place = place
        self.dest = dest
        self.aside = dest / ASIDE
        self.sums = Sums(dest, self.aside / "sha256.json", dict(sha256 or {}))
        self.parallel = parallel
        self._stop = threading.Event()
        self._count = threading.Lock()
        self._come = 0

    def bring(self, *groups: Sequence[Found]) -> int:
        """Bring all files, one group after the other; return how many bytes had to be read.

        Raises:
            StoreError: the store does not give a file, or not the right one.
            OSError: it cannot be written; the disk is too full.
        """
        begun_s = time.monotonic()
        make_folder(self.place, self.dest, ASIDE)
        with locked(self.aside / "lock", self.place):
            self.sums.load()
            to_do = [[_File(found, self) for found in group if not self._is_there(found)] for group in groups]
            files = [file for group in to_do for file in group]
            self._forget(keep=files)
            missing = sum(file.missing() for file in files)
            check_space(self.place, self.dest, missing)
            for group in to_do:
                self._bring(group, missing)
            self._forget(keep=[])
            self.sums.save()
        took_s = time.monotonic() - begun_s
        there = sum(len(group) for group in groups) - len(files)
        logger.info(
            "%s: %d files, %s, are in %s after %.1f s; %d were there already",
            self.place, len(files), shown(missing), self.dest, took_s, there,
        )  # fmt: skip
        return missing

    def _is_there(self, found: Found) -> bool:
        with suppress(OSError):
            stat = (self.dest / found.name).stat()
            is_same = stat.st_size == found.size and stat.st_mtime == found.modified_s != 0
            return is_same and self.sums.fits(found.name)
        return False

    def _forget(self, *, keep: Sequence[_File]) -> None:
        """Remove what is not whole and will not be: of other versions, and of earlier boots."""
        kept = {path for file in keep for path in (file.partial, file.marks)}
        for path in self.aside.iterdir():
            if path not in kept and path.suffix in (".part", ".marks"):
                path.unlink(missing_ok=True)

    def _bring(self, files: Sequence[_File], missing: int) -> None:
        threads = ThreadPoolExecutor(self.parallel, thread_name_prefix="serve-llm-hooks fetch")
        try:
            waiting = {threads.submit(file.bring, part) for file in files for part in range(file.parts)}
            while waiting:
                before = self._come
                over, waiting = wait(waiting, timeout=PROGRESS_S, return_when=FIRST_EXCEPTION)
                for each in over:
                    each.result()
                if waiting:
                    speed = shown(int((self._come - before) / PROGRESS_S))
                    logger.info("%s: %s of %s, %s/s", self.place, shown(self._come), shown(missing), speed)
        finally:
            self._stop.set()  # where one has failed, the others end at their next bytes
            threads.shutdown(cancel_futures=True)
            self._stop.clear()
            for file in files:
                file.close()

    def read(self, found: Found, first: int, come: int, end: int, write: Callable[[Any, int], None]) -> None:
        """Read a range, and give it away piece by piece; go on behind what has come where a read ends too early."""
        start = furthest = first + come
        tries = 0
        while start < end:
            try:
                for chunk in self.store.read(found, start, end):
                    if self._stop.is_set():
                        raise StoreError(f"{self.place}: another file has failed")
                    write(chunk, start)
                    start += len(chunk)
                    if start > furthest:  # what comes a second time is no progress
                        furthest, tries = start, 0
                    with self._count:
                        self._come += len(chunk)
                if start != end:
                    raise StoreError(f"{self.place}: {found.name} ended {end - start} bytes too early", may_pass=True)
            except StoreError as error:
                tries += 1
                if not error.may_pass or tries == TRIES:
                    raise
                logger.warning("%s; it is tried again", error)
                start = first if isinstance(error, NoRanges) else start
                self._stop.wait(wait_s(tries))


class _File:
    """A file on its way: written aside in parts, and moved to its place when it is whole."""

    def __init__(self, found: Found, transfer: Transfer) -> None:
        self.found = found
        self.transfer = transfer
        self.target = transfer.dest / found.name
        key = f"{transfer.place}|{found}|{_boot()}"
        self.partial = transfer.aside / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.part"
        self.marks = self.partial.with_suffix(".marks")
        self.size_of_part = PART if transfer.store.has_ranges else max(1, found.size)
        self.parts = max(1, -(-found.size // self.size_of_part))
        self.come = self._marked()
        self.left = self.parts
        self.lock = threading.Lock()
        self.opened: list[int] = []

    def missing(self) -> int:
        """Return how many bytes are still to come."""
        return self.found.size - sum(self.come)

    def bring(self, part: int) -> None:
        """Read a part; with the last of them the file is whole, and gets its name."""
        first = part * self.size_of_part
        end = min(first + self.size_of_part, self.found.size)
        try:
            with self.lock:
                self._open()
            self.transfer.read(self.found, first, self.come[part], end, self._write)
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self._finish()
        except OSError as error:
            self.forget()  # where the disk is full, others need the room
            raise StoreError(f"{self.target} cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Close what is open."""
        while self.opened:
            os.close(self.opened.pop())

    def forget(self) -> None:
        """Remove what has come so far."""
        for path in (self.partial, self.marks):
            with suppress(OSError):
                path.unlink()

    def _open(self) -> None:
        if self.opened:
            return
        paths = [self.partial, self.marks] if self.found.size >= SMALL else [self.partial]
        for path in paths:
            self.opened.append(os.open(path, os.O_RDWR | os.O_CREAT | (0 if any(self.come) else os.O_TRUNC), 0o666))
        if len(paths) == 2:
            os.truncate(self.opened[1], 8 * self.parts)

    def _write(self, chunk: Any, at: int) -> None:
        view, written = memoryview(chunk), 0
        while written < len(view):
            written += os.pwrite(self.opened[0], view[written:], at + written)
        if len(self.opened) == 2:  # after the bytes, so that what is marked is there, also when the process is killed
            part = at // self.size_of_part
            os.pwrite(self.opened[1], struct.pack("<Q", at + written - part * self.size_of_part), 8 * part)

    def _marked(self) -> Sequence[int]:
        """Return how far each part came in an earlier try."""
        with suppress(OSError):
            marks = self.marks.read_bytes()
            if len(marks) == 8 * self.parts:
                come = struct.unpack(f"<{self.parts}Q", marks)
                end = max(part * self.size_of_part + each for part, each in enumerate(come) if each or part == 0)
                if self.partial.stat().st_size >= end:
                    return come
        return (0,) * self.parts

    def _finish(self) -> None:
        self._check_sum()
        self.target.parent.mkdir(parents=True, exist_ok=True)
        os.utime(self.partial, (time.time(), self.found.modified_s))
        os.fsync(self.opened[0])  # a name that outlives a power cut would stand for a file with holes
        self.close()
        self.partial.replace(self.target)
        self.transfer.sums.add(self.found.name)
        self.marks.unlink(missing_ok=True)

    def _check_sum(self) -> None:
        wanted = self.transfer.sums.wanted.get(self.found.name)
        if wanted is None:
            return
        found = sha256_of(self.partial)
        if found != wanted:
            self.forget()
            raise StoreError(f"{self.transfer.place}: {self.found.name} has the sha256 {found}, and not {wanted}")


def _boot() -> str:
    """Return an id of this boot: what was written before a crash of the machine may not be on its disk."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
