"""The hot loop: call sync hooks, one after another, and note when each is done. Nothing else happens here.

Everything unusual leaves the loop: a veto, an awaitable, an exception. ``dispatch`` settles it, and enters again.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_each"]


def call_each(
    calls: list[Callable[[Any], Any]], ctx: object, times: list[float] | None, clock: Callable[[], float]
) -> tuple[int, object, BaseException | None] | None:
    """Call until one gives something other than ``None`` (or ``True``), or raises.

    Args:
        calls: what to call. Emptying the list makes the loop end after the current call.
        ctx: what each is given.
        times: takes the clock's reading after each call; ``None``: nothing is noted.
        clock: the clock.

    Returns:
        ``None`` when all are done; else how many are, and what the next one gave or raised.
    """
    rest = iter(calls)
    result: object
    try:
        # Twice the same loop: a test for `times` in each round would cost more than all the rest of it.
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
