"""Check before a call that a callable takes the arguments it will be called with."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from .errors import HookSignatureError, reraise_if_not_a_failure
from .origin import path_of
from .points import hook_point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from inspect import Signature


# What the code of a call's arguments is made of, in the versions of Python from 3.10 on.
_ARGUMENTS = (
    "LOAD_FAST", "LOAD_CONST", "PUSH_NULL", "KW_NAMES", "BUILD_", "LIST_", "DICT_MERGE", "CALL_INTRINSIC_1",
)  # fmt: skip

_SHOWN_PARAMETERS = 20
_MARKS = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}


def written(signature: Signature) -> str:
    """Return a signature for a message: its names only. A default value may be a secret, be long, or not print.

    Example:
        >>> import inspect
        >>> written(inspect.signature(lambda ctx, *, bucket, token="hf_...": None))
        '(ctx, *, bucket, token=…)'
    """
    names: list[str] = []
    before = ""
    for name, parameter in signature.parameters.items():
        kind = parameter.kind.name
        if before == "POSITIONAL_ONLY" and kind != before:
            names.append("/")
        if kind == "KEYWORD_ONLY" and before not in ("KEYWORD_ONLY", "VAR_POSITIONAL"):
            names.append("*")
        has_default = parameter.default is not parameter.empty
        names.append(f"{_MARKS.get(kind, '')}{name}{'=…' if has_default else ''}")
        before = kind
    if before == "POSITIONAL_ONLY":
        names.append("/")
    more = ["…"] if len(names) > _SHOWN_PARAMETERS else []
    return f"({', '.join(names[:_SHOWN_PARAMETERS] + more)})"


def misfit(fn: Callable[..., Any], /, *args: object, **kwargs: object) -> tuple[Signature, str] | None:
    """Return the signature and the reason when a call cannot succeed; ``None`` when it fits, or cannot be told."""
    import inspect

    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # written in C, without a signature: the call itself will fail
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return signature, str(error)
    return None


def attribute_of_user(callback: object, name: str) -> Any:
    """Return an attribute of a user's class or object, where a property may do anything; ``None`` if there is none.

    Raises:
        HookSignatureError: it cannot be read.
    """
    try:
        return getattr(callback, name, None)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        from .messages import exit_of, one_line, readable

        cls = callback if isinstance(callback, type) else type(callback)
        exit_called = exit_of(error)
        why = f"it called {exit_called}" if exit_called else one_line(error)
        raise HookSignatureError(f"{path_of(cls)}.{name} cannot be read: {why}") from readable(error)


def bound_method(callback: object, name: str) -> Any:
    """Return a method as it will be called: bound; for a class, bound to a stand-in."""
    from types import MethodType

    method = attribute_of_user(callback, name)
    if not isinstance(callback, type) or not isinstance(method, FunctionType):
        return method
    static = any(isinstance(vars(base).get(name), staticmethod) for base in callback.__mro__)
    return method if static else MethodType(method, object())


def yields(fn: Any) -> bool:
    """Return True if calling a function gives a generator, sync or async: it runs nothing yet.

    Args:
        fn: a function, method, partial, or object with ``__call__``; a wrapper that returns a call of one.
    """
    import inspect

    while (inner := _returned_call(fn)) is not None:
        fn = inner
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in (fn, type(fn).__call__)
    )


def _is_context_manager(fn: Any) -> bool:
    return getattr(fn, "__globals__", {}).get("__name__") == "contextlib"


def check_runs(fn: Any, what: str, other: str) -> None:
    """Check that calling a function runs it: a generator would be made, and nothing in it would happen.

    Args:
        fn: the function, method, partial, or object with ``__call__``.
        what: the function, in words.
        other: where to write what comes after the ``yield``, in words.

    Raises:
        HookSignatureError: it has a ``yield``.
    """
    import inspect

    if yields(inspect.unwrap(fn) if _is_context_manager(fn) else fn):
        raise HookSignatureError(
            f"{what} has a `yield`, so calling it would run nothing of it. Write what comes before the yield in it, "
            f"and what comes after in {other}; or write a function with @hook(...), which may have a `yield`"
        )


def check_span(fn: Any, what: str, point: str) -> None:
    """Check that a hook that has a ``yield`` may have one.

    Args:
        fn: the function, method, partial, or object with ``__call__``.
        what: the function, in words.
        point: its hook point.

    Raises:
        HookSignatureError: it is made a context manager, or nothing comes after its point.
    """
    if _is_context_manager(fn):
        raise HookSignatureError(
            f"{what} is a context manager of contextlib, and calling it would run nothing of it: leave the decorator "
            "out. A hook with a `yield` is run up to it at its point, and the rest at the end of the start, or where "
            "until= says"
        )
    if hook_point(point).in_process:
        check_runs(fn, what, "a hook at on_after_engine_init, which runs in the replica")
    if hook_point(point).during != "start" and yields(fn):
        raise HookSignatureError(
            f"{what} has a `yield`, and nothing comes after {point} that it could wait for: write it without"
        )


def check_is_sync(fn: Any, what: str) -> None:
    """Check that a function is not async: a process of the engine runs no event loop yet when it calls hooks.

    Raises:
        HookSignatureError: it is.
    """
    import inspect

    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
        raise HookSignatureError(
            f"{what} is `async def`, and nothing awaits it there: a process of the engine has no event loop when it "
            "starts. Write `def`"
        )


def _returned_call(fn: Any) -> Any:
    """Return what a wrapper wraps, if all that it returns is a call of that; None where it may do more with it."""
    inner = getattr(fn, "__dict__", {}).get("__wrapped__")
    if not isinstance(fn, FunctionType) or inner is None:
        return None
    import dis

    free = {name for name, cell in _cells(fn) if cell is inner}
    code = [each for each in dis.get_instructions(fn) if each.opname not in ("PRECALL", "CACHE")]
    calls = [index for index, each in enumerate(code) if each.opname == "LOAD_DEREF" and each.argval in free]
    if len(calls) != 1 or any("JUMP" in each.opname for each in code):
        return None
    names = [each.opname for each in code[calls[0] + 1 :]]
    while names and names[0].startswith(_ARGUMENTS):
        names.pop(0)
    return inner if len(names) == 2 and names[0].startswith("CALL") and names[1] == "RETURN_VALUE" else None


def _cells(fn: FunctionType) -> list[tuple[str, Any]]:
    try:
        return [(n, c.cell_contents) for n, c in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)]
    except ValueError:  # a name that has no value yet
        return []


def check_takes_ctx(fn: Callable[..., Any], point: str) -> None:
    """Check that a function can be called with ``ctx`` and otherwise keyword parameters only.

    Raises:
        HookSignatureError: it cannot; the message shows the form wanted.
    """
    from .messages import describe  # few functions come here: those that are not plainly `def f(ctx)`

    if not callable(fn):
        raise HookSignatureError(f"@hook({point!r}) decorates a function, not {describe(fn)}")
    if isinstance(fn, type):
        raise HookSignatureError(
            f"@hook({point!r}) decorates a function, not the class {fn.__name__}; decorate a function that "
            "makes one, or name the class's methods after hook points and give the class as a callback"
        )
    check_span(fn, f"{path_of(fn)} at {point}", point)
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # as in misfit
        return
    required = [p for p in parameters if p.default is p.empty]
    by_position = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in required)
    given_later: dict[str, object] = {p.name: None for p in required if p.kind is p.KEYWORD_ONLY}  # from the config
    found = misfit(fn, None, **given_later)
    if found is not None:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise HookSignatureError(
            f"{path_of(fn)}{written(found[0])} at "
            f"{point} takes {by_position or 'no'} positional arguments, but a hook is called with one; "
            f"a hook is `def {name}(ctx)`, its own parameters keyword-only: `def {name}(ctx, *, bucket)`"
        )


def check_kwargs(fn: Callable[..., Any], kwargs: Mapping[str, Any], path: str) -> None:
    """Check that the hook function at ``path`` takes these parameters.

    Raises:
        HookSignatureError: it does not; the message says which, and how to give them.
    """
    found = misfit(fn, None, **kwargs)
    if found is None:
        return
    from .messages import masked

    signature, why = found
    # A script's function is given itself: no other process can find it by its path.
    named = path.rpartition(":")[2] if path.startswith("__main__:") else f'"{path}"'
    example = f'{{"hook": {named}, "kwargs": {{...}}}}'
    raise HookSignatureError(
        f"hook {path}{written(signature)} cannot be called with parameters {masked(kwargs)}: "
        f"{why}. Parameters are given in the config: hooks=[{example}]."
    )
