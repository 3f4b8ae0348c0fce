"""Put names and errors into messages."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from .errors import ServeLLMHooksError
from .origin import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_SHOWN_TEXT = 200  # characters of a text that a message shows
_HUGE = 10**30  # longer numbers are not shown
_SHOWN_ERRORS = 3  # an exception group names at most this many of its errors


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of ``choices``, or an empty string when none is near.

    Example:
        >>> did_you_mean("modle_id", ["model_id", "order"])
        " (did you mean 'model_id'?)"
    """
    from difflib import get_close_matches  # only a mistake pays for this import

    near = get_close_matches(str(name), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def describe(obj: object) -> str:
    """Return what an object is, for a message: short plain values as they are, and of others the type, or the path.

    Never their ``repr``, which may be long, raise, or hold secrets.

    Example:
        >>> describe("pkg.mod"), describe({"token": "..."}), describe(describe)
        ("'pkg.mod'", 'a dict', 'the function serve_llm_hooks._core.text:describe')
    """
    kind = type(obj)  # an object may say of itself that it is something else
    shown: Any = obj
    if obj is None or kind in (bool, float) or (kind is int and abs(shown) < _HUGE):
        return repr(obj)
    if kind is str:
        return repr(obj) if len(shown) <= _SHOWN_TEXT else f"{shown[:_SHOWN_TEXT]!r}…"
    if kind is ModuleType:
        return f"the module {getattr(obj, '__name__', '?')}"
    if issubclass(kind, type) or kind in (FunctionType, BuiltinFunctionType, MethodType):
        return f"the {'class' if issubclass(kind, type) else 'function'} {path_of(obj)}"
    if kind is bytes:
        return "bytes"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


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


def one_line(error: BaseException) -> str:
    """Return an exception as ``Type: message``, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, ServeLLMHooksError):  # ours name their errors
        text += ": " + "; ".join(one_line(each) for each in error.exceptions[:_SHOWN_ERRORS])
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind
