"""Assertions about a run, whose failure reads like a diff of two timelines.

A name in them is a hook point (``"on_before_init"``: the hooks there, all of them), a hook's bare name, or
``"module:qualname"``; as in ``before=`` and ``after=``, but an unknown name is an error, and not a pass.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from serve_llm_hooks._core.points import HOOK_NAMES, HOOK_POINTS
from serve_llm_hooks._core.text import did_you_mean

from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from serve_llm_hooks import HookEvent

    from .run import FakeRun

__all__ = ["assert_not_run", "assert_order", "assert_ran_on"]


def assert_order(run: FakeRun, *names: str) -> None:
    """Each of these ran, and in this order.

    All calls of one come before all calls of the next: in each process, and between the replica and its nodes.
    (Two nodes wait for nobody but themselves: what runs on one is not ordered with what runs on another.)

    Raises:
        AssertionError: it was otherwise; the message shows both timelines.
        HarnessError: a name that means nothing, or more than one thing.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_download")
        ... def choose_files(ctx): ...
        >>> @hooks.hook("on_after_node_download")
        ... def unpack(ctx): ...
        >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))
        >>> assert_order(run, "choose_files", "unpack")
    """
    __tracebackhide__ = True
    if len(names) < 2:
        raise HarnessError("assert_order(run, first, second, ...) compares two names or more")
    events = list(run.trace)
    steps = [[index for index, event in enumerate(events) if event.ran and _means(run, name)(event)] for name in names]
    for name, step in zip(names, steps, strict=True):
        if not step:
            raise AssertionError(_timelines(run, events, names, steps, f"{name!r} did not run{_why_not(run, name)}"))
    for (name, step), (other, later) in pairwise(zip(names, steps, strict=True)):
        for index in step:
            for after in later:
                if after <= index and _ordered(events[index], events[after]):
                    what = f"{other!r} ran before {name!r}" if after < index else f"{other!r} and {name!r} are the same"
                    raise AssertionError(_timelines(run, events, names, steps, what))


def assert_ran_on(
    run: FakeRun, hook: str, *, node_count: int | None = None, node_ids: Collection[str] | None = None
) -> None:
    """A hook ran to its end on these nodes, or on so many.

    Args:
        run: what ``FakeCluster.run`` returned.
        hook: a hook's name, or a hook point.
        node_count: on how many nodes.
        node_ids: on which ones, and on no other.

    Raises:
        AssertionError: it was otherwise; the message shows where it ran.
        HarnessError: a name that means nothing, or more than one thing; a node that does not exist.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_after_node_download")
        ... def unpack(ctx): ...
        >>> run = FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=[hooks]))
        >>> assert_ran_on(run, "unpack", node_count=3)
    """
    __tracebackhide__ = True
    if (node_count is None) == (node_ids is None):
        raise HarnessError("assert_ran_on takes node_count=3, or node_ids=['node-0', ...]: one of the two")
    for node_id in node_ids or ():
        if node_id not in run.nodes:
            raise HarnessError(f"{node_id!r} is no node of this run{did_you_mean(node_id, run.nodes)}")
    means = _means(run, hook)
    events = [event for event in run.trace if means(event)]
    ran_on = {event.node_id for event in events if event.outcome in ("ok", "vetoed")}
    wanted = set(node_ids) if node_ids is not None else None
    if ran_on == wanted or (wanted is None and len(ran_on) == node_count):
        return
    expected = f"on {node_count} nodes" if wanted is None else f"on {', '.join(sorted(wanted)) or 'no node'}"
    why_not = "" if any(event.ran for event in events) else _why_not(run, hook)
    lines = [f"{hook!r} should have run {expected}, and ran on {len(ran_on)}{why_not}:"]
    for node_id in run.nodes:
        mark = " " if wanted is None or (node_id in wanted) == (node_id in ran_on) else "+-"[node_id in wanted]
        mine = [event for event in events if event.node_id == node_id]
        lines.append(f"{mark} {node_id:<10} {'; '.join(map(_call, mine)) or 'did not run'}")
    raise AssertionError("\n".join(_with_legend(lines)))


def assert_not_run(run: FakeRun, *names: str, even_if_failed: bool = False) -> None:
    """None of these ran.

    Args:
        run: what ``FakeCluster.run`` returned.
        names: hooks, or hook points.
        even_if_failed: also when the run failed before they could; without it, that is an error, since it would
            say nothing about them.

    Raises:
        AssertionError: one did; the message shows when.
        HarnessError: a name that means nothing, or more than one thing.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_init", model_id="qwen*")
        ... def only_for_qwen(ctx): ...
        >>> assert_not_run(FakeCluster().run(FakeLLMConfig("llama", hooks=[hooks])), "only_for_qwen")
    """
    __tracebackhide__ = True
    if not names:
        raise HarnessError("assert_not_run(run, name, ...) takes one name or more")
    for name in names:
        means = _means(run, name)
        events = list(run.trace)
        ran = [index for index, event in enumerate(events) if event.ran and means(event)]
        if ran:
            raise AssertionError(
                "\n".join([f"{name!r} should not have run:", *_timeline(run, events, dict.fromkeys(ran, "+"))])
            )
        if not even_if_failed and _failed_before(run, name):
            raise AssertionError(
                f"{name!r} did not run{_why_not(run, name)}; that says nothing about it. If this is what the test "
                "means, write assert_not_run(..., even_if_failed=True)"
            )


class _means:  # reads as the predicate that it is
    """Whether an event is one that a name means."""

    def __init__(self, run: FakeRun, name: str) -> None:
        self._point = name if name in HOOK_POINTS else None
        self._path = None if self._point else _resolve(run, name)

    def __call__(self, event: HookEvent) -> bool:
        if self._point is not None:
            return event.point == self._point
        return event.hook == self._path or event.hook.startswith(f"{self._path}(")  # with its parameters


def _resolve(run: FakeRun, name: str) -> str:
    """The hook's path that a name means.

    Raises:
        HarnessError: none, or more than one.
    """
    hooks = [*run.hooks, *run.known_hooks()]
    paths = list(dict.fromkeys(hook.path for hook in hooks if name in (hook.name, hook.path)))
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise HarnessError(f"{name!r} is ambiguous: {', '.join(paths)}. Write one of these instead of the bare name.")
    known = list(dict.fromkeys([*(hook.name for hook in hooks), *(hook.path for hook in hooks), *HOOK_NAMES]))
    named = ", ".join(dict.fromkeys(hook.path for hook in hooks)) or "none"
    raise HarnessError(
        f"{name!r} is neither a hook point nor a hook that this run knows{did_you_mean(name, known)}. "
        f"Its hooks: {named}."
    )


def _points_of(run: FakeRun, name: str) -> list[str]:
    if name in HOOK_POINTS:
        return [name]
    path = _resolve(run, name)
    return [hook.point for hook in (*run.hooks, *run.known_hooks()) if hook.path == path]


def _failed_before(run: FakeRun, name: str) -> bool:
    """Whether the run had failed before anything of this name could run."""
    if run.error is None or not _is_for_model(run, name):
        return False
    reached = HOOK_NAMES.index(run.reached) if run.reached else -1
    points = [point for point in _points_of(run, name) if point != "on_failure"]
    return bool(points) and all(_index(point) >= reached for point in points)


def _index(point: str) -> int:
    return list(HOOK_POINTS).index(point)


def _why_not(run: FakeRun, name: str) -> str:
    if _failed_before(run, name):
        where = f", at {run.reached}" if run.reached else ""
        first_line = f"{type(run.error).__name__}: {run.error}".partition("\n")[0]
        return f", because the run had failed before{where}: {first_line}"
    did_not = next((event for event in run.trace if not event.ran and _means(run, name)(event)), None)
    if did_not is not None:
        return f", because it is {did_not.outcome}: {did_not.detail}"
    return "" if _is_for_model(run, name) else f" (it is not for model {run.model_id!r})"


def _is_for_model(run: FakeRun, name: str) -> bool:
    return name in HOOK_POINTS or _resolve(run, name) in {hook.path for hook in run.hooks}


def _ordered(first: HookEvent, second: HookEvent) -> bool:
    """Whether the order of two calls means anything: in one process, or between the replica and a node."""
    nodes = HOOK_POINTS[first.point].on_node, HOOK_POINTS[second.point].on_node
    return nodes != (True, True) or first.node_id == second.node_id


def _call(event: HookEvent) -> str:
    where = event.node_id if HOOK_POINTS[event.point].on_node else "replica"
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.start_s:9.3f} s  {where:<8}  {event.point:<24}  {event.hook}  {event.outcome}{detail}"


def _timelines(
    run: FakeRun, events: Sequence[HookEvent], names: Sequence[str], steps: Sequence[Sequence[int]], what: str
) -> str:
    marks: dict[int, str] = {}
    for number, step in enumerate(steps, 1):
        for index in step:
            marks[index] = f"{marks[index]},{number}" if index in marks else str(number)
    lines = [f"{what}", "expected, in this order:"]
    lines += [f"  {number}. {name}" for number, name in enumerate(names, 1)]
    lines += ["what ran:", *_timeline(run, events, marks)]
    return "\n".join(lines)


def _timeline(run: FakeRun, events: Sequence[HookEvent], marks: dict[int, str]) -> list[str]:
    lines = [f"{marks.get(index, ''):>3} {_call(event)}" for index, event in enumerate(events)]
    if run.error is not None:
        lines.append(f"    then the run failed: {type(run.error).__name__}: {run.error}")
    return lines or ["    (no hook ran)"]


def _with_legend(lines: list[str]) -> list[str]:
    if any(line.startswith(("+", "-")) for line in lines[1:]):
        lines.append("(-: should have run there, +: should not)")
    return lines
