"""Show where an error was raised: its author's own frames, also those that another process wrote down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serve_llm_hooks import HookError, HookImportError, NodeInitializationError, ServeLLMHooksError
from serve_llm_hooks._core.frames import authors_frames
from serve_llm_hooks._core.messages import traceback_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAME = re.compile(r'(?P<indent> *)File "(?P<file>.+)", line \d+, in ')
_IN_A_GROUP = re.compile(r"^ *[|+] ?", re.MULTILINE)  # before each line of the traceback of an exception group
_SHOWN_FRAMES = 5
_SHOWN_ERRORS = 3


def frames_of(error: BaseException) -> str:
    """Return the author's own frames of a failed hook or module, as a traceback shows them.

    Of nodes that fail, those of each error, each once. An empty string where there are none.
    """
    different = dict.fromkeys(_frames_of(error))
    return "\n".join(line for frames in [*different][:_SHOWN_ERRORS] for line in frames)


def _frames_of(error: BaseException) -> list[tuple[str, ...]]:
    """Return the frames of an error, or of each error in it; where it has none, those that its notes tell."""
    if isinstance(error, NodeInitializationError):
        inside = [frames for each in error.exceptions for frames in _frames_of(each)]
        if inside:
            return inside
    elif isinstance(error, HookError | HookImportError) and error.__cause__ is not None:
        frames = _shown(traceback_of(error.__cause__))
        if frames:
            return [frames]
    notes = getattr(error, "__notes__", ()) if isinstance(error, ServeLLMHooksError) else ()
    frames = _shown("\n".join(note for note in notes if isinstance(note, str)))
    return [frames] if frames else []


def _shown(text: str) -> tuple[str, ...]:
    """Return the author's last frames in the text of a traceback."""
    return tuple(authors_frames(_frames_in(text))[-_SHOWN_FRAMES:])


def _frames_in(text: str) -> Iterator[tuple[str, str]]:
    """Return the file of each frame in the text of a traceback, and the frame: its line, and the code below it."""
    file, indent, frame = "", 0, list[str]()
    for line in [*_IN_A_GROUP.sub("", text).splitlines(), ""]:
        found = _FRAME.match(line)
        if frame and (found or len(line) - len(line.lstrip()) <= indent):
            yield file, "\n".join(frame)
            frame = []
        if found:
            file, indent = found["file"], len(found["indent"])
        if found or frame:
            frame.append(f"  {line[indent:].rstrip()}")
