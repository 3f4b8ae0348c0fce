"""The author's own frames of a traceback: without those of Python, of Ray, of vLLM, and of this library."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

FrameT = TypeVar("FrameT")

_OURS = ("serve_llm_hooks", "serve_llm_hooks_engine", "serve_llm_hooks_testing")
_RUN_HOOKS = (*_OURS, "ray", "vllm")
_INSTALLED_IN = ("site-packages", "dist-packages")
# A separator at its end, as each folder here has: `lib/python3.11-hooks` is not below `lib/python3.11`.
_PYTHONS = f"{os.path.dirname(os.__file__)}{os.sep}"


def authors_frames(frames: Iterable[tuple[str, FrameT]]) -> list[FrameT]:
    """Return the frames that are the author's own; what is installed counts only where there is no other.

    In an image hooks may be installed too. Where they are not, what is installed are the libraries they call.

    Args:
        frames: each with the path of its file.

    Example:
        >>> authors_frames([("/app/hooks.py", 3), ("/venv/lib/python3.11/site-packages/boto3/session.py", 90)])
        [3]
    """
    found = [(_installed_package(file), frame) for file, frame in frames if _is_the_authors(file)]
    own = [frame for package, frame in found if not package]
    return own or [frame for _, frame in found]


def _is_the_authors(file: str) -> bool:
    package = _installed_package(file)
    if package:  # it may lie below Python's own library, where there is no virtual environment
        return package not in _RUN_HOOKS
    files = [getattr(sys.modules.get(name), "__file__", None) for name in _OURS]
    ours = [f"{os.path.dirname(each)}{os.sep}" for each in files if each]
    return not file.startswith(("<frozen", _PYTHONS, *ours))


def _installed_package(file: str) -> str:
    """Return the name of the package or module that an installed file is part of; an empty string for other files."""
    parts = file.replace("\\", "/").split("/")
    for number in range(len(parts) - 2, -1, -1):
        if parts[number] in _INSTALLED_IN:
            return parts[number + 1]
    return ""
