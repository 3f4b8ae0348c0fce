"""Check ``until=`` where it is written: it names a later point, which every good start comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import HookLoadError
from .points import HOOK_NAMES, HOOK_POINTS, HookName, HookPoint

if TYPE_CHECKING:
    from .hook import Hook

SHUTDOWN: HookName = "on_shutdown"
PROCESS_START: HookName = "on_engine_process_start"


def check_until(hook: Hook) -> None:
    """Check the option ``until`` of a hook that has one.

    Raises:
        ValueError: it does not fit the hook; the message says what to write.
    """
    until = hook.options.until
    if until is None:
        return
    possible = _possible(HOOK_POINTS[hook.point], is_span=hook.is_span)
    if until in possible:
        return
    instead = f"until= is one of {', '.join(possible)} here" if possible else "Leave it out"
    if hook.is_span:
        end = "the work on the node" if HOOK_POINTS[hook.point].on_node else "the start"
        instead += f"; left out, the end of {end}"
    raise ValueError(f"until={until!r} of {hook.path} at {hook.point}: {_why_not(hook, until)}. {instead}.")


def check_ends_before_the_engine(hook: Hook) -> None:
    """Check that a hook ends before the engine starts, for Ray's own configs, whose callback ends there.

    Raises:
        HookLoadError: it lasts longer.
    """
    until = hook.options.until
    if HOOK_POINTS[until].needs_server if until else hook.is_span and not HOOK_POINTS[hook.point].on_node:
        raise HookLoadError(
            f"{hook.ref} at {hook.point} lasts until {until or 'the end of the start'}, which Ray's callback_config "
            'never reaches. Write until="on_before_engine_init", or use `from serve_llm_hooks.ray import LLMConfig` '
            "with hooks=[...]."
        )


def needs_processes(hook: Hook) -> bool:
    """Return True if a hook runs in the engine's processes, or works in the background until they begin."""
    return HOOK_POINTS[hook.point].in_process or hook.options.until == PROCESS_START


def in_words(hook: Hook) -> str:
    """Return a hook with its point, and how long it lasts, for messages."""
    until = hook.options.until
    return f"{hook.ref} at {hook.point}" + (f", with until={until!r}," if until else "")


def _why_not(hook: Hook, until: HookName) -> str:
    first, last = HOOK_POINTS[hook.point], HOOK_POINTS[until]
    if HOOK_NAMES.index(until) <= HOOK_NAMES.index(hook.point):
        return "that point does not come later"
    if first.in_process:
        return "a process of the engine waits for nothing later"
    if last.in_process:
        return "that point is in the engine's processes, in which no `yield` goes on"
    if not hook.is_span and last.on_node:
        return "work in the background is waited for in the replica"
    if not hook.is_span and until == SHUTDOWN:
        return "without a `yield` it means work in the background of a start, which is over by then"
    if first.on_node and hook.is_span:
        return "a process on a node ends with its work, before that"
    if last.on_node:
        return "that point is on nodes, in other processes"
    if last.during == "failure":
        return "a good start never comes to that point"
    return "a start may never come to that point, since a veto can leave it out"


def _possible(point: HookPoint, *, is_span: bool) -> list[HookName]:
    """Return the points that a hook of a point can last until."""
    if point.in_process:
        return []
    sure = _vetoes_over(point)
    later = list(HOOK_POINTS.values())[HOOK_NAMES.index(point.name) + 1 :]
    if not is_span:
        return [row.name for row in later if row.in_process or _is_reached(row, "replica", sure, is_span=False)]
    return [
        row.name
        for row in later
        if _is_reached(row, point.where, sure, is_span=True)
        and (not row.on_node or row.after_engine == point.after_engine)
    ]


def _is_reached(row: HookPoint, where: str, sure: set[str], *, is_span: bool) -> bool:
    """Return True for a point there that a good start comes to, whatever is vetoed but what is sure."""
    always = row.during == "start" and (row.on_node or not row.when)
    return (
        row.where == where
        and (always or (row.name == SHUTDOWN and is_span))
        and (row.within is None or row.within in sure)
    )


def _vetoes_over(point: HookPoint) -> set[str]:
    """Return the points whose veto would have left a point out, so that there was none."""
    over: set[str] = set()
    while point.within is not None:
        over.add(point.within)
        point = HOOK_POINTS[point.within]
    return over
