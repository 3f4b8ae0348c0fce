"""Assertions about a run. A failure shows the timeline that was expected and the one that was observed.

A name is a hook point (``"on_before_init"``: all its hooks), a hook's bare name, ``"module:qualname"``, as in
``before=`` and ``after=``, ``"Class.method"``, or ``"Class"`` where it has but one hook. With `` (finish)`` behind it,
as in the table of a trace, it is what follows the ``yield`` of a hook, and without it the hook up to there. A name that
is unknown or ambiguous raises a ``HarnessError`` instead of passing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from serve_llm_hooks._core.called import called, names_of
from serve_llm_hooks._core.messages import counted, did_you_mean, text_of
from serve_llm_hooks._core.origin import path_of
from serve_llm_hooks._core.points import HOOK_NAMES, HOOK_POINTS

from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from serve_llm_hooks import Hook, HookEvent

    from .run import FakeRun


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
    named = [_Named(run, name) for name in names]
    steps = [hooks.calls() for hooks in named]
    for hooks, step in zip(named, steps, strict=True):
        if not step:
            raise AssertionError(_timelines(run, names, steps, f"{hooks.name!r} did not run{hooks.why_not()}"))
    for (name, step), (other, later) in pairwise(zip(names, steps, strict=True)):
        for index in step:
            for after in later:
                if after > index and _are_beside(events[index], events[after]):
                    problem = f"{other!r} ran before {name!r} had ended"
                    raise AssertionError(_timelines(run, names, steps, problem))
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
    if isinstance(node_ids, str):
        raise HarnessError(f"assert_ran_on takes a list of nodes, as in node_ids=[{node_ids!r}], not {node_ids!r}")
    for node_id in node_ids or ():
        if node_id not in run.nodes:
            raise HarnessError(f"{node_id!r} is no node of this run{did_you_mean(node_id, run.nodes)}")
    named = _Named(run, hook)
    events = list(filter(named.matches, run.trace))
    ran_on = {event.node_id for event in events if event.outcome in ("ok", "vetoed")}
    wanted = set(node_ids) if node_ids is not None else None
    if ran_on == wanted or (wanted is None and len(ran_on) == node_count):
        return
    count = counted(node_count or 0, "node")
    expected = f"on {count}" if wanted is None else f"on {', '.join(sorted(wanted)) or 'no node'}"
    why_not = "" if any(event.ran for event in events) else named.why_not()
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
        named = _Named(run, name)
        if calls := named.calls():
            lines = [f"{name!r} should not have run:", *_timeline(run, dict.fromkeys(calls, "+"))]
            raise AssertionError("\n".join(lines))
        if not even_if_failed and named.failed_before():
            raise AssertionError(
                f"{name!r} did not run{named.why_not()}; that says nothing about it. If this is what the test "
                "means, write assert_not_run(..., even_if_failed=True)"
            )


class _Named:
    """The hooks of a run that a name stands for.

    Raises:
        HarnessError: the name is unknown or ambiguous.
    """

    def __init__(self, run: FakeRun, name: str) -> None:
        if not isinstance(name, str):
            raise HarnessError(f"an assertion takes a hook's name, {path_of(name)!r}, and not the hook itself")
        self.name = name
        self._run = run
        known = [*run.hooks, *run.known_hooks()]
        bare = name.removesuffix(" (finish)")
        self._is_finish = bare != name
        self._point = bare if bare in HOOK_POINTS else ""
        self._path = "" if self._point else resolve_hook(bare, known)
        self._points: list[str] = [hook.point for hook in known if hook.path == self._path] or [bare]
        self._is_for_model = not self._path or any(hook.path == self._path for hook in run.hooks)

    def matches(self, event: HookEvent) -> bool:
        """Return whether a call is one of these hooks."""
        if event.is_finish != self._is_finish:
            return False
        if not self._path:
            return event.point == self._point
        # With the hook's parameters, or the number of one that is written alike.
        return event.hook == self._path or event.hook.startswith((f"{self._path}(", f"{self._path}#"))

    def calls(self) -> list[int]:
        """Return the positions of their calls in the trace."""
        return [index for index, event in enumerate(self._run.trace) if event.ran and self.matches(event)]

    def failed_before(self) -> bool:
        """Return whether the run failed before these hooks were due."""
        if self._run.error is None or not self._is_for_model:
            return False
        order = list(HOOK_POINTS)
        reached = order.index(self._run.reached) if self._run.reached else -1
        points = [point for point in self._points if HOOK_POINTS[point].during != "failure"]
        return bool(points) and all(order.index(point) >= reached for point in points)

    def why_not(self) -> str:
        """Return the reason why they did not run, as the end of a sentence."""
        run = self._run
        if run.error is not None and self.failed_before():
            where = f", at {run.reached}" if run.reached else ""
            first_line = f"{type(run.error).__name__}: {text_of(run.error)}".partition("\n")[0]
            return f", because the run had failed before{where}: {first_line}"
        did_not = next((event for event in run.trace if not event.ran and self.matches(event)), None)
        if did_not is not None:
            return f", because it is {did_not.outcome}: {did_not.detail}"
        return "" if self._is_for_model else f" (it is not for model {run.model_id!r})"


def resolve_hook(name: str, hooks: Sequence[Hook]) -> str:
    """Return the path of the hook that a name stands for.

    Raises:
        HarnessError: there is none, or more than one.
    """
    paths = list(dict.fromkeys(hook.path for hook in called(name, hooks)))
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise HarnessError(f"{name!r} is ambiguous: {', '.join(paths)}. Write one of these instead of the bare name.")
    known = list(dict.fromkeys([*(each for hook in hooks for each in (hook.name, *names_of(hook.path))), *HOOK_NAMES]))
    named = ", ".join(dict.fromkeys(hook.path for hook in hooks)) or "none"
    raise HarnessError(
        f"{name!r} is neither a hook point nor a hook that this run knows{did_you_mean(name, known)}. "
        f"Its hooks: {named}."
    )


def _ordered(first: HookEvent, second: HookEvent) -> bool:
    """Return whether two calls are ordered: on one node, between the replica and a node, or by the engine's start."""
    if first.process.startswith("worker-") and second.process.startswith("worker-"):
        return first.process == second.process  # vLLM starts its workers at once
    rows = HOOK_POINTS[first.point], HOOK_POINTS[second.point]
    if not all(row.on_node for row in rows) or first.node_id == second.node_id:
        return True
    return all(row.during == "start" for row in rows) and rows[0].after_engine != rows[1].after_engine


def _are_beside(first: HookEvent, second: HookEvent) -> bool:
    """Return whether a call in the replica's background had not ended when another one there began."""
    return first.process_id == second.process_id and first.end_s > second.start_s


def _call(event: HookEvent) -> str:
    where = event.process or (event.node_id if HOOK_POINTS[event.point].on_node else "replica")
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.start_s:9.3f} s  {where:<8}  {event.point:<24}  {event.label}  {event.outcome}{detail}"


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
        lines.append(f"    then the run failed: {type(run.error).__name__}: {text_of(run.error)}")
    return lines or ["    (no hook ran)"]
