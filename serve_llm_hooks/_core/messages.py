"""Put names, values and errors into messages. Whatever a foreign object does, this neither fails nor floods the log."""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from .errors import ServeLLMHooksError, is_a, reraise_if_not_a_failure
from .origin import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


_SHOWN_VALUE = 200  # characters of a value
_HUGE = 10**30  # longer numbers are not shown
_SHOWN_TEXT = 2000  # characters of an exception's text, and of a line that names several
_SHOWN_REASON = 500  # characters of the reason of a veto
_SHOWN_TRACEBACK = 20_000  # characters of a traceback
_SHOWN_ERRORS = 3  # an exception group names at most this many of its errors
_SHOWN_DEPTH = 3  # and those of groups inside it, down to here
_SMALL = 100  # more exceptions than this have no traceback of all of them


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of ``choices``, or an empty string when none is near.

    Example:
        >>> did_you_mean("modle_id", ["model_id", "order"])
        " (did you mean 'model_id'?)"
    """
    from difflib import get_close_matches  # only a mistake pays for this import

    near = get_close_matches(_read(str, name, _SHOWN_VALUE), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def describe(obj: object) -> str:
    """Return what an object is, for a message: short plain values as they are, and of others the type, or the path.

    Never their ``repr``, which may be long, raise, or hold secrets; of a URL neither user nor password.

    Example:
        >>> describe("pkg.mod"), describe({"token": "..."}), describe(describe)
        ("'pkg.mod'", 'a dict', 'the function serve_llm_hooks._core.messages:describe')
    """
    kind = type(obj)  # an object may say of itself that it is something else
    shown: Any = obj
    if obj is None or kind in (bool, float) or (kind is int and abs(shown) < _HUGE):
        return repr(obj)
    if kind is str:
        shown = without_login(shown)
        return repr(shown) if len(shown) <= _SHOWN_VALUE else f"{shown[:_SHOWN_VALUE]!r}…"
    if kind is ModuleType:
        return f"the module {getattr(obj, '__name__', '?')}"
    public = _public(shown) if issubclass(kind, type) else ""
    if issubclass(kind, type) or kind in (FunctionType, BuiltinFunctionType, MethodType):
        return f"the {'class' if issubclass(kind, type) else 'function'} {public or path_of(obj)}"
    if kind is bytes:
        return "bytes"
    return kind_of(obj)


def without_login(text: str) -> str:
    """Return the beginning of a text, without the users and passwords, and the queries, of the URLs in it.

    Example:
        >>> without_login("https://me:pw@host/hooks.py?sig=12")
        'https://…@host/hooks.py?…'
    """
    text = text[:_SHOWN_TEXT]
    if "://" not in text:
        return text
    import re  # only a mistake pays for this import

    # A password may have any sign in it. A user alone may be a token, but Azure's containers are written so too.
    text = re.sub(r"://[^/\s]*:\S*@|(?<!abfss)://[^/\s]*@", "://…@", text)
    return re.sub(r"(://[^\s?]*\?)\S+", r"\1…", text)


def without_value(obj: object) -> str:
    """Return what a hook returns, or gives for a mapping: as :func:`describe`, but of a text or number the type.

    It may be a secret: ``env_vars: "HF_TOKEN=hf_..."``.

    Example:
        >>> without_value("HF_TOKEN=hf_..."), without_value(None)
        ('a str', 'None')
    """
    return kind_of(obj) if type(obj) in (str, int, float) else describe(obj)


def path_or_type(obj: object) -> str:
    """Return what stands where a list of paths is wanted: one path, the usual mistake, is shown, and no other text.

    Nor a single word, which may be a token as well as a module.

    Example:
        >>> path_or_type("my_company.llm_hooks"), path_or_type("token=hf_...")
        ("'my_company.llm_hooks'", 'a str')
    """
    text = obj if type(obj) is str else ""
    is_path = text.split() == [text] and "//" not in text and not has_value(text) and any(map(text.count, ".:/\\"))
    return describe(obj) if is_path else without_value(obj)


def has_value(text: str) -> bool:
    """Return True for a text with a sign that stands before a value, perhaps a secret, and in hardly any path.

    Example:
        >>> has_value("TOKEN=hf_..."), has_value("my_company.llm_hooks:check")
        (True, False)
    """
    return any(sign in text for sign in "=@?&")


def kind_of(obj: object) -> str:
    """Return the type of an object, in words: all that may be said of what was found by a path, perhaps a secret.

    Example:
        >>> kind_of("hf_..."), kind_of(7)
        ('a str', 'an int')
    """
    kind = type(obj)
    name = _public(kind) or (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number of things, in words.

    Example:
        >>> counted(1, "node"), counted(2, "node")
        ('1 node', '2 nodes')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _public(kind: type) -> str:
    """Return the name that a class of ours is imported by; an empty string for other classes."""
    package = __name__.partition(".")[0]
    name = kind.__qualname__
    ours = kind.__module__.startswith(f"{package}.") and name in dir(sys.modules[package])
    return f"{package}.{name}" if ours else ""


def masked(values: Mapping[Any, Any], *, depth: int = 1) -> str:
    """Return a mapping with its keys, and those of the dicts in it, but without values: they may be secrets.

    Example:
        >>> masked({"token": "hf_...", "env_vars": {"A": "1"}})
        "{'token': …, 'env_vars': {'A': …}}"
    """
    shown = (
        f"{describe(key)}: {masked(value, depth=depth - 1) if depth and type(value) is dict else '…'}"
        for key, value in values.items()
    )
    return f"{{{', '.join(shown)}}}"


def text_of(error: BaseException) -> str:
    """Return an exception's message, shortened."""
    return _read(str, error, _SHOWN_TEXT)


