"""Find the hook that a thread, a frame or a coroutine is at work for."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import serve_llm_hooks
from serve_llm_hooks._core.call_loop import call_each
from serve_llm_hooks._core.dispatch import Dispatcher
from serve_llm_hooks._core.own_task import OwnTask
from serve_llm_hooks._core.spans import SyncSpan
from serve_llm_hooks._process.work import run_task

from .stacks import stack_of

if TYPE_CHECKING:
    from types import FrameType

_OWN_PACKAGES = (*serve_llm_hooks.__path__, os.path.dirname(os.path.dirname(__file__)))
_OWN_FOLDERS = tuple(os.path.join(folder, "") for folder in _OWN_PACKAGES)
# The files of production code whose functions call hooks.
_CALLERS = {
    call.__code__.co_filename
    for call in (Dispatcher.run_point, OwnTask.ends_within, SyncSpan.set_up, call_each, run_task)
}
_RUN_CALLBACK = asyncio.Handle._run.__code__
_RECIPES = os.path.join(serve_llm_hooks.__path__[0], "recipes", "")  # whose hooks are hooks as anybody's
_IMPORT = ("importlib", "importlib._bootstrap")  # whose frames are between an import and what is imported
_MACHINERY = ("asyncio", "concurrent", "threading", "contextvars", "selectors")


@dataclass(frozen=True, slots=True)
class HookLocation:
    """A hook, and the line at which it (or what it calls) is."""

    hook: str  # "module:qualname"
    line: str  # "file:line in function"
    frame: object  # the hook's. While it is held here, the frame of no other call can be the same object.

    def __str__(self) -> str:
        return f"hook {self.hook} (at {self.line})"


def is_own_frame(frame: FrameType) -> bool:
    """Return whether a frame runs code of this library, or of this package."""
    return frame.f_code.co_filename.startswith(_OWN_FOLDERS)


def is_importing(thread_id: int) -> bool:
    """Return whether a thread is importing a module right now."""
    return any(map(_is_import, stack_of(current_frames().get(thread_id))))


def locate_thread(thread_id: int) -> HookLocation | None:
    """Return the hook that a thread runs right now."""
    return locate_frame(current_frames().get(thread_id))


def current_frames() -> dict[int, FrameType]:
    """Return each thread's current frame, by the thread's id; without collecting garbage meanwhile.

    CPython holds a lock for this that a new thread needs. What is collected runs code, which lets other threads run;
    if one of them starts a thread, all wait for ever (met in Python 3.11, in a run of many threads).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()


def locate_frame(frame: FrameType | None) -> HookLocation | None:
    """Return the hook that a running frame belongs to; ``None`` where it belongs to none."""
    inner: list[FrameType] = []
    for each in stack_of(frame):
        # A hook is called by production code, and a task that a hook made by the event loop.
        if inner and each.f_code.co_filename in _CALLERS:
            return _innermost(inner)
        if inner and each.f_code is _RUN_CALLBACK:
            task = next((outer for outer in reversed(inner) if not _is_machinery(outer)), None)
            return None if task is None or is_own_frame(task) else _innermost(inner)  # its own task: between hooks
        inner.append(each)
    return None


def locate_awaitable(awaitable: Any) -> HookLocation | None:
    """Return the hook that a suspended coroutine or async generator belongs to, and the line at which it waits."""
    outer: list[FrameType] = []
    while awaitable is not None:
        for prefix in ("cr", "ag", "gi"):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                outer.append(frame)
                awaitable = getattr(awaitable, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await", None)
                break
        else:
            break
    callers = [index for index, frame in enumerate(outer) if frame.f_code.co_filename in _CALLERS]
    if not callers and outer and is_own_frame(outer[0]):
        return None  # the run itself, where it waits for no hook
    inner = outer[callers[-1] + 1 :] if callers else outer
    return _innermost(inner[::-1])


def _innermost(frames: list[FrameType]) -> HookLocation | None:
    """Return the location from frames, the innermost first."""
    foreign = [frame for frame in frames if _is_foreign(frame) and not _is_machinery(frame)]
    imports = next((number for number, frame in enumerate(reversed(foreign)) if _is_import(frame)), 0)
    foreign = foreign[len(foreign) - imports :] if imports else foreign  # the line of the import, not what it comes to
    if not foreign:
        return None
    hook, line = foreign[-1], foreign[0]
    return HookLocation(
        f"{hook.f_globals.get('__name__', '?')}:{hook.f_code.co_qualname}",
        f"{line.f_code.co_filename}:{line.f_lineno} in {line.f_code.co_name}",
        hook,
    )


def _is_foreign(frame: FrameType) -> bool:
    return not is_own_frame(frame) or frame.f_code.co_filename.startswith(_RECIPES)


def _is_import(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _IMPORT


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY
