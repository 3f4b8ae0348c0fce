"""``check_hooks``: run hooks through all that a cluster may do to them, in one line of a test suite."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import (
    HOOK_POINTS,
    EngineArgumentError,
    HookError,
    HookPickleError,
    HookRegistry,
)
from serve_llm_hooks._core.messages import one_line
from serve_llm_hooks._node.packing import pack_hooks, sibling_problems
from serve_llm_hooks._replica.shutdown import POINT

from ._checks.code import constants_of, problems_in_code, writers_of
from ._checks.hook_globals import fingerprints, shared_globals, shared_problem
from ._checks.result import HookCheck
from ._checks.scenarios import SCENARIOS, fault_scenarios, is_injected, without_own_warnings
from ._checks.targets import targets_of
from ._simulation.replica import run_replica
from ._simulation.settings import ClusterSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serve_llm_hooks._sources.entries import HookRef

    from ._checks.scenarios import Scenario
    from ._checks.targets import Target
    from .run import FakeRun


# What it means that a hook fails where that is only logged.
_TIME_IS_OVER = f"of the hooks at {POINT} were over"
_ONLY_LOGGED = {"failure": "cleans nothing up", "shutdown": "does not end what it should"}


def check_hooks(
    *refs: HookRef | Path | Any,
    model_id: str | Sequence[str] | None = None,
    check: bool = True,
    real_sleep_limit_s: float = 0.25,
) -> HookCheck:
    """Run hooks through standard scenarios and report what would fail in production.

    It checks how they load (by path, signatures, parameters, order) and whether they can be sent to a node. It runs
    them on one node, on three, with downloads vetoed, with the defaults skipped, with a failing download, with an
    engine that does not start, with a group that cannot be scheduled, after a restart, and with each other fault of
    the harness, for each hook its own failure among them; and it stops the replicas that have started. It reports
    hooks that block, vetoes that are thrown away, names that nobody defines, and module globals and environment
    variables that one process writes and another one reads, since each process has its own.

    Args:
        refs: the hooks, as in ``hooks=[...]``; or configs, and paths of YAML files as ``serve run`` takes them, each
            of which is checked for its model with what it names.
        model_id: the models to check hooks for. Default: those that they name (the ``*`` of a glob becomes ``x``).
        check: raise an error if there are problems; otherwise only return them.
        real_sleep_limit_s: seconds of real time after which a hook that blocks is a problem.

    Raises:
        AssertionError: there are problems; the message lists them.
        HarnessError: a YAML file that cannot be read, or ``model_id=`` for a config, which has one.

    Example:
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_download")
        ... def choose_files(ctx):
        ...     ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> print(check_hooks(hooks))
        no problem found in 16 runs
    """
    __tracebackhide__ = True
    found = HookCheck()
    models = [model_id] if isinstance(model_id, str) else None if model_id is None else list(model_id)
    targets, named = targets_of(refs, models, found.add)
    if not found.problems or len(named):
        _add_unchecked(named, targets, models, found)
    seen = set[str]()
    with without_own_warnings():
        for target in targets:
            _check_target(target, found, seen, real_sleep_limit_s)
    if check and found.problems:
        raise AssertionError(str(found))
    return found


def _check_target(target: Target, found: HookCheck, seen: set[str], limit_s: float) -> None:
    unpicklable = _add_unpicklable(target.hooks, found)
    for hook in target.own_hooks:
        for problem in problems_in_code(hook):
            found.add(problem)
    follow_ups: dict[str, tuple[str, str, set[str]]] = {}
    for scenario in SCENARIOS:
        _run_all(target, scenario, unpicklable, found, follow_ups, limit_s)
    if not any(run.notes for run in found.runs.values()):  # hooks that block would block in each
        for scenario in fault_scenarios(target.own_hooks, seen):
            if not unpicklable:
                _run(target, scenario, frozenset(), found, limit_s)
    for text, (scenario_name, left_out, nodes) in follow_ups.items():
        if not found.has(text):
            found.add(f"{text} (found with {left_out} left out, which may be why)", scenario_name, nodes)


def _add_unchecked(
    hooks: HookRegistry, targets: Sequence[Target], chosen: Sequence[str] | None, found: HookCheck
) -> None:
    """Add the hooks and the models for which no scenario would run anything, so that they do not pass unchecked."""
    configs = [target for target in targets if target.is_config]
    for target in configs:
        if not len(target.own_hooks):
            found.add(f"the config of model {target.model_id!r} has no hooks for it, so nothing is checked")
    if not len(hooks):
        if not configs:
            found.add("there are no hooks, so nothing is checked: name them, as in check_hooks('my_company.llm_hooks')")
        return
    if chosen:
        for model in chosen:
            if not len(hooks.for_model(model)):
                names = ", ".join(dict.fromkeys(name for hook in hooks for name in hook.options.model_ids))
                found.add(f"no hook runs for model_id={model!r}, so nothing is checked for it: they are for {names}")
        return
    for hook in hooks:
        if not any(hook.options.matches(target.model_id) for target in targets):
            found.add(
                f"hook {hook.ref} at {hook.point} is not checked: no model is known that its "
                f"model_id={list(hook.options.model_ids)} matches. Name one, in check_hooks(..., model_id=...)"
            )


def _add_unpicklable(hooks: HookRegistry, found: HookCheck) -> frozenset[str]:
    """Add the hooks that cannot be sent to where they run. Return those without which the scenarios are run."""
    unpicklable = set[str]()
    for hook in hooks:
        if hook.path.startswith("__main__:"):
            found.add(f"hook {hook.ref} is in __main__: hooks=[...] cannot name it. Move it to a module.")
        try:
            for packed in pack_hooks([hook]):
                pickle.loads(packed.data)
                for problem in sibling_problems(hook, packed.data):
                    found.add(problem)
        except HookPickleError as error:
            if HOOK_POINTS[hook.point].where != "replica":
                found.add(str(error))
                unpicklable.add(hook.ref)
        except Exception as error:
            found.add(f"hook {hook.ref} at {hook.point} cannot be unpacked: {one_line(error)}")
            unpicklable.add(hook.ref)
    return frozenset(unpicklable)


def _run_all(
    target: Target,
    scenario: Scenario,
    left_out: frozenset[str],
    found: HookCheck,
    follow_ups: dict[str, tuple[str, str, set[str]]],
    limit_s: float,
) -> None:
    """Run a scenario; again without the hooks that have failed, until all that fail are found."""
    failed = _run(target, scenario, left_out, found, limit_s)
    known = {text for hook in target.own_hooks if hook.ref in failed for text in constants_of(hook)}
    while failed and not failed <= left_out:
        left_out |= failed
        later = HookCheck()
        failed = _run(target, scenario, left_out, later, limit_s)
        for text in later.texts:
            if not any(repr(constant) in text for constant in known):  # such as a key that it would have written
                first = follow_ups.setdefault(text, (scenario.name, ", ".join(sorted(left_out)), set()))
                first[2].update(later.nodes_of(text))
        known |= {text for hook in target.own_hooks if hook.ref in failed for text in constants_of(hook)}


def _run(target: Target, scenario: Scenario, left_out: frozenset[str], found: HookCheck, limit_s: float) -> set[str]:
    """Run a scenario once, and add its problems. Return the hooks that failed and should not have."""
    settings = ClusterSettings(
        scenario.nodes,
        faults=scenario.faults,
        real_sleep_limit_s=limit_s,
        node_timeout_s=scenario.node_timeout_s,
    )
    settings.left_out = left_out
    shared = shared_globals(target.own_hooks)
    before = fingerprints(shared)
    run = run_replica(settings, target.make(scenario.hooks))
    if isinstance(run.error, HookPickleError) and run.ctx is None:  # the config could not be sent
        found.add(str(run.error))
        return set()
    if run._stop is not None:
        run.notes += run._stop(None)[1]
    found.runs[f"{scenario.name}, model {target.model_id}"] = run
    failed = _add_failures(target, scenario, run, found)
    after = fingerprints(shared)
    for name, users in shared.items():
        if before[name] != after[name]:
            found.add(shared_problem(name, users))
    return failed


def _add_failures(target: Target, scenario: Scenario, run: FakeRun, found: HookCheck) -> set[str]:
    """Add the failures that the scenario's own faults do not cause. Return the hooks that failed."""
    failed = set[str]()
    for error in scenario.unexpected(run.error):
        writers = writers_of(str(error), target.own_hooks) if isinstance(error, EngineArgumentError) else []
        if writers:
            found.add(f"{error} (hooks that name it: {', '.join(writers)})", scenario.name)
            failed.update(writers)
        else:
            found.add_failure(error, scenario.name)
        if isinstance(error, HookError):
            failed.add(error.hook)
    for event in run.trace:
        consequence = _ONLY_LOGGED.get(HOOK_POINTS[event.point].during)
        if is_injected(event.detail):
            continue
        if consequence and event.outcome not in ("ok", "cancelled", "disabled"):
            more = ": deployment_config={'graceful_shutdown_timeout_s': ...} gives them more"
            detail = event.detail + (more if event.detail.endswith(_TIME_IS_OVER) else "")
            found.add(f"hook {event.hook} fails at {event.point}, so it {consequence}: {detail}", scenario.name)
        elif event.outcome == "warned" and not scenario.excuses(event.detail):
            found.add(
                f"hook {event.hook} fails at {event.point} (on_error='warn' hides it): {event.detail}", scenario.name
            )
    for note in run.notes:
        found.add(note)
    return failed
