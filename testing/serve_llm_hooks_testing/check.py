"""``check_hooks``: one line in a test suite that runs hooks through all that a cluster does to them."""

from __future__ import annotations

import pickle
import re
import string
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import (
    HOOK_POINTS,
    DownloadError,
    HookPickleError,
    HookRegistry,
    NodeInitializationError,
    ServeLLMHooksError,
    load_hooks,
    skip,
)
from serve_llm_hooks._core.points import HOOK_NAMES
from serve_llm_hooks._node.packing import pack_hooks, sibling_problems

from .cluster import FakeCluster
from .config import FakeLLMConfig
from .faults import engine_fails, failing_download, replica_dies
from .start import run_alone
from .state import fingerprints, globals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve_llm_hooks import CallbackCtx, Hook, Skip
    from serve_llm_hooks._sources.entries import HookRef

    from .run import FakeRun
    from .state import GlobalName

__all__ = ["HookCheck", "check_hooks"]


class HookCheck:
    """What :func:`check_hooks` found.

    Attributes:
        runs: the runs that were made, by scenario and model.
    """

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self._problems: dict[str, list[str]] = {}

    @property
    def problems(self) -> list[str]:
        """What would break in production, one text each."""
        return [f"{', '.join(when)}: {text}" if when else text for text, when in self._problems.items()]

    def add(self, problem: str, scenario: str | None = None) -> None:
        """Note a problem; once, however many scenarios it shows in."""
        when = self._problems.setdefault(problem, [])
        if scenario is not None and scenario not in when:
            when.append(scenario)

    def __str__(self) -> str:
        problems = self.problems
        if not problems:
            return f"no problem found in {len(self.runs)} runs"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return "\n".join([f"{count} found:", *(f"{n}. {text}" for n, text in enumerate(problems, 1))])


def check_hooks(
    *refs: HookRef, model_id: str | Sequence[str] | None = None, check: bool = True, real_sleep_limit_s: float = 0.25
) -> HookCheck:
    """Run hooks through the standard scenarios, and report all that would break in production.

    It looks at how they load (by path, signatures, parameters, order), whether they can be sent to a node, and how
    they fare on one node, on three, with downloads vetoed, with the defaults skipped, with a failing download, with
    an engine that does not start, and after a restart; whether they block; and whether what one process writes into
    a module's globals or the environment is read in another, which does not see it.

    Args:
        refs: as in ``hooks=[...]``.
        model_id: for which models; left out, those that the hooks name (a glob's ``*`` becomes ``x``).
        check: raise an ``AssertionError`` that lists the problems; ``False`` only returns them.
        real_sleep_limit_s: a hook that blocks for longer, in real seconds, is a problem.

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
        _add_untried(hooks, models, model_id is not None, found)
        if _travel(hooks, found):
            for model in models:
                _run_scenarios(model, refs, hooks, found, real_sleep_limit_s)
    if check and found.problems:
        raise AssertionError(str(found))
    return found


def _models(hooks: HookRegistry) -> list[str]:
    """A model for every group of hooks that run together."""
    named = [model for hook in hooks for model in hook.options.model_ids]
    return list(dict.fromkeys(re.sub(r"\[(!?)(\]?[^]]*)\]|[*?]", _a_match, model) for model in named)) or ["test-model"]


def _a_match(wildcard: re.Match[str]) -> str:
    """A character for a glob's wildcard: of ``[...]`` the first, and for ``[!...]`` one that is not in it."""
    unlike, characters = wildcard.groups()
    if characters and not unlike:
        return str(characters[0])
    return next((char for char in f"x{string.ascii_letters}{string.digits}" if fnmatchcase(char, wildcard[0])), "x")


def _add_untried(hooks: HookRegistry, models: Sequence[str], chosen: bool, found: HookCheck) -> None:
    """What would run in no scenario is not checked, and nothing that is not checked may look as if it were well."""
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


def _travel(hooks: HookRegistry, found: HookCheck) -> bool:
    """Whether all hooks get to where they run."""
    arrive = True
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
                arrive = False
        except Exception as error:
            found.add(f"hook {hook.ref} at {hook.point} cannot be unpacked: {type(error).__name__}: {error}")
            arrive = False
    return arrive


_vetoes = HookRegistry()


