"""The result of ``check_hooks``: its problems, notes and runs."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve_llm_hooks import HookError
from serve_llm_hooks._core.messages import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..run import FakeRun

# As the message of a hook that has failed on a node says where that was.
_ON_NODE = re.compile(r" on node (node-\d+)(?: \([^)]*\))?(?=: )")

# What differs from one time to the next in the text of one problem: durations, addresses, processes.
_EACH_TIME = re.compile(r"\b\d+(\.\d+)?\s?(ns|µs|us|ms|s|seconds?|minutes?)\b|\b0x[0-9a-f]+\b|\bprocess \d+\b")

_ONLY_IN_ONE = (
    "only where the replica and all nodes are one process, and not in processes of their own, as on Ray: there, it is "
    "no problem. A test on a FakeCluster() may fail so: a module keeps what an earlier start or another node has set"
)


def cause_of(problem: str) -> str:
    """Return the text of a problem without what differs from one time to the next.

    >>> cause_of("GET http://store in 1.157ms: refused") == cause_of("GET http://store in 2.3ms: refused")
    True
    """
    temporary = re.escape(tempfile.gettempdir().rstrip("/"))
    return _EACH_TIME.sub("…", re.sub(rf"{temporary}/(?:[^\s/'\":,]+/)*", "…/", problem))


@dataclass
class Shown:
    """The places of a problem: the names of the scenarios and the nodes that it shows in, in their order."""

    scenarios: dict[str, None] = field(default_factory=dict)
    nodes: dict[str, None] = field(default_factory=dict)

    def written(self, problem: str) -> str:
        """Return a problem with where it shows."""
        when = f"{', '.join(self.scenarios)}: " if self.scenarios else ""
        return f"{when}{problem}" + (f" (on {', '.join(sorted(self.nodes))})" if self.nodes else "")


class HookCheck:
    """The result of :func:`~serve_llm_hooks_testing.check_hooks`.

    Attributes:
        runs: the runs that were made, by scenario and model.
    """

    def __init__(self) -> None:
        """Make a result without any problem."""
        self.runs: dict[str, FakeRun] = {}
        self._problems: dict[str, Shown] = {}
        self._by_cause: dict[str, str] = {}  # the text that stands for all of a cause
        self._notes: dict[str, Shown] = {}
        self._explained: set[tuple[str, str, str]] = set()

    @property
    def problems(self) -> list[str]:
        """The problems that would fail in production, one message each."""
        return [shown.written(text) for text, shown in self._problems.items()]

    @property
    def notes(self) -> list[str]:
        """Findings that may be meant so, or may be faults: nothing fails because of them."""
        return [shown.written(text) for text, shown in self._notes.items()]

    @property
    def texts(self) -> list[str]:
        """The problems, without the scenarios in which they show."""
        return list(self._problems)

    @property
    def causes(self) -> set[str]:
        """The problems, as :func:`cause_of` tells them apart."""
        return set(map(cause_of, self._problems))

    def has(self, problem: str) -> bool:
        """Return whether a problem was added."""
        return self._by_cause.get(cause_of(problem)) in self._problems

    def nodes_of(self, problem: str) -> Iterable[str]:
        """Return the nodes on which a problem shows."""
        return self._problems[problem].nodes

    def add(self, problem: str, scenario: str | None = None, nodes: Iterable[str] = ()) -> None:
        """Add a problem; one that shows in several scenarios, or on several nodes, is one problem."""
        known = self._by_cause.get(cause_of(problem))
        if known is None or known not in self._problems:
            known = self._by_cause[cause_of(problem)] = problem
        shown = self._problems.setdefault(known, Shown())
        if scenario is not None:
            shown.scenarios[scenario] = None
        shown.nodes.update(dict.fromkeys(nodes))

    def add_note(self, note: str, scenario: str | None = None) -> None:
        """Add what cannot be told for sure."""
        shown = self._notes.setdefault(note, Shown())
        if scenario is not None:
            shown.scenarios[scenario] = None

    def add_dismissed(self, failure: str, scenario: str) -> None:
        """Add a note of a failure in one process that is none in processes of their own."""
        self.add_note(f"{failure} ({_ONLY_IN_ONE})", scenario)

    def explain(self, point: str, hook: str, error: str) -> None:
        """Remember a failure of which a problem says why: it is no other problem."""
        self._explained.add((point, hook, error))

    def take(self, other: HookCheck) -> None:
        """Add the problems and notes of another result, without the failures here that it explains."""
        for point, hook, error in other._explained:
            begins = (f"hook {hook} failed at {point} ", f"hook {hook} fails at {point} (")
            for text in [text for text in self._problems if text.startswith(begins) and text.endswith(f": {error}")]:
                del self._problems[text]
        for text, shown in other._problems.items():
            for scenario in shown.scenarios or [None]:
                self.add(text, scenario, shown.nodes)
        for text, shown in other._notes.items():
            for scenario in shown.scenarios or [None]:
                self.add_note(text, scenario)

    def add_failure(self, error: Exception, scenario: str) -> None:
        """Add the failure of a start, without the node in its text: other nodes may have the same."""
        node = _ON_NODE.search(str(error)) if isinstance(error, HookError) else None
        if node is None:
            self.add(str(error), scenario)
        else:
            self.add(node.string[: node.start()] + node.string[node.end() :], scenario, [node[1]])

    def __str__(self) -> str:
        """Return the problems as a numbered list, and the notes behind them."""
        problems = self.problems
        head = f"no problem found in {counted(len(self.runs), 'run')}"
        if problems:
            head = f"{counted(len(problems), 'problem')} found:"
        numbered = (f"{number}. {text}" for number, text in enumerate(problems, 1))
        return "\n".join([head, *numbered, *(f"note: {text}" for text in self.notes)])
