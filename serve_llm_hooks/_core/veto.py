"""Decide what a hook's return value means: go on, a veto with its reason, or a mistake."""

from __future__ import annotations

from typing import Final

from .named_tuple import NamedTuple
from .points import hook_point

_LONGEST_REASON = 500  # characters; longer ones are shortened


class Skip:
    """A veto with its reason; made by :func:`skip`. Whatever is given as the reason becomes a text of one line."""

    # No dataclass: making that class takes a millisecond of each replica and of each node.
    __slots__ = ("reason",)
    __match_args__ = ("reason",)
    reason: Final[str]

    def __init__(self, reason: str) -> None:
        if type(reason) is not str or len(reason) > _LONGEST_REASON:
            from .messages import reason_of  # nearly every reason is a short text

            reason = reason_of(reason)
        self.reason = reason

    def __eq__(self, other: object) -> bool:
        """Return True for a veto with the same reason."""
        return self.reason == other.reason if isinstance(other, Skip) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.reason)

    def __repr__(self) -> str:
        return f"Skip(reason={self.reason!r})"


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
    from .messages import without_value  # only a mistake pays for this import

    wanted = (
        "None or True to go on, False or skip('why') to veto" if may_veto else "None (there is nothing to veto here)"
    )
    return InvalidResult(f"it returned {without_value(result)}; a hook at {point} returns {wanted}")
