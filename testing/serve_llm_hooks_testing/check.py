"""``check_hooks``: run hooks through all that a cluster may do to them, in one line of a test suite."""

from __future__ import annotations

import pickle
import re
import string
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from serve_llm_hooks import (
    HOOK_POINTS,
    HookPickleError,
    HookRegistry,
    NodeInitializationError,
    ServeLLMHooksError,
    load_hooks,
)
from serve_llm_hooks._core.messages import counted, one_line
from serve_llm_hooks._core.points import HOOK_NAMES
from serve_llm_hooks._node.packing import pack_hooks, sibling_problems

from ._checks.hook_globals import fingerprints, globals_of
from ._checks.scenarios import SCENARIOS, without_own_warnings
from ._simulation.replica import run_replica
from ._simulation.settings import ClusterSettings
from .config import FakeLLMConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import Hook
    from serve_llm_hooks._sources.entries import HookRef

    from ._checks.hook_globals import GlobalName
    from ._checks.scenarios import Scenario
    from .run import FakeRun


class HookCheck:
    """The result of :func:`check_hooks`.

    Attributes:
        runs: the runs that were made, by scenario and model.
    """

    def __init__(self) -> None:
        """Make a result without any problem."""
        self.runs: dict[str, FakeRun] = {}
        self._problems: dict[str, list[str]] = {}

    @property
    def problems(self) -> list[str]:
        """The problems that would fail in production, one message each."""
        return [f"{', '.join(when)}: {text}" if when else text for text, when in self._problems.items()]

    def add(self, problem: str, scenario: str | None = None) -> None:
        """Add a problem; one that shows in several scenarios is one problem."""
        when = self._problems.setdefault(problem, [])
        if scenario is not None and scenario not in when:
            when.append(scenario)

    def __str__(self) -> str:
        """Return the problems as a numbered list."""
        problems = self.problems
        if not problems:
            return f"no problem found in {counted(len(self.runs), 'run')}"
        return "\n".join(
            [f"{counted(len(problems), 'problem')} found:", *(f"{n}. {text}" for n, text in enumerate(problems, 1))]
        )


def check_hooks(
    *refs: HookRef, model_id: str | Sequence[str] | None = None, check: bool = True, real_sleep_limit_s: float = 0.25
) -> HookCheck:
    """Run hooks through standard scenarios and report what would fail in production.

    It checks how they load (by path, signatures, parameters, order) and whether they can be sent to a node. It runs
    them on one node, on three, with downloads vetoed, with the defaults skipped, with a failing download, with an
    engine that does not start, and after a restart. It reports hooks that block, and module globals and environment
    variables that one process writes and another one reads, since each process has its own.

    Args:
        refs: the hooks, as in ``hooks=[...]``.
        model_id: the models to check them for. Default: those that the hooks name (the ``*`` of a glob becomes ``x``).
        check: raise an error if there are problems; otherwise only return them.
        real_sleep_limit_s: seconds of real time after which a hook that blocks is a problem.

    Raises:
        AssertionError: there are problems; the message lists them.

    Example:
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_download")
        ... def choose_files(ctx):
        ...     ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> print(check_hooks(hooks))
        no problem found in 7 runs
    """
    __tracebackhide__ = True
    found = HookCheck()
    try:
        hooks = load_hooks(*refs)
    except ServeLLMHooksError as error:
        found.add(str(error))
    else:
        models = [model_id] if isinstance(model_id, str) else list(model_id or _models(hooks))
        _add_unchecked(hooks, models, model_id is not None, found)
        if _add_unpicklable(hooks, found):
            with without_own_warnings():
                for model in models:
                    _run_scenarios(model, refs, hooks, found, real_sleep_limit_s)
    if check and found.problems:
        raise AssertionError(str(found))
    return found


def _models(hooks: HookRegistry) -> list[str]:
    """Return a model for each group of hooks that run together."""
    named = [model for hook in hooks for model in hook.options.model_ids]
    return list(dict.fromkeys(re.sub(r"\[(!?)(\]?[^]]*)\]|[*?]", _match, model) for model in named)) or ["test-model"]


def _match(wildcard: re.Match[str]) -> str:
    """Return a character that a glob's wildcard matches."""
    unlike, characters = wildcard.groups()
    if characters and not unlike:
        return str(characters[0])
    return next((char for char in f"x{string.ascii_letters}{string.digits}" if fnmatchcase(char, wildcard[0])), "x")


