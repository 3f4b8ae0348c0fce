"""Find state that does not cross processes, by running hooks in one process and in processes apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks._core.messages import one_line

from .._simulation.settings import ClusterSettings
from ..errors import HarnessError, ReplicaProcessError, is_mistake
from ..faults import engine_fails, failing_download, replica_dies
from ..placement_group import FakePlacementGroup
from .apart import Watched, run_watched
from .code import constants_of
from .differences import Differences, differences, names_in
from .files import changed_in, files_of_others
from .scenarios import Scenario
from .story import begun_in, what_varies

if TYPE_CHECKING:
    from .result import HookCheck
    from .story import Key
    from .targets import Target

_APART = "when the replica and each node are processes of their own, as on Ray"
_OTHER = f"not the same {_APART}, as when all is one process"
_PASS_ON = (
    "What one sets in a module, a cache, a default argument, its environment, sys.path or working directory, or in a "
    "file of its machine, the others do not find. Pass it on in ctx.custom_data; what a node adds there, the replica "
    "finds in ctx.nodes[node_id].custom_data"
)
_MAY_BE = "That may be meant so, as with a counter or the age of each process"
_LIMIT_S = 1000.0  # virtual seconds that a start in one process may take; such a wait may never end there
_ENOUGH_S = 30.0  # of real time, after which no further scenario is compared: each process imports what hooks import
_MORE_S = 300.0  # how much longer it may take in processes of their own


@dataclass(frozen=True)
class Compared:
    """A scenario that is run in both ways.

    Attributes:
        scenario: the scenario.
        group: the nodes of the placement group; none: all.
        of_two: whether there is one node beside the replica. With more of them, or after a restart, a counter is
            like data that does not cross.
        if_hooks: the hooks without all of which it shows nothing that others do not: on a node, in the replica, or
            where a start fails.
    """

    scenario: Scenario
    group: tuple[str, ...] = ()
    of_two: bool = True
    if_hooks: frozenset[str] = frozenset()


_COMPARED = (
    Compared(Scenario("on one node", 1), if_hooks=frozenset({"node"})),
    Compared(Scenario("on a node that is not the replica's", 2), ("node-1",), if_hooks=frozenset({"node", "replica"})),
    Compared(
        Scenario("with a failing download", 2, (failing_download("node-1"),)),
        ("node-1",),
        if_hooks=frozenset({"node", "failure"}),
    ),
    Compared(
        Scenario("with an engine that does not start", 1, (engine_fails(),)), if_hooks=frozenset({"node", "failure"})
    ),
    Compared(Scenario("on three nodes", 3), of_two=False, if_hooks=frozenset({"node"})),
    Compared(Scenario("after a restart of the replica", 2, (replica_dies(at="on_before_engine_init"),)), of_two=False),
)


@dataclass
class _Told:
    """Findings of earlier scenarios.

    Attributes:
        faults, doubtful: what differs, in words, with the scenarios in which it does.
        failures: what fails.
        varying: what differs between runs of one kind.
        changed: what processes have changed of their own.
    """

    faults: dict[str, dict[str, None]] = field(default_factory=dict)
    doubtful: dict[str, dict[str, None]] = field(default_factory=dict)
    failures: set[tuple[str, str, str]] = field(default_factory=set)
    varying: set[Key] = field(default_factory=set)
    changed: dict[str, None] = field(default_factory=dict)

    @property
    def also(self) -> str:
        """A sentence that names what processes have changed; or nothing."""
        return f" Processes have changed {', '.join(self.changed)}." if self.changed else ""

    def has(self, found: Differences) -> bool:
        """Return whether all of it was found before."""
        words = {*found.faults, *found.doubtful}
        return self.failures.issuperset(found.failures) and words <= {*self.faults, *self.doubtful}


def compare_processes(target: Target, found: HookCheck, limit_s: float) -> bool:
    """Add what differs of a target's hooks between one process and processes apart.

    Returns:
        Whether they do in one process what they do apart, as far as they fail or do not.
    """
    try:
        return _compare(target, found, limit_s)
    except HarnessError as error:
        found.add_note(f"replica and nodes are not compared in processes of their own: {one_line(error)}")
        return True


def _compare(target: Target, found: HookCheck, limit_s: float) -> bool:
    kinds = {str(HOOK_POINTS[hook.point].during) for hook in target.own_hooks}
    kinds |= {"node" if HOOK_POINTS[hook.point].on_node else "replica" for hook in target.own_hooks}
    told = _Told()
    is_alike = True
    begun_s = perf_counter()
    for compared in _COMPARED:
        if not compared.if_hooks <= kinds:
            continue
        if perf_counter() - begun_s > _ENOUGH_S:
            found.add_note("processes are not compared, since that takes long", compared.scenario.name)
            continue
        settings = _settings(compared, limit_s)
        one = run_watched(settings, target.make(()), in_one=True)
        if isinstance(one.run.error, HarnessError) or (one.run.error is not None and not compared.scenario.faults):
            # It fails where all share everything. If only there, that is why: there is nothing to compare.
            if isinstance(one.run.error, ReplicaProcessError):  # as the test's own would, with the test
                return False
            if is_alike and run_watched(settings, target.make(())).run.error is None:
                is_alike = False
                found.add_dismissed(one_line(one.run.error), compared.scenario.name)
            continue
        settings.node_timeout_s = one.run.elapsed_s + _MORE_S
        settings.time_limit_s = 2 * settings.node_timeout_s
        apart = run_watched(settings, target.make(()))
        if apart.run.error is not None and is_mistake(apart.run.error):
            raise apart.run.error
        name = compared.scenario.name
        if found_here := _differences(target, settings, told, one, apart):
            told.changed |= dict.fromkeys(changed_in(apart.processes))
            _tell(found_here, compared, told, found)
        for fields in _config_changes(apart):
            found.add(
                f"a hook changes ctx.llm_config.{fields} on a node, where it is a copy: neither the engine nor the "
                "replica sees that. Set it in ctx.extra_init_kwargs in the replica; what only the node knows, it "
                "passes on in ctx.custom_data",
                name,
            )
        if not found_here:
            _add_files(target, settings, apart, name, found)
    _add_told(target, told, found)
    return is_alike


def _settings(compared: Compared, limit_s: float) -> ClusterSettings:
    scenario = compared.scenario
    settings = ClusterSettings(
        scenario.nodes, faults=scenario.faults, real_sleep_limit_s=limit_s, time_limit_s=_LIMIT_S
    )
    if compared.group:
        settings.default_group = FakePlacementGroup(compared.group)
    return settings


def _differences(target: Target, settings: ClusterSettings, told: _Told, one: Watched, apart: Watched) -> Differences:
    """Return what differs between the two, and does not between two runs of one kind, which are made of what is new.

    The second run in processes comes before the second in one: what only changes with time changes between these.
    """
    begun = begun_in(apart.run)
    found = differences(one.story, apart.story, told.varying, begun=begun)
    if told.has(found):
        return found
    again = run_watched(settings, target.make(()))
    told.varying |= what_varies(apart.story, again.story)
    told.varying |= what_varies(one.story, run_watched(settings, target.make(()), in_one=True).story)
    return differences(one.story, apart.story, told.varying, begun=begun)


def _tell(found_here: Differences, compared: Compared, told: _Told, found: HookCheck) -> None:
    name = compared.scenario.name
    told.failures.update(found_here.failures)
    for point, hook, error in found_here.failures:
        what = f"hook {hook} fails at {point}" if hook else "a start fails"
        text = f"{what} {_APART}, and not when all is one process: {error}.{told.also} {_PASS_ON}"
        if compared.of_two or found.has(text):
            found.add(text, name)
            found.explain(point, hook, error)
        else:
            found.add_note(text, name)
    for words in found_here.faults:
        (told.faults if compared.of_two else told.doubtful).setdefault(words, {})[name] = None
    for words in found_here.doubtful:
        told.doubtful.setdefault(words, {})[name] = None


def _add_told(target: Target, told: _Told, found: HookCheck) -> None:
    """Add what differs in two messages at most: of one fault, much may differ."""
    also = told.also
    if told.faults:
        what = f"{_listed(target, told.faults)}: {_OTHER}.{also} {_PASS_ON}"
        for name in dict.fromkeys(name for names in told.faults.values() for name in names):
            found.add(what, name)
    doubtful = {words: names for words, names in told.doubtful.items() if words not in told.faults}
    if doubtful:
        what = f"{_listed(target, doubtful)}: {_OTHER}.{also} {_MAY_BE}. If not: {_PASS_ON}"
        for name in dict.fromkeys(name for names in doubtful.values() for name in names):
            found.add_note(what, name)


def _listed(target: Target, told: dict[str, dict[str, None]]) -> str:
    constants = {hook.ref: constants_of(hook) for hook in target.own_hooks}
    writers = {words: ", ".join(names_in(words, constants)) for words in told}
    return ", ".join(f"{words} [{names}]" if (names := writers[words]) else words for words in told)


def _config_changes(apart: Watched) -> list[str]:
    return sorted({each[1] for noted in apart.processes.values() for each in noted if each[0] == "config"})


def _add_files(target: Target, settings: ClusterSettings, apart: Watched, name: str, found: HookCheck) -> None:
    """Add the files that a node has found of another one, if without them it does something else."""
    files = files_of_others(apart.processes.values())
    if not files:
        return
    without = run_watched(settings, target.make(()), hidden=files)
    missed = differences(apart.story, without.story)
    if missed:
        varying = what_varies(apart.story, run_watched(settings, target.make(())).story)
        missed = differences(apart.story, without.story, varying)
    if missed.failures or missed.faults:
        found.add(
            f"{', '.join(files)}: written on one node and found on another, which works here, where all nodes have one "
            f"disk, and not on several machines{_consequence(missed)}. Put it on a disk that all of them share, or "
            "pass its content on in ctx.custom_data",
            name,
        )


def _consequence(missed: Differences) -> str:
    for point, hook, error in missed.failures:
        return f": without it, {f'hook {hook} fails at {point}' if hook else 'a start fails'}: {error}"
    return f", for without it {', '.join(missed.faults)} is not the same"
