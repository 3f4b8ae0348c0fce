"""Check ``once_per_node=`` where it is written: on nodes only, with a key that names what the hook brings."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from .errors import HookSignatureError
from .messages import describe
from .points import HOOK_POINTS

if TYPE_CHECKING:
    from .points import HookPoint

_POINTS = ", ".join(name for name, row in HOOK_POINTS.items() if row.on_node and row.during == "start")
_FORMS = (
    "once_per_node=True is once per rollout, and a text names what the hook brings, for all rollouts: "
    'once_per_node="weights-{model_id}-v3"'
)


def checked_once(point: HookPoint, given: object) -> bool | str:
    """Return the option ``once_per_node``.

    Raises:
        TypeError, ValueError: it is none, or has no meaning at the point; the message says what to write.
    """
    if not isinstance(given, bool | str):
        raise TypeError(f"once_per_node= is True or a text, not {describe(given)}: {_FORMS}")
    if given is False:
        return False
    if not point.on_node:
        where = "in each process of the engine" if point.in_process else "in the replica"
        raise ValueError(f"once_per_node= is for hooks that run on nodes, and {point.name} runs {where}: {_POINTS}")
    if point.during == "failure":
        raise ValueError(
            f"once_per_node= has no meaning at {point.name}, which is for what has failed in one process: leave it out"
        )
    if isinstance(given, str):
        _check_key(given)
    return given


def _check_key(key: str) -> None:
    if not key.strip():
        raise ValueError(f"once_per_node={key!r} names nothing: {_FORMS}")
    try:
        parts = list(Formatter().parse(key))
    except ValueError as error:
        raise ValueError(f"once_per_node={key!r} cannot be read: {error}. A brace is written twice: {{{{") from None
    for _, name, layout, conversion in parts:
        if name is not None and (name != "model_id" or layout or conversion):
            written = f"{name}{'!' + conversion if conversion else ''}{':' + layout if layout else ''}"
            raise ValueError(f"once_per_node={key!r} has the placeholder {{{written}}}: the only one is {{model_id}}")


def key_for(once: str, model_id: str) -> str:
    """Return the key of a hook for a model.

    Example:
        >>> key_for("weights-{model_id}", "llama-3-8b")
        'weights-llama-3-8b'
    """
    return once.format(model_id=model_id)


def span_error(hook: str) -> HookSignatureError:
    """Return the error for a hook that runs once per node and has a ``yield``: what it holds, it holds in one process.

    Args:
        hook: the hook and its point, in words.
    """
    return HookSignatureError(
        f"{hook} has a `yield`, which holds something in one process, and once_per_node=, so that others would not "
        "hold it: leave out one of them"
    )
