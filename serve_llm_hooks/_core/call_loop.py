"""The call loop: call sync hooks one after another, and read the clock after each. Nothing else happens here.

A veto, an awaitable or an exception leaves the loop; ``dispatch`` handles it, and enters the loop again behind it.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def call_each(
    calls: list[Callable[[Any], Any]], ctx: object, times: list[float] | None, clock: Callable[[], float]
) -> tuple[int, object, BaseException | None] | None:
    """Call until one returns something other than ``None`` (or ``True``), or raises.

    Args:
        calls: the hooks' calls. Emptying the list ends the loop after the current call.
        ctx: the argument of each.
        times: receives the clock's reading after each call; ``None`` records nothing.
        clock: the clock.

    Returns:
        ``None`` when all were called; else how many were before the one that stopped the loop, what that one
        returned, and what it raised.
    """
    rest = iter(calls)
    result: object
    try:
        # The same loop twice: a test for `times` in each round would cost more than the rest of the round.
        if times is None:
            for call in rest:
                result = call(ctx)
                if result is not None and result is not True:
                    break
            else:
                return None
        else:
            for call in rest:
                result = call(ctx)
                if result is not None and result is not True:
                    break
                times.append(clock())
            else:
                return None
    except BaseException as error:  # a future cannot carry StopIteration, and must not carry SystemExit
        return len(calls) - length_hint(rest) - 1, None, error
    return len(calls) - length_hint(rest) - 1, result, None
