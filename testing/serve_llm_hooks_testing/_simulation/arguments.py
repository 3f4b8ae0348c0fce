"""Checks of what a test gives: numbers, texts, nodes, errors."""

from __future__ import annotations

import os

from serve_llm_hooks._core.errors import is_a
from serve_llm_hooks._core.messages import describe, did_you_mean
from serve_llm_hooks._core.points import ROLES
from serve_llm_hooks._core.seconds import check_seconds as check_seconds_in_production

from ..errors import HarnessError

_SHORTEST_LIMIT_S = 0.001  # a shorter one would report what merely waits for its turn of a busy machine


def check_seconds(name: str, value: object) -> float:
    """Return a time in seconds as a float.

    Raises:
        HarnessError: it is negative, too large, or no number.
    """
    return check_limit(f"{name}=", value, zero=True)


def check_optional_seconds(name: str, value: object) -> float | None:
    """Return a time in seconds as a float, or ``None``.

    Raises:
        HarnessError: it is negative, infinite, or neither a number nor ``None``.
    """
    return None if value is None else check_seconds(name, value)


def check_limit(name: str, value: object, *, zero: bool = False) -> float:
    """Return a limit in seconds as a float; what a real cluster would refuse is refused in its words.

    Raises:
        HarnessError: it is no number, too small, or too large.
    """
    try:
        return check_seconds_in_production(name, value, zero=zero)
    except ValueError as error:
        raise HarnessError(str(error)) from None


def check_real_limit(name: str, value: object) -> float:
    """Return a limit in real seconds as a float.

    Raises:
        HarnessError: it is no number of seconds, or so short that it would report every hook.
    """
    seconds = check_seconds(name, value)
    if seconds < _SHORTEST_LIMIT_S:
        raise HarnessError(
            f"{name}={seconds:g} would report every hook: give a number of seconds, {_SHORTEST_LIMIT_S:g} or more"
        )
    return seconds


def check_count(name: str, value: object) -> int:
    """Return a whole number above zero.

    Raises:
        HarnessError: it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HarnessError(f"{name}= is a whole number, 1 or more, not {describe(value)}")
    return value


def check_flag(name: str, value: object) -> bool:
    """Return ``True`` or ``False``.

    Raises:
        HarnessError: it is something else, which Python would take for one of the two.
    """
    if not isinstance(value, bool):
        raise HarnessError(f"{name}= is True or False, not {describe(value)}")
    return value


def check_node_id(what: str, value: object) -> str:
    """Return the id of a node.

    Raises:
        HarnessError: it is no text, or empty. Whether a cluster has the node is checked with the cluster.
    """
    if not isinstance(value, str) or not value:
        raise HarnessError(f"{what} takes a node by its id, as in 'node-1', not {describe(value)}")
    return value


def check_text(what: str, wanted: str, value: object) -> str:
    """Return a text.

    Raises:
        HarnessError: it is no text, or empty.
    """
    if not isinstance(value, str) or not value:
        raise HarnessError(f"{what} takes {wanted}, not {describe(value)}")
    return value


def check_path(what: str, value: object) -> str:
    """Return a path as text.

    Raises:
        HarnessError: it is no path, or empty.
    """
    if not isinstance(value, str | os.PathLike) or not (path := os.fspath(value)) or not isinstance(path, str):
        raise HarnessError(f"{what} takes a path, as in '/scratch/m', not {describe(value)}")
    return path


def check_error(what: str, value: object) -> Exception:
    """Return an exception; a text stands for a ``RuntimeError``.

    Raises:
        HarnessError: it is neither.
    """
    error: object = RuntimeError(value) if is_a(value, str) else value
    if not is_a(error, Exception):
        raise HarnessError(f"{what} takes an exception or its text, not {describe(value)}")
    return error


def check_names(name: str, value: object) -> frozenset[str]:
    """Return names as a set.

    Raises:
        HarnessError: a single text, whose letters would be taken for names, or something that is no list of them.
    """
    names = list(value) if isinstance(value, list | tuple | set | frozenset) else [None]
    found = frozenset(each for each in names if isinstance(each, str) and each)
    if not all(each in found for each in names):
        hint = f", as in {name}=[{value!r}]" if isinstance(value, str) and value else ""
        raise HarnessError(f"{name}= is a list of names{hint}, not {describe(value)}")
    return found


def check_process(what: str, role: object, rank: object) -> None:
    """Check the role and the rank of a process of an engine.

    Raises:
        HarnessError: a role that there is not, or a rank that its processes do not have.
    """
    if not isinstance(role, str) or role not in ROLES:
        hint = did_you_mean(role, ROLES) if isinstance(role, str) else ""
        raise HarnessError(f"{what}(role={describe(role)}): there is no such role{hint}: {', '.join(ROLES)}")
    if rank is None:
        return
    if role != "worker":
        raise HarnessError(f"{what}(role={role!r}, rank=...): only workers have a rank: leave it out")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        raise HarnessError(f"{what}(rank={describe(rank)}): the rank of a worker is a whole number, 0 or more")
