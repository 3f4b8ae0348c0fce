"""The values that a hook's return value is read as, besides ``None`` and ``True``: a veto, or a mistake."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InvalidResult", "Skip", "skip"]


@dataclass(frozen=True, slots=True)
class Skip:
    """A veto with its reason; made by :func:`skip`."""

    reason: str


def skip(reason: str) -> Skip:
    """Veto the step that follows this hook's point; the reason is shown in the log and in the trace.

    Return it from the hook: ``return skip("weights are baked into the image")``.

    Args:
        reason: one line.

    Example:
        >>> skip("baked into the image")
        Skip(reason='baked into the image')
    """
    return Skip(reason)


@dataclass(frozen=True, slots=True)
class InvalidResult:
    """Returned by an adapter in place of a callback's own result that it cannot use; fails the hook.

    Attributes:
        problem: what was returned and what is wanted, for the message of ``HookResultError``.
    """

    problem: str
