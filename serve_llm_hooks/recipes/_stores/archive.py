"""Archives of a folder of caches."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

from .store import ASIDE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OF_A_MOMENT = (".lock", ".tmp")
_OF_A_MACHINE = "gpu_p2p_access_cache_for_"


def files_of(folder: Path) -> list[str]:
    """Return the caches' files; those that hold for one machine, or for one moment, are left out."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(
        name
        for name in names
        if not name.startswith(ASIDE) and not name.endswith(_OF_A_MOMENT) and _OF_A_MACHINE not in name
    )


def pack(folder: Path, names: Sequence[str], archive: Path) -> str:
    """Write files of a folder into an archive; return its sha256, which is the same for the same files."""
    with tarfile.open(archive, "w") as opened:
        for name in names:
            member = tarfile.TarInfo(name)
            with (folder / name).open("rb") as content:
                member.size = os.fstat(content.fileno()).st_size
                opened.addfile(member, content)
    with archive.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Move an archive's files into a folder, each whole: they are unpacked beside the archive first.

    Raises:
        TarError: it is no archive of ours: it has links, or names that lead out of the folder.
    """
    aside = archive.with_suffix(".unpacked")
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            if content is None or member.name.startswith("/") or ".." in member.name.split("/"):
                raise tarfile.TarError(f"it has {member.name!r}, which is no file below it")
            target = aside / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as written:
                shutil.copyfileobj(content, written)
    for name in files_of(aside):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (aside / name).replace(target)
