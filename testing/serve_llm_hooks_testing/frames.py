"""Whose code is that? From a frame of a thread or a task to the hook that it belongs to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Place", "place_of_awaiting", "place_of_frame", "place_of_thread"]

_OURS = ("serve_llm_hooks", "serve_llm_hooks_testing")
_DISPATCH = (
    "serve_llm_hooks._core.dispatch",
    "serve_llm_hooks._core.call_loop",
    "serve_llm_hooks._sources.class_style",
    "serve_llm_hooks._sources.phase_style",
    "serve_llm_hooks._sources.replace_style",
)
_MACHINERY = ("asyncio", "concurrent", "threading", "contextvars", "selectors")


@dataclass(frozen=True, slots=True)
class Place:
    """A hook, and the line of it (or of what it calls) that is at work.

    Attributes:
        hook: the hook as ``module:qualname``.
        where: ``file:line in function`` of the innermost frame.
    """

    hook: str
    where: str
    call: object  # the hook's frame: as long as it is held here, no other call can look like it

    def __str__(self) -> str:
        return f"hook {self.hook} (at {self.where})"


def place_of_thread(thread_id: int) -> Place | None:
    """What a thread is doing right now."""
    return place_of_frame(sys._current_frames().get(thread_id))


def place_of_frame(frame: FrameType | None) -> Place | None:
    """The hook that a running frame belongs to; ``None`` when it belongs to nobody's hook."""
    inner: list[FrameType] = []
    while frame is not None:
        # A hook is what the dispatcher calls, or a task that a hook made, which the event loop calls.
        name = frame.f_globals.get("__name__")
        if inner and name in _DISPATCH:
            return _place(inner)
        if inner and name == "asyncio.events":
            task = next((outer for outer in reversed(inner) if _top(outer) not in _MACHINERY), None)
            return None if task is None or _top(task) in _OURS else _place(inner)  # ours, between hooks
        inner.append(frame)
        frame = frame.f_back
    return None


def place_of_awaiting(awaiting: Any) -> Place | None:
    """The hook that a waiting coroutine (or async generator) belongs to, and the line where it waits."""
    outer: list[FrameType] = []
    while awaiting is not None:
        for prefix in ("cr", "ag", "gi"):
            frame = getattr(awaiting, f"{prefix}_frame", None)
            if frame is not None:
                outer.append(frame)
                awaiting = getattr(awaiting, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await", None)
                break
        else:
            break
    dispatched = [index for index, frame in enumerate(outer) if frame.f_globals.get("__name__") in _DISPATCH]
    mine = outer[dispatched[-1] + 1 :] if dispatched else outer
    if not dispatched and outer and _top(outer[0]) in _OURS:
        return None  # the run itself, where it waits for no hook
    return _place(mine[::-1])


def _place(frames: list[FrameType]) -> Place | None:
    """From frames, the innermost first."""
    foreign = [frame for frame in frames if _top(frame) not in (*_OURS, *_MACHINERY)]
    if not foreign:
        return None
    hook, line = foreign[-1], foreign[0]
    return Place(
        f"{hook.f_globals.get('__name__', '?')}:{hook.f_code.co_qualname}",
        f"{line.f_code.co_filename}:{line.f_lineno} in {line.f_code.co_name}",
        hook,
    )


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
