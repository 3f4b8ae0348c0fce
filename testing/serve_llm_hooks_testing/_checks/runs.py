"""The runs of one target, and what fails in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS, EngineArgumentError, HookError, HookPickleError
from serve_llm_hooks._replica.shutdown import POINT

from .._processes.replaced import is_of_replaced
from .._simulation.replica import run_replica
from .._simulation.settings import ClusterSettings
from ..errors import DeadlockError, HarnessError, ReplicaProcessError
from .apart import run_watched
from .code import writers_of
from .put_back import empty_temporary_folder, put_back
from .result import HookCheck
from .scenarios import is_injected, parts_of

if TYPE_CHECKING:
    from serve_llm_hooks import HookEvent

    from ..run import FakeRun
    from .scenarios import Scenario
    from .targets import Target

# What it means that a hook fails where that is only logged.
_TIME_IS_OVER = f"of the hooks at {POINT} were over"
_ONLY_LOGGED = {"failure": "cleans nothing up", "shutdown": "does not end what it should"}
_TIME_LIMIT_S = 7200.0  # more than any scenario takes: nodes have an hour


class TargetRuns:
    """Runs a target's hooks in scenarios.

    What fails in this process is run again in processes: here, replica, nodes and earlier runs share what processes
    do not, and that may be the reason.

    Args:
        target: the hooks.
        limit_s: seconds of real time for which a hook may block.

    Attributes:
        apart_only: whether all is run in processes, since what runs in one has failed for no other reason.
        has_blocked: whether a hook has blocked, or done something else that a note says.
    """

    def __init__(self, target: Target, limit_s: float) -> None:
        self.target = target
        self.has_blocked = False
        self._limit_s = limit_s
        self._confirmed: set[str] = set()
        self._has_processes = True
        self.apart_only = False

    def run(self, scenario: Scenario, left_out: frozenset[str], found: HookCheck) -> set[str]:
        """Run a scenario, and add its problems. Return the hooks that failed and should not have."""
        settings = ClusterSettings(
            scenario.nodes,
            faults=scenario.faults,
            real_sleep_limit_s=self._limit_s,
            node_timeout_s=scenario.node_timeout_s,
            time_limit_s=_TIME_LIMIT_S,
        )
        settings.left_out = left_out
        run = (self._run_apart(settings, scenario) if self.apart_only else None) or self._run_here(settings, scenario)
        own = HookCheck()
        failed = self._add_failures(scenario, run, own)
        if not self._confirmed.issuperset(own.causes) and (again := self._run_apart(settings, scenario)) is not None:
            confirmed = HookCheck()
            failed = self._add_failures(scenario, again, confirmed)
            if not confirmed.texts:
                self.apart_only = True
                for text in own.texts:
                    if text not in run.notes:  # that something takes long says nothing of processes
                        found.add_dismissed(text, scenario.name)
            run, own = again, confirmed
        self._confirmed.update(own.causes)
        self.has_blocked = self.has_blocked or any(not is_of_replaced(note) for note in run.notes)
        if not _was_not_sent(run):
            found.runs[f"{scenario.name}, model {self.target.model_id}"] = run
        found.take(own)
        return failed

    def _run_here(self, settings: ClusterSettings, scenario: Scenario) -> FakeRun:
        with empty_temporary_folder(), put_back():
            run = run_replica(settings, self.target.make(scenario.hooks))
            if run._stop is not None:
                run.notes += run._stop(None)[1]
        return run

    def _run_apart(self, settings: ClusterSettings, scenario: Scenario) -> FakeRun | None:
        """Run a scenario in processes; return ``None`` if these cannot do what the test's process does."""
        if not self._has_processes:
            return None
        try:
            run = run_watched(settings, self.target.make(scenario.hooks)).run
        except HarnessError:
            self._has_processes = False
            return None
        is_broken = isinstance(run.error, HarnessError) and not isinstance(
            run.error, DeadlockError | ReplicaProcessError
        )
        if is_broken or any(map(is_of_replaced, run.notes)):  # what the test has replaced is not replaced there
            self._has_processes = False
            return None
        return run

    def _add_failures(self, scenario: Scenario, run: FakeRun, found: HookCheck) -> set[str]:
        """Add the failures that the scenario's own faults do not cause. Return the hooks that failed."""
        if _was_not_sent(run):
            found.add(str(run.error))
            return set()
        failed = set[str]()
        hooks = self.target.own_hooks
        for error in scenario.unexpected(run.error):
            writers = writers_of(str(error), hooks) if isinstance(error, EngineArgumentError) else []
            if writers:
                found.add(f"{error} (hooks that name it: {', '.join(writers)})", scenario.name)
                failed.update(writers)
            else:
                found.add_failure(error, scenario.name)
            if isinstance(error, HookError):
                failed.add(error.hook)
        for event in run.trace:
            if not is_injected(event.detail):
                _add_event(scenario, event, run, found)
        for note in run.notes:
            found.add(note)
        return failed


def _was_not_sent(run: FakeRun) -> bool:
    """Return whether the config could not be sent to the replica."""
    return isinstance(run.error, HookPickleError) and run.ctx is None


def _ends_badly(event: HookEvent, run: FakeRun) -> bool:
    """Return whether what follows a `yield` has failed, and something else has ended the start, or nothing has."""
    errors = () if run.error is None else parts_of(run.error)
    is_error = any(isinstance(error, HookError) and error.hook == event.hook for error in errors)
    return event.is_finish and event.outcome in ("failed", "timed_out") and not is_error


def _add_event(scenario: Scenario, event: HookEvent, run: FakeRun, found: HookCheck) -> None:
    """Add the failure of a hook that does not make the start fail."""
    consequence = _ONLY_LOGGED.get(HOOK_POINTS[event.point].during)
    if consequence and event.outcome not in ("ok", "cancelled", "disabled"):
        more = ": deployment_config={'graceful_shutdown_timeout_s': ...} gives them more"
        detail = event.detail + (more if event.detail.endswith(_TIME_IS_OVER) else "")
        found.add(f"hook {event.hook} fails at {event.point}, so it {consequence}: {detail}", scenario.name)
    elif _ends_badly(event, run) and not scenario.excuses(event.detail):
        found.add(f"hook {event.hook} fails after its `yield`, which is only logged: {event.detail}", scenario.name)
    elif event.outcome == "warned" and not scenario.excuses(event.detail):
        found.add(f"hook {event.hook} fails at {event.point} (on_error='warn' hides it): {event.detail}", scenario.name)