@_vetoes.hook("on_before_download", order=-(2**31))
def _veto_downloads(ctx: CallbackCtx) -> Skip:
    return skip("check_hooks vetoes the downloads")


@_vetoes.hook("on_before_init", order=-(2**31))
def _veto_defaults(ctx: CallbackCtx) -> Skip:
    return skip("check_hooks skips the defaults")


def _only_downloads(error: Exception) -> bool:
    return isinstance(error, NodeInitializationError) and all(isinstance(e, DownloadError) for e in error.exceptions)


def _only_engine(error: Exception) -> bool:
    return str(error) == "the engine does not start (check_hooks)"


def _nothing(error: Exception) -> bool:
    return False


def _run_scenarios(
    model_id: str, refs: Sequence[HookRef], hooks: HookRegistry, found: HookCheck, limit_s: float
) -> None:
    mine = hooks.for_model(model_id)
    sides = {name: _users(mine, name) for hook in mine for name in globals_of(hook)}
    shared = {name: users for name, users in sides.items() if len({on_node for _, on_node in users}) == 2}

    def run(scenario: str, cluster: FakeCluster, expected: Callable[[Exception], bool], *more: Any) -> None:
        before = fingerprints(shared)
        # As they are named, for what is named need not travel to the replica.
        try:
            result = run_alone(cluster, FakeLLMConfig(model_id, hooks=[*refs, *more]))
        except HookPickleError as error:
            found.add(str(error))
            return
        found.runs[f"{scenario}, model {model_id}"] = result
        _judge(scenario, result, expected, found)
        after = fingerprints(shared)
        for name in shared:
            if before[name] != after[name]:
                found.add(_shared_problem(name, shared[name]))

    run("on one node", FakeCluster(1, real_sleep_limit_s=limit_s), _nothing)
    run("on three nodes", FakeCluster(3, real_sleep_limit_s=limit_s), _nothing)
    run("with downloads vetoed", FakeCluster(2, real_sleep_limit_s=limit_s), _nothing, _veto_downloads)
    run("with the defaults skipped", FakeCluster(2, real_sleep_limit_s=limit_s), _nothing, _veto_defaults)
    failing = FakeCluster(2, real_sleep_limit_s=limit_s, faults=[failing_download("node-1")])
    run("with a failing download", failing, _only_downloads)
    broken = FakeCluster(
        1, real_sleep_limit_s=limit_s, faults=[engine_fails("the engine does not start (check_hooks)")]
    )
    run("with an engine that does not start", broken, _only_engine)
    dying = FakeCluster(2, real_sleep_limit_s=limit_s, faults=[replica_dies(at="on_before_engine_init")])
    run("after a restart of the replica", dying, _nothing)


def _judge(scenario: str, run: FakeRun, expected: Callable[[Exception], bool], found: HookCheck) -> None:
    """Add what went wrong in a run that should not have."""
    if run.error is not None and not expected(run.error):
        errors = run.error.exceptions if isinstance(run.error, NodeInitializationError) else (run.error,)
        for error in errors:
            if not isinstance(error, DownloadError) or not expected(run.error):
                found.add(str(error), scenario)
    for event in run.trace:
        if event.point == "on_failure" and event.ran and event.outcome not in ("ok", "cancelled"):
            found.add(f"hook {event.hook} fails at on_failure, so it cleans nothing up: {event.detail}", scenario)
        elif event.outcome == "warned":
            found.add(f"hook {event.hook} fails at {event.point} (on_error='warn' hides it): {event.detail}", scenario)
    for note in run.notes:
        found.add(note)


def _users(hooks: HookRegistry, name: GlobalName) -> list[tuple[Hook, bool]]:
    return [(hook, HOOK_POINTS[hook.point].on_node) for hook in hooks if name in globals_of(hook)]


def _shared_problem(name: GlobalName, users: list[tuple[Hook, bool]]) -> str:
    def of(on_node: bool) -> str:
        chosen = sorted({(HOOK_NAMES.index(hook.point), hook.ref) for hook, there in users if there is on_node})
        return ", ".join(ref for _, ref in chosen)

    return (
        f"{'.'.join(name)} changes during a start, and is used in the replica ({of(False)}) and on nodes ({of(True)}): "
        "these are different processes, and each has its own. Pass it on in ctx.custom_data; what a node adds there, "
        "the replica finds in ctx.nodes[node_id].custom_data"
    )
