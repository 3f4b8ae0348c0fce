"""``--fake-store``: a folder that stands for all stores that recipes fetch from, for one command."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_llm_hooks_testing import FakeStore

from .refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FakeStoreFolder = Annotated[
    str | None,
    typer.Option(
        "--fake-store",
        metavar="FOLDER",
        help="Stands for all stores: s3://models/a.json is FOLDER/s3/models/a.json. Recipes fetch from nowhere else.",
    ),
]


SCHEMES = ("s3", "gs", "az", "abfss", "hf", "http", "https", "file")
"""The folders that there may be in it, one for each kind of store; a test compares them with the recipes'."""

_VARIABLE = "SERVE_LLM_HOOKS_FAKE_STORE"
# How it is told that a real store was asked in vain: as the failure of a recipe, or in a line that begins with a place.
_IN_VAIN = re.compile(
    rf"(?:^| )hook serve_llm_hooks\.recipes\.[^\n]*: DownloadError: |^(?:{'|'.join(SCHEMES)})://\S+: "
)


@contextmanager
def fake_store(folder: str | None) -> Iterator[None]:
    """Have recipes find the files of a folder, and no others. They work on a copy: the folder stays as it is.

    Raises:
        Refused: there is no such folder, or it is none of stores.
    """
    if folder is None:
        yield
        return
    if not os.path.isdir(folder):
        why = "is no folder" if os.path.exists(folder) else f"there is no such folder (in {Path.cwd()})"
        raise Refused(f"--fake-store {folder}: {why}")
    others = sorted(name for name in os.listdir(folder) if name not in SCHEMES and not name.startswith("."))
    if others:
        raise Refused(
            f"--fake-store {folder}: {others[0]} stands for no kind of store. s3://models/a.json is "
            f"{Path(folder, 's3', 'models', 'a.json')}, and so for {', '.join(SCHEMES[1:-1])}; /opt/a.json is "
            f"{Path(folder, 'file', 'opt', 'a.json')}"
        )
    with FakeStore():
        try:
            shutil.copytree(folder, Path(os.environ[_VARIABLE], "stores"), dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise Refused(f"--fake-store {folder} cannot be read: {type(error).__name__}") from None
        yield


def store_hints(folder: str | None, texts: Iterable[str]) -> list[str]:
    """Return what to say of ``--fake-store`` where recipes have asked real stores in vain; else nothing.

    Args:
        folder: what was given for ``--fake-store``.
        texts: the problems and warnings of a model.
    """
    if folder is not None or not any(_IN_VAIN.search(text) for text in texts):
        return []
    return ["a ready-made hook has asked a real store; with --fake-store FOLDER, that folder answers in its place"]