def _add_unchecked(hooks: HookRegistry, models: Sequence[str], chosen: bool, found: HookCheck) -> None:
    """Add the hooks and the models for which no scenario would run anything, so that they do not pass unchecked."""
    if not len(hooks):
        found.add("there are no hooks, so nothing is checked: name them, as in check_hooks('my_company.llm_hooks')")
        return
    if chosen:
        for model in models:
            if not len(hooks.for_model(model)):
                names = ", ".join(dict.fromkeys(name for hook in hooks for name in hook.options.model_ids))
                found.add(f"no hook runs for model_id={model!r}, so nothing is checked for it: they are for {names}")
        return
    for hook in hooks:
        if not any(hook.options.matches(model) for model in models):
            found.add(
                f"hook {hook.ref} at {hook.point} is not checked: no model is known that its "
                f"model_id={list(hook.options.model_ids)} matches. Name one, in check_hooks(..., model_id=...)"
            )


def _add_unpicklable(hooks: HookRegistry, found: HookCheck) -> bool:
    """Add the hooks that cannot be sent to where they run. Return whether scenarios can be run."""
    can_run = True
    for hook in hooks:
        if hook.path.startswith("__main__:"):
            found.add(f"hook {hook.ref} is in __main__: hooks=[...] cannot name it. Move it to a module.")
        try:
            for packed in pack_hooks([hook]):
                pickle.loads(packed.data)
                for problem in sibling_problems(hook, packed.data):
                    found.add(problem)
        except HookPickleError as error:
            if HOOK_POINTS[hook.point].on_node:
                found.add(str(error))
                can_run = False
        except Exception as error:
            found.add(f"hook {hook.ref} at {hook.point} cannot be unpacked: {one_line(error)}")
            can_run = False
    return can_run


def _run_scenarios(
    model_id: str, refs: Sequence[HookRef], hooks: HookRegistry, found: HookCheck, limit_s: float
) -> None:
    shared = _shared_globals(hooks.for_model(model_id))
    for scenario in SCENARIOS:
        before = fingerprints(shared)
        settings = ClusterSettings(scenario.nodes, faults=scenario.faults, real_sleep_limit_s=limit_s)
        try:
            # The references and not the hooks: what is named need not be sent to the replica.
            run = run_replica(settings, FakeLLMConfig(model_id, hooks=[*refs, *scenario.hooks]))
        except HookPickleError as error:
            found.add(str(error))
            continue
        found.runs[f"{scenario.name}, model {model_id}"] = run
        _add_failures(scenario, run, found)
        after = fingerprints(shared)
        for name, users in shared.items():
            if before[name] != after[name]:
                found.add(_shared_problem(name, users))


def _add_failures(scenario: Scenario, run: FakeRun, found: HookCheck) -> None:
    """Add the failures that the scenario's own faults do not cause."""
    if run.error is not None and not scenario.is_expected(run.error):
        errors = run.error.exceptions if isinstance(run.error, NodeInitializationError) else (run.error,)
        for error in errors:
            found.add(str(error), scenario.name)
    for event in run.trace:
        if event.point == "on_failure" and event.ran and event.outcome not in ("ok", "cancelled"):
            found.add(f"hook {event.hook} fails at on_failure, so it cleans nothing up: {event.detail}", scenario.name)
        elif event.outcome == "warned":
            found.add(
                f"hook {event.hook} fails at {event.point} (on_error='warn' hides it): {event.detail}", scenario.name
            )
    for note in run.notes:
        found.add(note)


def _shared_globals(hooks: HookRegistry) -> dict[GlobalName, list[Hook]]:
    """Return the globals that hooks use both in the replica and on nodes, with these hooks."""
    users: dict[GlobalName, list[Hook]] = {}
    for hook in hooks:
        for name in globals_of(hook):
            users.setdefault(name, []).append(hook)
    return {name: hooks for name, hooks in users.items() if len({_is_on_node(hook) for hook in hooks}) == 2}


def _shared_problem(name: GlobalName, users: Sequence[Hook]) -> str:
    def refs(on_node: bool) -> str:
        chosen = sorted({(HOOK_NAMES.index(hook.point), hook.ref) for hook in users if _is_on_node(hook) is on_node})
        return ", ".join(ref for _, ref in chosen)

    return (
        f"{'.'.join(name)} changes during a start, and is used in the replica ({refs(False)}) and on nodes "
        f"({refs(True)}): these are different processes, and each has its own. Pass it on in ctx.custom_data; what a "
        "node adds there, the replica finds in ctx.nodes[node_id].custom_data"
    )


def _is_on_node(hook: Hook) -> bool:
    return HOOK_POINTS[hook.point].on_node
