"""Assertions about a run. A failure shows the timeline that was expected and the one that was observed.

A name is a hook point (``"on_before_init"``: all its hooks), a hook's bare name, or ``"module:qualname"``, as in
``before=`` and ``after=``. A name that is unknown or ambiguous raises a ``HarnessError`` instead of passing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from serve_llm_hooks.points import HOOK_NAMES, HOOK_POINTS, did_you_mean

from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from serve_llm_hooks import HookEvent

    from .run import FakeRun

__all__ = ["assert_not_run", "assert_order", "assert_ran_on"]


def assert_order(run: FakeRun, *names: str) -> None:
    """Assert that each of these hooks ran, in this order.

    All calls of one come before all calls of the next, in each process, and between the replica and its nodes. Calls
    on different nodes are not compared, since nodes do not wait for one another.

    Args:
        run: the run.
        names: two names of hooks or hook points, or more.

    Raises:
        AssertionError: they did not; the message shows both timelines.
        HarnessError: a name is unknown or ambiguous.

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
    steps = [_calls_of(run, name) for name in names]
    for name, step in zip(names, steps, strict=True):
        if not step:
            raise AssertionError(_timelines(run, names, steps, f"{name!r} did not run{_why_not(run, name)}"))
    for (name, step), (other, later) in pairwise(zip(names, steps, strict=True)):
        for index in step:
            for after in later:
                if after <= index and _ordered(events[index], events[after]):
                    same = f"{other!r} and {name!r} are the same"
                    problem = f"{other!r} ran before {name!r}" if after < index else same
                    raise AssertionError(_timelines(run, names, steps, problem))


def assert_ran_on(
    run: FakeRun, hook: str, *, node_count: int | None = None, node_ids: Collection[str] | None = None
) -> None:
    """Assert that a hook ran to its end on these nodes and on no others, or on this many nodes.

    Args:
        run: the run.
        hook: the name of a hook or a hook point.
        node_count: the number of nodes.
        node_ids: the nodes.

    Raises:
        AssertionError: it did not; the message shows where it ran.
        HarnessError: the name is unknown or ambiguous, or a node does not exist.

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
    events = list(filter(_matcher(run, hook), run.trace))
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
    if any(line.startswith(("+", "-")) for line in lines[1:]):
        lines.append("(-: should have run there, +: should not)")
    raise AssertionError("\n".join(lines))


def assert_not_run(run: FakeRun, *names: str, even_if_failed: bool = False) -> None:
    """Assert that none of these hooks ran.

    Args:
        run: the run.
        names: names of hooks or hook points.
        even_if_failed: pass even if the run failed before the hooks were due. Otherwise that is a failure, since it
            says nothing about them.

    Raises:
        AssertionError: one ran, and the message shows when; or the run failed before.
        HarnessError: a name is unknown or ambiguous.

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
        calls = _calls_of(run, name)
        if calls:
            lines = [f"{name!r} should not have run:", *_timeline(run, dict.fromkeys(calls, "+"))]
            raise AssertionError("\n".join(lines))
        if not even_if_failed and _failed_before(run, name):
            raise AssertionError(
                f"{name!r} did not run{_why_not(run, name)}; that says nothing about it. If this is what the test "
                "means, write assert_not_run(..., even_if_failed=True)"
            )


def _matcher(run: FakeRun, name: str) -> Callable[[HookEvent], bool]:
    """Return a function that returns whether a call is one of the hooks that a name stands for."""
    if name in HOOK_POINTS:
        return lambda event: event.point == name
    path = _resolve(run, name)
    return lambda event: event.hook == path or event.hook.startswith(f"{path}(")  # with the hook's parameters


def _resolve(run: FakeRun, name: str) -> str:
    """Return the path of the hook that a name stands for.

    Raises:
        HarnessError: there is none, or more than one.
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


def _calls_of(run: FakeRun, name: str) -> list[int]:
    """Return the positions in the trace of the calls of the hooks that a name stands for."""
    matches = _matcher(run, name)
    return [index for index, event in enumerate(run.trace) if event.ran and matches(event)]


def _points_of(run: FakeRun, name: str) -> list[str]:
    if name in HOOK_POINTS:
        return [name]
    path = _resolve(run, name)
    return [hook.point for hook in (*run.hooks, *run.known_hooks()) if hook.path == path]


def _failed_before(run: FakeRun, name: str) -> bool:
    """Return whether the run failed before the hooks that a name stands for were due."""
    if run.error is None or not _is_for_model(run, name):
        return False
    order = list(HOOK_POINTS)
    reached = order.index(run.reached) if run.reached else -1
    points = [point for point in _points_of(run, name) if point != "on_failure"]
    return bool(points) and all(order.index(point) >= reached for point in points)


def _why_not(run: FakeRun, name: str) -> str:
    if _failed_before(run, name):
        where = f", at {run.reached}" if run.reached else ""
        first_line = f"{type(run.error).__name__}: {run.error}".partition("\n")[0]
        return f", because the run had failed before{where}: {first_line}"
    matches = _matcher(run, name)
    disabled = next((event for event in run.trace if not event.ran and matches(event)), None)
    if disabled is not None:
        return f", because it is disabled: {disabled.detail}"
    return "" if _is_for_model(run, name) else f" (it is not for model {run.model_id!r})"


def _is_for_model(run: FakeRun, name: str) -> bool:
    return name in HOOK_POINTS or _resolve(run, name) in {hook.path for hook in run.hooks}


def _ordered(first: HookEvent, second: HookEvent) -> bool:
    """Return whether two calls are ordered: in one process, or between the replica and a node."""
    nodes = HOOK_POINTS[first.point].on_node, HOOK_POINTS[second.point].on_node
    return nodes != (True, True) or first.node_id == second.node_id


def _call(event: HookEvent) -> str:
    where = event.node_id if HOOK_POINTS[event.point].on_node else "replica"
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.start_s:9.3f} s  {where:<8}  {event.point:<24}  {event.hook}  {event.outcome}{detail}"


def _timelines(run: FakeRun, names: Sequence[str], steps: Sequence[Sequence[int]], problem: str) -> str:
    """Return a message with the expected and the observed order."""
    marks: dict[int, str] = {}
    for number, step in enumerate(steps, 1):
        for index in step:
            marks[index] = f"{marks[index]},{number}" if index in marks else str(number)
    lines = [problem, "expected, in this order:"]
    lines += [f"  {number}. {name}" for number, name in enumerate(names, 1)]
    lines += ["what ran:", *_timeline(run, marks)]
    return "\n".join(lines)


def _timeline(run: FakeRun, marks: dict[int, str]) -> list[str]:
    """Return a line for each call, with its mark."""
    lines = [f"{marks.get(index, ''):>3} {_call(event)}" for index, event in enumerate(run.trace)]
    if run.error is not None:
        lines.append(f"    then the run failed: {type(run.error).__name__}: {run.error}")
    return lines or ["    (no hook ran)"]
