"""Check what must hold of each start, whatever happens around the hooks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from serve_llm_hooks import HOOK_POINTS, HookError, HookTimeoutError
from serve_llm_hooks._core.event import path_in
from serve_llm_hooks._core.messages import one_line

from .._checks.scenarios import parts_of
from .._simulation.timing import StartCancelledError
from ..errors import DeadlockError, HarnessError
from ..faults import HookFailsFault
from .causes import causes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serve_llm_hooks import Hook

    from ..run import FakeRun
    from .loop import Remains
    from .schedule import Schedule

CLEAN_UP_S = 30.0
"""Virtual seconds that hooks may take to clean up where a start is cancelled."""

# What code raises that stumbles, whatever it was about to handle.
_SLIPS = (
    "AttributeError", "ImportError", "IndexError", "KeyError", "ModuleNotFoundError", "NameError", "TypeError",
    "UnboundLocalError", "ZeroDivisionError",
)  # fmt: skip
# What a run notes besides.
_NOTES = {
    "left a thread behind": "nothing is left",
    "went on although it was cancelled": "it can be cancelled",
}
_CATCHES_ALL = "Catch Exception, not everything: a bare `except:` and BaseException take CancelledError too"

# Rules that a hook breaks which fails; which of them depends on what happens around it.
_FAILS = ("a start succeeds", "its error names the cause", "it can be done again")


class Problem(NamedTuple):
    """Something that must hold, and does not.

    Attributes:
        rule: what must hold.
        who: the hook, or the kind of error.
        text: what was seen.
    """

    rule: str
    who: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """The part that is equal for the same problem under another schedule."""
        return "a hook fails" if self.rule in _FAILS else self.rule, self.who

    def without(self, folder: str) -> Problem:
        """Return it with another name for the temporary folder, which is another each time."""
        return self._replace(text=self.text.replace(folder, "$TMPDIR"))


def problems_of_start(run: FakeRun, schedule: Schedule, hooks: Sequence[Hook]) -> Iterator[Problem]:
    """Yield what does not hold of a start, and of the starts before it that died."""
    error = run.error
    if isinstance(error, DeadlockError):
        yield Problem("it ends", "", f"the start never ends: {error}")
        return
    if error is not None:
        yield from _unexplained(error, run, schedule)
    yield from _late_after_cancelling(run)
    yield from _failure_hooks(run, hooks)
    for start in (*run.earlier_starts, run):
        yield from _quiet_failures(start, schedule)


def problems_of_next_start(run: FakeRun, before: FakeRun) -> Iterator[Problem]:
    """Yield what is wrong with the start that comes after another one, when nothing fails any more."""
    if run.error is None:
        return
    for part in parts_of(run.error):
        yield Problem(
            "it can be done again",
            _who(part),
            f"the next start of the replica fails, after one that {_how_it_ended(before)}: {_told(part)}. Serve starts "
            "replicas again on the same machines: hooks find there what the start before has left",
        )


def problems_of_remains(run: FakeRun, remains: Remains) -> Iterator[Problem]:
    """Yield what hooks have left running."""
    for location in remains.on_nodes:
        yield Problem(
            "nothing is left",
            location.hook,
            f"{location} is still running when the work of its node is over. The node's process ends then, and with it "
            "what is not done: await it in the hook that has started it",
        )
    # Where a start is cancelled, no hook is called that could end what goes on.
    if run.error is not None and not isinstance(run.error, DeadlockError | StartCancelledError):
        for location in remains.in_replica:
            yield Problem(
                "nothing is left",
                location.hook,
                f"{location} goes on after a start that {_how_it_ended(run)}: cancel it at on_failure",
            )
    for location in remains.stubborn:
        yield Problem(
            "it can be cancelled",
            location.hook,
            f"{location} goes on although it was cancelled. {_CATCHES_ALL}",
        )
    for note in run.notes:
        for seen, rule in _NOTES.items():
            if seen in note:
                yield Problem(rule, note.partition(" (at ")[0].removeprefix("hook "), note)


def _how_it_ended(run: FakeRun) -> str:
    if run.error is None:
        return "has succeeded"
    return "was cancelled" if isinstance(run.error, StartCancelledError) else f"has failed ({one_line(run.error)})"


def _unexplained(error: Exception, run: FakeRun, schedule: Schedule) -> Iterator[Problem]:
    """Yield what of an error nothing in the schedule explains."""
    parts = parts_of(error)
    causes = causes_of(schedule)
    explained = [any(cause(part) for cause in causes) for part in parts]
    for part, is_explained in zip(parts, explained, strict=True):
        if is_explained or (any(explained) and _follows(part)):
            continue
        rule, why = "a start succeeds", "the start fails, and nothing went wrong around it"
        if run.earlier_starts:
            rule, why = "it can be done again", "the replica's process died, and the start after that fails"
        elif schedule.is_disturbed:
            rule, why = "its error names the cause", "the start fails, and not with what went wrong"
        yield Problem(rule, _who(part), f"{why}: {_told(part)}")


def _follows(part: Exception) -> bool:
    """Return whether an error may follow from that of another node: a hook that waits for it says so."""
    return isinstance(part, HookTimeoutError) or (
        isinstance(part, HookError) and not any(f": {slip}: " in str(part) for slip in _SLIPS)
    )


def _late_after_cancelling(run: FakeRun) -> Iterator[Problem]:
    error = run.error
    if not isinstance(error, StartCancelledError):
        return
    took_s = run.elapsed_s - error.at_s
    if took_s > CLEAN_UP_S:
        ended = [event for event in run.trace if event.start_s <= error.at_s < event.start_s + event.duration_s]
        names = ", ".join(dict.fromkeys(event.hook for event in ended)) or "a hook"
        yield Problem(
            "it can be cancelled",
            names,
            f"the start goes on for {took_s:g} s although it was cancelled, in {names}. {_CATCHES_ALL}",
        )


def _failure_hooks(run: FakeRun, hooks: Sequence[Hook]) -> Iterator[Problem]:
    """Yield the hooks at ``on_failure`` that ran too often, or not at all."""
    if isinstance(run.error, StartCancelledError) or run.ctx is None or is_refused(run.error):
        return
    calls = Counter(event.hook for event in run.trace if event.point == "on_failure" and event.ran)
    off = {event.hook for event in run.trace if event.point == "on_failure" and not event.ran}
    for hook in hooks:
        wanted = int(run.error is not None)
        if hook.point == "on_failure" and hook.ref not in off and calls[hook.ref] != wanted:
            end = "failed" if wanted else "succeeded"
            yield Problem(
                "on_failure runs when it should",
                hook.ref,
                f"the start has {end}, and {hook.ref} at on_failure ran {calls[hook.ref]} times",
            )


def is_refused(error: Exception | None) -> bool:
    """Return whether the harness itself could not do something."""
    return isinstance(error, HarnessError)


def _quiet_failures(run: FakeRun, schedule: Schedule) -> Iterator[Problem]:
    """Yield the failures that do not end a start: those of clean-up, and of hooks with ``on_error="warn"``."""
    injected = [str(fault.error) for fault in schedule.faults if isinstance(fault, HookFailsFault)]
    for event in run.trace:
        during = HOOK_POINTS[event.point].during
        if not event.ran or any(text in event.detail for text in injected):
            continue
        failed = f"hook {event.hook} fails at {event.point}"
        if during != "start" and event.outcome not in ("ok", "cancelled"):
            rule, what = "clean-up succeeds", "cleans nothing up"
            if during == "shutdown":
                rule, what = "the end succeeds", "does not end what it should"
            yield Problem(rule, path_in(event.hook), f"{failed}, so it {what}: {event.detail}")
        elif event.outcome == "warned" and (not schedule.is_disturbed or event.detail.startswith(_SLIPS)):
            text = f"{failed} (on_error='warn' hides it): {event.detail}"
            yield Problem("a start succeeds", path_in(event.hook), text)


def _who(error: Exception) -> str:
    return path_in(error.hook) if isinstance(error, HookError) else type(error).__name__


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, HookError) else f"{type(error).__name__}: {error}"