def reason_of(given: object) -> str:
    """Return what was given as the reason of a veto as one short line."""
    if is_a(given, BaseException):
        return _shorten(one_line(given), _SHOWN_REASON)
    return _shorten(" ".join(_read(str, given, _SHOWN_TEXT).split()), _SHOWN_REASON)


def one_line(error: BaseException) -> str:
    """Return an exception as ``Type: message``, on one line; a group with some of its errors, each once."""
    return _shorten(_line(error, 0, set()), _SHOWN_TEXT)


def own(error: BaseException, kind: type[BaseException], name: str) -> Any:
    """Return an attribute as Python itself reads it: an exception's class may have one of that name, which may raise.

    Example:
        >>> own(SystemExit(7), SystemExit, "code")
        7
    """
    return vars(kind)[name].__get__(error)


def exit_of(error: BaseException) -> str:
    """Return how ``sys.exit`` was called, as code; an empty string for other errors."""
    return f"sys.exit({describe(own(error, SystemExit, 'code'))})" if is_a(error, SystemExit) else ""


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as text; where groups and causes are many, its own and :func:`one_line`."""
    import traceback

    try:
        if is_small(error):
            return _shorten("".join(traceback.format_exception(error)), _SHOWN_TRACEBACK)
        frames = "".join(traceback.format_tb(own(error, BaseException, "__traceback__")))
    except BaseException as broken:
        reraise_if_not_a_failure(broken)
        frames = ""
    return _shorten(frames, _SHOWN_TRACEBACK) + one_line(error)


def is_small(error: BaseException) -> bool:
    """Return True if an exception's traceback can be formatted: Python repeats a sub-group wherever it is shared."""
    try:
        return _is_short(error) and _can_be_formatted(error)
    except BaseException as broken:  # an attribute that Python looks at cannot be read
        reraise_if_not_a_failure(broken)
        return False


def _is_short(error: BaseException) -> bool:
    left, chained, count = [error], {id(error)}, 0
    while left and count <= _SMALL:
        each = left.pop()
        count += 1
        notes = [note for note in getattr(each, "__notes__", ()) if type(note) is str]
        if sum(map(len, (_read(str, each, None), *notes))) > _SHOWN_TRACEBACK:
            return False
        if is_a(each, BaseExceptionGroup):
            left.extend(each.exceptions)
        for other in (each.__cause__, None if each.__suppress_context__ else each.__context__):
            if other is not None and id(other) not in chained:
                chained.add(id(other))
                left.append(other)
    return count <= _SMALL


def _can_be_formatted(error: BaseException) -> bool:
    from traceback import TracebackException

    return bool(list(TracebackException.from_exception(error, limit=0, lookup_lines=False, compact=True).format()))


def readable(error: BaseException) -> BaseException:
    """Return an exception that can be the cause of another: itself, or a stand-in where Python could not show it."""
    try:
        if not _is_short(error) or _can_be_formatted(error):
            return error
    except BaseException as broken:
        reraise_if_not_a_failure(broken)
    return RuntimeError(one_line(error)).with_traceback(own(error, BaseException, "__traceback__"))


def _line(error: BaseException, depth: int, named: set[int]) -> str:
    kind = type(error).__name__
    ours = is_a(error, ServeLLMHooksError)  # their messages are made here, and name the errors in them
    text = " ".join(_read(str, error, None if ours else _SHOWN_TEXT).split())
    named.add(id(error))
    if is_a(error, BaseExceptionGroup) and not ours:
        inner = [each for each in own(error, BaseExceptionGroup, "exceptions")[:_SHOWN_ERRORS] if id(each) not in named]
        if depth < _SHOWN_DEPTH:
            text += ": " + "; ".join(_line(each, depth + 1, named) for each in inner if id(each) not in named)
    if text == _unreadable(error):
        return text
    return f"{kind}: {text}" if text else kind


def _read(how: Callable[[object], str], value: object, limit: int | None) -> str:
    """Return ``str(value)`` or ``repr(value)``; a stand-in where the value's own code fails, or gives no string."""
    try:
        text = str.__str__(how(value))  # an instance of a subclass of str may do anything later
    except BaseException as broken:
        reraise_if_not_a_failure(broken)
        return _unreadable(value)
    return text if limit is None else _shorten(text, limit)


def _unreadable(value: object) -> str:
    return f"<{type(value).__name__}, whose text cannot be read>"


def _shorten(text: str, limit: int) -> str:
    """Cut the middle out of a long text: its end may say most."""
    if len(text) <= limit:
        return text
    return f"{text[: limit * 2 // 3]} … {text[-(limit // 3) :]}"
