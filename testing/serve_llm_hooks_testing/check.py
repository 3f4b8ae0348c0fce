"""``check_hooks``: run hooks through all that a cluster may do to them, in one line of a test suite."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS, HookPickleError, HookRegistry
from serve_llm_hooks._core.messages import one_line
from serve_llm_hooks._node.packing import pack_hooks, sibling_problems

from ._checks.code import constants_of, problems_in_code
from ._checks.comparison import compare_processes
from ._checks.result import HookCheck
from ._checks.runs import TargetRuns
from ._checks.scenarios import SCENARIOS, fault_scenarios, without_own_warnings
from ._checks.targets import targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serve_llm_hooks._sources.entries import HookRef

    from ._checks.scenarios import Scenario
    from ._checks.targets import Target


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
    hooks that block, vetoes that are thrown away, and names that nobody defines. It also runs them in one process and
    in processes of their own, and reports what differs: module globals, caches, variables, working directories, files
    that one process writes and another one reads. What may be meant so is in ``notes``. (On Linux; what each hook does
    is watched, and temporary files that they leave are removed.)

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
    compared = HookCheck()
    runs = TargetRuns(target, limit_s)
    if not unpicklable and len(target.own_hooks):  # first: scenarios may leave files, which hooks then find
        runs.apart_only = not compare_processes(target, compared, limit_s)
    follow_ups: dict[str, tuple[str, str, set[str]]] = {}
    for scenario in SCENARIOS:
        _run_all(runs, scenario, unpicklable, found, follow_ups)
    if not runs.has_blocked:  # what blocks would block in each
        for scenario in fault_scenarios(target.own_hooks, seen):
            if not unpicklable:
                runs.run(scenario, frozenset(), found)
    found.take(compared)
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
    runs: TargetRuns,
    scenario: Scenario,
    left_out: frozenset[str],
    found: HookCheck,
    follow_ups: dict[str, tuple[str, str, set[str]]],
) -> None:
    """Run a scenario; again without the hooks that have failed, until all that fail are found."""
    target = runs.target
    failed = runs.run(scenario, left_out, found)
    known = {text for hook in target.own_hooks if hook.ref in failed for text in constants_of(hook)}
    while failed and not failed <= left_out:
        left_out |= failed
        later = HookCheck()
        failed = runs.run(scenario, left_out, later)
        for text in later.texts:
            if not any(repr(constant) in text for constant in known):  # such as a key that it would have written
                first = follow_ups.setdefault(text, (scenario.name, ", ".join(sorted(left_out)), set()))
                first[2].update(later.nodes_of(text))
        known |= {text for hook in target.own_hooks if hook.ref in failed for text in constants_of(hook)}
