"""The options of ``@hook(...)``, checked where they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from .named_tuple import NamedTuple
from .points import ROLES, HookName, Role, hook_point

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypedDict

    from .points import HookPoint

    class OptionKeywords(TypedDict, total=False):
        """The keywords of ``hook()``; documented there."""

        model_id: str | Iterable[str] | None
        order: int
        before: str | Iterable[str]
        after: str | Iterable[str]
        timeout_s: float | None
        on_error: OnError | None
        until: HookName | None

    class NodeOptionKeywords(OptionKeywords, total=False):
        """The keywords of ``hook()`` at a point on nodes."""

        once_per_node: bool | str

    class ProcessOptionKeywords(TypedDict, total=False):
        """The keywords of ``hook()`` at a point in the engine's processes."""

        model_id: str | Iterable[str] | None
        order: int
        before: str | Iterable[str]
        after: str | Iterable[str]
        on_error: OnError | None
        roles: Role | Iterable[Role]


OnError: TypeAlias = Literal["raise", "warn"]


class HookOptions(NamedTuple):
    """The options of one ``@hook(...)``, normalized."""

    point: HookName
    model_ids: tuple[str, ...] = ()
    order: int = 0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout_s: float | None = None
    on_error: OnError | None = None
    roles: tuple[str, ...] = ()
    until: HookName | None = None
    once_per_node: bool | str = False

    def matches(self, model_id: str) -> bool:
        """Return True if the hook runs for this model. ``model_ids`` may hold globs; empty matches every model."""
        return not self.model_ids or any(_matches(model_id, pattern) for pattern in self.model_ids)


def _matches(model_id: str, pattern: str) -> bool:
    if model_id == pattern or not model_id.startswith(start := start_of(pattern)) or start == pattern:
        return model_id == pattern  # nearly always: globs are compiled, and thousands of hooks may name a model each
    from fnmatch import fnmatchcase

    return fnmatchcase(model_id, pattern)


def start_of(pattern: str) -> str:
    """Return what every id that a pattern matches begins with: the text before its first wildcard.

    Example:
        >>> start_of("meta-llama/*")
        'meta-llama/'
    """
    for wildcard in "*?[":
        pattern = pattern.partition(wildcard)[0]
    return pattern


def checked_options(
    point: object,
    model_id: str | Iterable[str] | None,
    order: object,
    before: str | Iterable[str],
    after: str | Iterable[str],
    timeout_s: object,
    on_error: OnError | None,
    roles: str | Iterable[str] = (),
    until: object = None,
    once_per_node: object = False,
) -> HookOptions:
    """Return the options of ``@hook``, normalized.

    Raises:
        UnknownHookError: no such point.
        TypeError, ValueError: an option of the wrong kind.
    """
    row = hook_point(point)
    model_ids = _names("model_id", () if model_id is None else model_id)
    if model_id is not None and not model_ids:
        raise ValueError("model_id=[] matches no model; leave model_id out to match every model")
    if not isinstance(order, int) or isinstance(order, bool):
        raise TypeError(f"order= is an int, lower first, not {_described(order)}")
    if timeout_s is not None:
        from .seconds import check_seconds  # few hooks have one

        timeout_s = check_seconds("timeout_s=", timeout_s)
    if on_error not in (None, "raise", "warn"):
        raise ValueError(f"on_error= is 'raise' or 'warn', not {_described(on_error)}")
    if row.in_process and timeout_s is not None:
        raise ValueError(
            f"timeout_s= does not hold at {row.name}: a hook there runs in the main thread of a process of vLLM's, "
            "where nothing can end it. Leave it out, and give what the hook waits for a limit of its own"
        )
    last = None if until is None else hook_point(until).name
    names = _names("before", before), _names("after", after)
    once: bool | str = False
    if once_per_node is not False:
        from .once import checked_once  # few hooks have it

        once = checked_once(row, once_per_node)
    return HookOptions(row.name, model_ids, order, *names, timeout_s, on_error, _roles(row, roles), last, once)


def _roles(row: HookPoint, given: str | Iterable[str]) -> tuple[str, ...]:
    roles = _names("roles", given)
    if roles and not row.in_process:
        raise ValueError(f"roles= is for hooks at on_engine_process_start, which have a role, not for {row.name}")
    if not roles and given != ():
        raise ValueError("roles=[] is no process at all; leave roles out to run in each")
    for role in roles:
        if role not in ROLES:
            from .messages import did_you_mean

            raise ValueError(f"roles= has {role!r}{did_you_mean(role, ROLES)}: the roles are {', '.join(ROLES)}")
    return roles


def unknown_option(name: str, decorator: str = "@hook") -> TypeError:
    """Return the error for a keyword that ``@hook`` does not take."""
    from .messages import did_you_mean

    names = ("model_id", *HookOptions._fields[2:])
    return TypeError(f"{decorator} takes no {name}={did_you_mean(name, names)}; its options are {', '.join(names)}")


def _described(value: object) -> str:
    from .messages import describe  # only a mistake pays for this import

    return describe(value)


def _names(option: str, value: Iterable[object]) -> tuple[str, ...]:
    try:
        names = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        names = (value,)
    checked = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(f"{option}= takes a name or several, as strings, not {_described(name)}")
        checked.append(name)
    return tuple(checked)
