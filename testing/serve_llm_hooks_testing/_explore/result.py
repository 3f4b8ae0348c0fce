"""The result of ``explore_hooks``: its problems, each with its seed and smallest schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import indent
from typing import TYPE_CHECKING

from serve_llm_hooks._core.messages import counted

if TYPE_CHECKING:
    from .schedule import Schedule


@dataclass
class Finding:
    """One problem, and the smallest schedule that shows it.

    Attributes:
        problem: what was seen under this schedule.
        model_id: the model.
        schedule: the schedule.
        seeds: the seeds that show it, the first of them first; empty if a schedule was given.
        test: the schedule as a test, to be pasted.
    """

    problem: str
    model_id: str
    schedule: Schedule
    seeds: list[int]
    test: str

    def __str__(self) -> str:
        """Return the problem, with the seed and the test."""
        if not self.seeds:
            return self.problem
        others = f", and {counted(len(self.seeds) - 1, 'other')}" if len(self.seeds) > 1 else ""
        return (
            f"{self.problem}\n(seed {self.seeds[0]}{others}; the smallest schedule that shows it, as a test:)\n"
            f"{indent(self.test, '    ')}"
        )


@dataclass
class HookExploration:
    """The result of :func:`~serve_llm_hooks_testing.explore_hooks`.

    Attributes:
        findings: what was found, each problem once.
        seeds: how many seeds were explored, for each model.
        starts: how many starts were run.
    """

    findings: list[Finding] = field(default_factory=list)
    seeds: int = 0
    starts: int = 0

    @property
    def problems(self) -> list[str]:
        """The problems, one message each."""
        return [str(finding) for finding in self.findings]

    def __str__(self) -> str:
        """Return the problems as a numbered list."""
        with_seeds = f" with {counted(self.seeds, 'seed')}" if self.seeds else ""
        if not self.findings:
            return f"no problem found{with_seeds} in {counted(self.starts, 'start')}"
        return "\n".join(
            [
                f"{counted(len(self.findings), 'problem')} found{with_seeds}:",
                *(f"{number}. {text}" for number, text in enumerate(self.problems, 1)),
            ]
        )
