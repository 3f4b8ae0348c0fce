"""Decide what a hook's return value means: go on, a veto with its reason, or a mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .points import hook_point

_LONGEST_REASON = 500  # characters; longer ones are shortened


@dataclass(frozen=True, slots=True)
class Skip:
    """A veto with its reason; made by :func:`skip`. Whatever is given as the reason becomes a text of one line."""

    reason: str

    def __post_init__(self) -> None:
        if type(self.reason) is not str or len(self.reason) > _LONGEST_REASON:
            from .messages import reason_of  # nearly every reason is a short text

            object.__setattr__(self, "reason", reason_of(self.reason))


def skip(reason: str) -> Skip:
    """Veto the step that follows this hook's point; the reason is shown in the log and in the trace.

    Return it from the hook: ``return skip("weights are baked into the image")``.

    Args:
        reason: one line. An exception is written as ``Type: message``.

    Example:
        >>> skip("baked into the image")
        Skip(reason='baked into the image')
    """
    return Skip(reason)


class InvalidResult(NamedTuple):
    """Returned by an adapter in place of a callback's own result that it cannot use; fails the hook.

    Attributes:
        problem: what was returned and what is wanted, for the message of ``HookResultError``.
    """

    problem: str


def decide(result: object, point: str) -> Skip | InvalidResult | None:
    """Return what a hook's return value means at its point: ``None`` to go on, a veto, or a mistake.

    Args:
        result: the return value. ``False`` is a veto without a reason.
        point: the hook point.
    """
    if result is None or result is True:
        return None
    may_veto = hook_point(point).may_veto
    ours = issubclass(type(result), InvalidResult | Skip)  # not isinstance: of another class, an object may raise
    if ours and (isinstance(result, InvalidResult) or (may_veto and isinstance(result, Skip))):
        return result
    if may_veto and result is False:
        return Skip("")
    from .messages import describe  # only a mistake pays for this import

    wanted = (
        "None or True to go on, False or skip('why') to veto" if may_veto else "None (there is nothing to veto here)"
    )
    return InvalidResult(f"it returned {describe(result)}; a hook at {point} returns {wanted}")
