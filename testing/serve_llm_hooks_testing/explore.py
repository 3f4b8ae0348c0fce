"""``explore_hooks``: look for what the author of a test did not think of, in starts that are drawn from seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks._core.messages import describe

from ._checks.targets import targets_of
from ._explore.draw import Facts, draw
from ._explore.player import Player
from ._explore.result import Finding, HookExploration
from ._explore.schedule import Schedule
from ._explore.shrink import shrink
from ._explore.world import World, modules_of
from ._explore.written import as_test
from ._simulation.arguments import check_count, check_real_limit
from .errors import HarnessError
from .run import recent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from serve_llm_hooks._sources.entries import HookRef

    from ._checks.targets import Target
    from ._explore.judge import Problem


# How many smaller schedules are tried; each takes milliseconds, or tenths of seconds where there are processes.
_TRIES = 300
_TRIES_IN_PROCESSES = 60


def explore_hooks(
    *refs: HookRef | Path | Any,
    seeds: int | Iterable[int] = 200,
    nodes: int = 4,
    schedule: Schedule | None = None,
    model_id: str | Sequence[str] | None = None,
    reset: Callable[[], object] | None = None,
    check: bool = True,
    real_sleep_limit_s: float = 1.0,
) -> HookExploration:
    """Run hooks through starts that are drawn from seeds, and report what does not hold, with the smallest schedule.

    From each seed it draws how many nodes there are, when they begin and how long things take there, and what fails: a
    download, a node, the group, the engine, a hook; or the start is cancelled, or the replica's process killed, mostly
    where a hook waits. What must hold: the start ends; its error names the cause; ``on_failure`` runs when it should,
    and clean-up succeeds; nothing is left running; a cancelled hook ends; the next start, on the same machines and
    without a fault, succeeds.

    The same seed gives the same run. Before each, module globals, environment variables, the temporary folder
    (``tempfile``) and the state of ``random`` are as they were; what else hooks change is for ``reset``.

    Args:
        refs: the hooks, configs, and paths of YAML files, as for :func:`~serve_llm_hooks_testing.check_hooks`.
        seeds: how many, from 0 on; or which ones.
        nodes: how many nodes there are at most.
        schedule: play this one alone, as the test does that is printed for a problem.
        model_id: the models to explore hooks for. Default: those that they name.
        reset: is called before each seed, to put back what hooks change outside of their process, such as a bucket.
        check: raise an error if there are problems; otherwise only return them.
        real_sleep_limit_s: as for ``FakeCluster``: what is really at work is waited for ten times as long.

    Raises:
        AssertionError: there are problems; the message has, for each, the seed and a test to paste.
        HarnessError: hooks that cannot be loaded, or none; an argument of the wrong kind.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_download")
        ... def choose_files(ctx):
        ...     ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> explore_hooks(hooks, seeds=5).problems
        []
    """
    __tracebackhide__ = True
    chosen = () if schedule is not None else _seeds(seeds)
    if schedule is not None and not isinstance(schedule, Schedule):
        raise HarnessError(f"schedule= is a Schedule(...), not {describe(schedule)}")
    check_count("nodes", nodes)
    check_real_limit("real_sleep_limit_s", real_sleep_limit_s)
    if reset is not None and not callable(reset):
        raise HarnessError(f"reset= is a function without parameters, not {describe(reset)}")
    found = HookExploration(seeds=len(chosen))
    with _quietly():
        for target in _targets(refs, model_id):
            world = World(target.own_hooks, reset)
            player = Player(target, world, real_sleep_limit_s)
            exploration = _Exploration(player, target, refs, found, has_reset=reset is not None)
            if schedule is not None:
                exploration.play(schedule)
            else:
                exploration.explore(chosen, nodes)
            found.starts += player.starts
    if check and found.findings:
        raise AssertionError(str(found))
    return found


class _Exploration:
    """The exploration of one model's hooks."""

    def __init__(
        self, player: Player, target: Target, refs: Sequence[Any], found: HookExploration, *, has_reset: bool
    ) -> None:
        self._player = player
        self._target = target
        self._refs = refs
        self._found = found
        self._has_reset = has_reset
        self._by_key: dict[tuple[str, str], Finding] = {}

    def play(self, schedule: Schedule) -> None:
        """Play one schedule."""
        played = self._player.play(schedule)
        recent.extend(played.runs)
        for problem in {each.key: each for each in reversed(played.problems)}.values():
            if self._player.is_of_processes(schedule, problem):
                self._add(problem, schedule, [])

    def explore(self, seeds: Sequence[int], nodes: int) -> None:
        """Play the schedule of each seed."""
        on_nodes = [hook for hook in self._target.own_hooks if HOOK_POINTS[hook.point].on_node]
        facts = Facts(nodes, tuple(self._target.own_hooks), modules_of(on_nodes))
        for seed in seeds:
            self._explore(seed, facts)

    def _explore(self, seed: int, facts: Facts) -> None:
        player = self._player
        schedule = draw(seed, facts, player.start)
        for problem in player.play(schedule).problems:
            known = self._by_key.get(problem.key)
            if known is not None:
                if known.seeds[-1] != seed:
                    known.seeds.append(seed)
                continue
            smallest = self._smallest(schedule, problem) if self._is_real(schedule, problem) else None
            if smallest is None or not self._is_real(smallest, problem):
                player.in_processes = True  # from here on: in one process, hooks share what they would not
                self._explore(seed, facts)
                return
            shown = player.play(smallest)
            recent.extend(shown.runs)
            same = next(each for each in shown.problems if each.key == problem.key)
            self._by_key[problem.key] = self._add(same, smallest, [seed])

    def _is_real(self, schedule: Schedule, problem: Problem) -> bool:
        return self._player.in_processes or self._player.is_of_processes(schedule, problem)

    def _smallest(self, schedule: Schedule, problem: Problem) -> Schedule:
        player = self._player

        def shows(candidate: Schedule) -> bool:
            return any(each.key == problem.key for each in player.play(candidate).problems)

        return shrink(schedule, shows, _TRIES_IN_PROCESSES if player.in_processes else _TRIES)

    def _add(self, problem: Problem, schedule: Schedule, seeds: list[int]) -> Finding:
        model_id = self._target.model_id
        name = f"seed_{seeds[0]}" if seeds else "schedule"
        named = None if self._target.is_config else model_id
        test = as_test(name, self._refs, named, schedule, has_reset=self._has_reset)
        finding = Finding(problem.text, model_id, schedule, seeds, test)
        self._found.findings.append(finding)
        return finding


def _seeds(value: object) -> Sequence[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return range(check_count("seeds", value))
    chosen = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else []
    if not chosen or not all(type(seed) is int for seed in chosen):
        raise HarnessError(f"seeds= is how many, or which: 200, or [17], not {describe(value)}")
    return chosen


def _targets(refs: Sequence[Any], model_id: str | Sequence[str] | None) -> list[Target]:
    """Return what is explored.

    Raises:
        HarnessError: there is nothing, or it cannot be loaded.
    """
    models = [model_id] if isinstance(model_id, str) else None if model_id is None else list(model_id)
    wrong: list[str] = []
    targets, _ = targets_of(refs, models, wrong.append)
    if wrong:
        raise HarnessError("\n".join(wrong))
    if not targets:
        raise HarnessError("there are no hooks to explore: name them, as in explore_hooks('my_company.llm_hooks')")
    for target in targets:
        if not len(target.own_hooks):
            raise HarnessError(f"no hook runs for model {target.model_id!r}, so there is nothing to explore")
    return targets


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's own lines about hundreds of starts out of the log; hooks may log as ever."""
    logger = logging.getLogger("serve_llm_hooks")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
