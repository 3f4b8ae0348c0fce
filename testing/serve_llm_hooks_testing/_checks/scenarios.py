"""The scenarios in which ``check_hooks`` runs hooks."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_llm_hooks import (
    HOOK_POINTS,
    DownloadError,
    Hook,
    HookError,
    HookLoadError,
    HookRegistry,
    NodeInitializationError,
    NodeLostError,
    PlacementGroupError,
    skip,
)
from serve_llm_hooks._core.event import path_in
from serve_llm_hooks._observe.announce import LEFT_OUT_BY
from serve_llm_hooks._sources.select import UNMATCHED

from ..faults import (
    Fault,
    different_path,
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    replica_dies,
    slow_download,
    unschedulable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import CallbackCtx, Skip

_FIRST = -(2**31)
_ENGINE_ERROR = "the engine does not start (check_hooks)"
_HOOK_ERROR = "check_hooks lets it fail"

# What a hook raises that stumbles over its own code, whatever it was about to handle.
_SLIPS = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError")

_REASONS = ("check_hooks vetoes the downloads", "check_hooks skips the defaults")

_vetoes = HookRegistry()


@_vetoes.hook("on_before_download", order=_FIRST)
def _veto_downloads(ctx: CallbackCtx) -> Skip:
    return skip(_REASONS[0])


@_vetoes.hook("on_before_init", order=_FIRST)
def _veto_defaults(ctx: CallbackCtx) -> Skip:
    return skip(_REASONS[1])


def parts_of(error: Exception) -> tuple[Exception, ...]:
    """Return the errors of the nodes, if that is what a start has failed with."""
    return tuple(error.exceptions) if isinstance(error, NodeInitializationError) else (error,)


def _nodes_fail_with(*kinds: type[Exception]) -> Callable[[Exception], bool]:
    def is_expected(error: Exception) -> bool:
        return all(isinstance(each, kinds) for each in parts_of(error))

    return is_expected


def _is_engine_error(error: Exception) -> bool:
    return str(error) == _ENGINE_ERROR


def _is_group_error(error: Exception) -> bool:
    return isinstance(error, PlacementGroupError)


def _is_deliberate(error: Exception) -> bool:
    """Return whether a hook refuses what the fault has done, and does not stumble over its own code."""
    if "The engine takes one path for all its workers" in str(error):  # which the library refuses itself
        return True
    return all(
        isinstance(e, HookError) and not any(f": {slip}: " in str(e) for slip in _SLIPS) for e in parts_of(error)
    )


def _may_warn(detail: str) -> bool:
    """Return whether a hook with ``on_error="warn"`` may fail so while something else is wrong."""
    return not detail.startswith(_SLIPS)


def is_injected(detail: str) -> bool:
    """Return whether a hook has failed because a scenario lets it fail."""
    return detail == f"RuntimeError: {_HOOK_ERROR}"


def _is_failure_of(hook: Hook) -> Callable[[Exception], bool]:
    def is_expected(error: Exception) -> bool:
        return all(isinstance(e, HookError) and path_in(e.hook) == hook.path for e in parts_of(error))

    return is_expected


@contextmanager
def without_own_warnings() -> Iterator[None]:
    """Keep out of the log what only the scenarios cause: their vetoes, and models that not all of the hooks are for."""
    logger = logging.getLogger("serve_llm_hooks")
    logger.addFilter(_is_not_ours)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    if record.levelno != logging.WARNING:  # how dozens of fake starts went; problems are in the result
        return False
    if record.funcName == "_choose_path":  # of another path on one node
        return False
    left_out_by = str(getattr(record, LEFT_OUT_BY, ""))
    return not hasattr(record, UNMATCHED) and not left_out_by.endswith(_REASONS)


@dataclass(frozen=True)
class Scenario:
    """A start in which the checked hooks run.

    Attributes:
        name: what is special, for the report.
        nodes: how many there are.
        faults: what goes wrong.
        hooks: hooks of ours that run too.
        is_expected: returns whether the faults cause an error of the start.
        node_timeout_s: as the cluster has it.
        excuses: returns whether a hook with ``on_error="warn"`` may fail with this.
    """

    name: str
    nodes: int
    faults: tuple[Fault, ...] = ()
    hooks: tuple[Callable[..., object] | Hook, ...] = ()
    is_expected: Callable[[Exception], bool] = lambda error: False
    node_timeout_s: float = 3600.0
    excuses: Callable[[str], bool] = lambda detail: False

    def unexpected(self, error: Exception | None) -> list[Exception]:
        """Return what the faults do not cause of an error of the start: nodes may fail for different reasons."""
        if error is None or self.is_expected(error):
            return []
        return [each for each in parts_of(error) if not self.is_expected(each)]


SCENARIOS = (
    Scenario("on one node", 1),
    Scenario("on three nodes", 3),
    Scenario("with downloads vetoed", 2, hooks=(_veto_downloads,)),
    Scenario("with the defaults skipped", 2, hooks=(_veto_defaults,)),
    Scenario("with a failing download", 2, (failing_download("node-1"),), is_expected=_nodes_fail_with(DownloadError)),
    Scenario("with an engine that does not start", 1, (engine_fails(_ENGINE_ERROR),), is_expected=_is_engine_error),
    Scenario("after a restart of the replica", 2, (replica_dies(at="on_before_engine_init"),)),
    Scenario("with a group that cannot be scheduled", 2, (unschedulable(),), is_expected=_is_group_error),
)

FAULTS = (
    Scenario("with a lost node", 2, (lost_node("node-1"),), is_expected=_nodes_fail_with(NodeLostError)),
    Scenario(
        "with a node that is lost at work",
        2,
        (lost_node("node-1", at="on_before_node_download"),),
        is_expected=_nodes_fail_with(NodeLostError),
    ),
    Scenario(
        "with a download that fails quietly",
        2,
        (failing_download("node-1", quietly=True),),
        is_expected=_nodes_fail_with(DownloadError),
    ),
    Scenario(
        "with a download that takes too long",
        2,
        (slow_download("node-1", 1e6),),
        is_expected=_nodes_fail_with(NodeLostError),
    ),
    Scenario(
        "with another path on one node",
        2,
        (different_path("node-1", "/other/m"),),
        is_expected=_is_deliberate,
        excuses=_may_warn,
    ),
    Scenario(
        "with an engine that answers with errors",
        1,
        (engine_answers_error(),),
        is_expected=_is_deliberate,
        excuses=_may_warn,
    ),
    Scenario("after a death behind the engine", 1, (replica_dies(at="on_after_engine_init"),)),
)


def fault_scenarios(hooks: HookRegistry, seen: set[str]) -> Iterator[Scenario]:
    """Yield a scenario for each of the harness's faults, those of these hooks included: each of them fails once.

    Args:
        hooks: the hooks of a model.
        seen: the paths of hooks and the names of modules that have had their fault, of other models; added to.
    """
    yield from FAULTS
    for module in dict.fromkeys(hook.path.partition(":")[0] for hook in hooks if HOOK_POINTS[hook.point].on_node):
        if module not in seen and all(part.isidentifier() for part in module.split(".")):  # not a file's odd name
            seen.add(module)
            fault = missing_module("node-1", module)
            yield Scenario(f"without {module} on one node", 2, (fault,), is_expected=_nodes_fail_with(HookLoadError))
    for hook in hooks:
        if hook.path in seen or HOOK_POINTS[hook.point].during == "failure":  # nothing has failed that it cleans up
            continue
        seen.add(hook.path)
        fault = hook_fails(hook.path, _HOOK_ERROR)
        yield Scenario(f"when {hook.name} fails", 2, (fault,), is_expected=_is_failure_of(hook), excuses=_may_warn)
