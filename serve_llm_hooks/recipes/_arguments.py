"""Checks of the arguments of recipes: they come out of YAML, where anything may stand."""

from __future__ import annotations

import os
import re

_MOST = 1e12
_PLACEHOLDER = re.compile(r"\$\w+|\$?\{[^/]*?\}")
_QUERY = re.compile(r"\?[A-Za-z][\w.-]*=")  # what a signed URL has, and hardly a glob
HOST: re.Pattern[str] = re.compile(r"(?:[^:@\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""A host with its port, and without a user."""


def number(name: str, value: object, *, least: float = 0, most: float = _MOST, whole: bool = False) -> None:
    """Check that an argument is a number.

    Raises:
        ValueError: it is not, or is out of bounds.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        bounds = f"{least:g} or more" if most == _MOST else f"from {least:g} to {most:g}"
        raise ValueError(f"{name}= is a {'whole ' if whole else ''}number, {bounds}")


def written_out(name: str, value: str) -> None:
    """Check that a path or a place has nothing in it that somebody would have to replace.

    Raises:
        ValueError: it has ``$NAME`` or ``{name}``.
    """
    found = _PLACEHOLDER.search(value)
    if found is not None:
        raise ValueError(f"{name}={value!r} has {found[0]!r} in it, which nothing replaces: write it out")


def no_secret(name: str, value: str) -> None:
    """Check that a place has no user, password or signature in it; ask this before anything that shows the text.

    Raises:
        ValueError: it may have one; the message does not show it.
    """
    scheme, has_scheme, rest = value.partition("://")
    if not has_scheme and value.startswith("/"):
        return
    is_http = scheme in ("http", "https")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if scheme == "abfss":
        host = host.replace("@", "", 1)
    # A '/', '?' or '#' in a password, which nobody has escaped, ends what is taken for the host.
    has_user = "@" in scheme or "@" in host or (":" in host and "@" in rest and not (is_http and HOST.fullmatch(host)))
    if has_user:
        raise ValueError(f"{name} has a user or a password in it; secrets are taken from the environment only")
    if scheme != "file":
        no_query(name, value, is_http=is_http)


def no_query(name: str, value: str, *, is_http: bool) -> None:
    """Check that a place or a name has no query, which may be a signature.

    Raises:
        ValueError: it has one; the message does not show it.
    """
    if _QUERY.search(value) or (is_http and re.search("[?#]", value)):
        raise ValueError(
            f"{name} has a query (behind '?' or '#'), which is not sent; a signed URL is a secret, and has no place in "
            "a config"
        )


def absolute(name: str, value: object, example: str) -> None:
    """Check that an argument is a path that means the same in every process.

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}= is a folder, as a text")
    if "://" in value:
        raise ValueError(f"{name}= is a folder that every node has; what is in a bucket must be fetched")
    no_secret(f"{name}=", value)
    if not os.path.isabs(value):
        raise ValueError(f"{name}= is absolute, as in {example!r}, and not {value!r}: processes have other folders")
    written_out(name, value)


def texts(name: str, value: object, example: list[str]) -> tuple[str, ...]:
    """Return an argument that is a list of texts.

    Raises:
        TypeError: it is not.
    """
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise TypeError(f"{name}= is a list of texts, as in {example}")


def text(name: str, value: object, what: str) -> None:
    """Check that an argument is a text.

    Raises:
        TypeError: it is not, or is empty.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name}= is {what}, as a text")


def one_of(name: str, value: object, *possible: object) -> None:
    """Check that an argument is one of a few values.

    Raises:
        ValueError: it is not.
    """
    if not any(value is each or (isinstance(value, str) and value == each) for each in possible):
        raise ValueError(f"{name}= is one of {', '.join(map(repr, possible))}")
