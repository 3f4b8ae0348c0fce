"""``Hook``: a function at a hook point, with its options and parameters."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from .origin import location_of, path_of, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .lazy_instance import LazyInstance
    from .options import HookOptions
    from .points import HookName


MARK = "__serve_llm_hooks__"
"""The attribute of a decorated function that holds its tuple of ``HookOptions``, one for each point."""

_METHOD_MARKS = "__serve_llm_hooks_methods__"  # the attribute of an object that holds those of its bound methods

_COROUTINE = 0x80  # inspect.CO_COROUTINE; importing inspect takes longer than the rest of this package


class Hook:
    """A function at a point, with its options and its parameters.

    Attributes:
        fn: the function that was decorated; for a method of a class, an adapter that takes ``(instance, ctx)``.
        options: the options of ``@hook(...)``.
        kwargs: the parameters that it is called with besides ``ctx``.
        instance: the object that a class's hooks share; ``None`` for a function.
        method: the name of the class's method.
        phase: the phase of a phase callback; empty for other hooks.
        name: the bare function name.
        path: ``module:qualname``.
        number: its place among the hooks of a start and point that are written alike.
        ref: the path; with the names of the parameters, where there are any, and the number, if it is not 1.
        identity: equal for two hooks of the same function, whatever their parameters. It is the function object's.
        call: takes ``ctx``, and nothing else.
        is_async: ``True`` if calling it always gives an awaitable.
        must_run_alone: ``True`` if it cannot share a hop to the worker thread with its neighbours.
        limit: whose time its ``timeout_s`` is, where that is not its author's: ``"the 16 s of ..."``.
    """

    __slots__ = (
        "call", "fn", "identity", "instance", "is_async", "kwargs", "limit", "method", "must_run_alone", "name",
        "number", "options", "path", "phase", "ref",
    )  # fmt: skip

    is_finish = False  # True for what follows the `yield` of a hook, which is run as a hook

    def __init__(
        self,
        fn: Callable[..., Any],
        options: HookOptions,
        kwargs: Mapping[str, Any] | None = None,
        *,
        instance: LazyInstance | None = None,
        method: str = "",
        phase: str = "",
        number: int = 1,
    ) -> None:
        self.fn: Callable[..., Any] = fn
        self.options: HookOptions = options
        self.kwargs: dict[str, Any] = dict(kwargs or {})
        self.instance: LazyInstance | None = instance
        self.method: str = method
        self.phase: str = phase
        self.limit: str = ""
        self.call: Callable[[Any], Any]
        self.identity: object
        if instance is None:
            self.path: str = path_of(fn)
            self.name: str = getattr(fn, "__name__", None) or self.path.rpartition(":")[2].rpartition(".")[2]
            self.call = partial(fn, **self.kwargs) if self.kwargs else fn
            self.is_async: bool = _is_async(fn)
            self.identity = _identity_of(fn)
        else:
            self.path = f"{instance.path}.{method}" if method else instance.path
            self.name = self.path.rpartition(":")[2].rpartition(".")[2]
            self.call = partial(fn, instance)
            self.is_async = False
            self.identity = instance.identity
        names = ", ".join(f"{key}=…" for key in self.kwargs)  # values may be secrets, and this is in logs and errors
        self.number: int = number
        self.ref: str = (f"{self.path}({names})" if names else self.path) + (f"#{number}" if number > 1 else "")
        self.must_run_alone: bool = self.is_async or options.timeout_s is not None

    @property
    def point(self) -> HookName:
        """The hook point."""
        return self.options.point

    @property
    def where(self) -> str:
        """The hook point, with the phase that the author of a phase callback knows it by."""
        return f"{self.point} (phase {self.phase})" if self.phase else self.point

    @property
    def source(self) -> str:
        """The module or file that ``SERVE_LLM_HOOKS_ALLOW`` must allow."""
        return source_of(self.fn if self.instance is None else self.instance.owner)

    @property
    def location(self) -> tuple[str, int] | None:
        """The file and the line of its definition; ``None`` where there is none, as of what is written in C."""
        owner = self.fn if self.instance is None else self.instance.owner
        return location_of(getattr(owner, self.method) if self.method else owner)

    @property
    def is_span(self) -> bool:
        """``True`` for a function or method with a ``yield``: a part of it runs later."""
        from .signature import bound_method, yields

        owner = None if self.instance is None else self.instance.owner
        return yields(bound_method(owner, self.method) if self.method else self.fn)

    @property
    def is_background(self) -> bool:
        """``True`` for one that works beside others until a later point: it has ``until=`` and no ``yield``."""
        return self.options.until is not None and not self.is_span

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, or the arguments of its class."""
        return self.kwargs if self.instance is None else self.instance.kwargs

    def __repr__(self) -> str:
        models = f" for {', '.join(self.options.model_ids)}" if self.options.model_ids else ""
        return f"<Hook {self.ref} at {self.point}{models}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hook):
            return NotImplemented
        mine, theirs = (self.identity, self.path, self.point), (other.identity, other.path, other.point)
        if mine != theirs or not (self.parameters or other.parameters):
            return mine == theirs
        from .values import same_values  # only hooks with parameters need it

        return same_values(self.parameters, other.parameters)

    def __hash__(self) -> int:
        return hash((self.identity, self.path, self.point))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.fn, self.options, self.kwargs, self.instance, self.method, self.phase, self.number))

    def bind(self, kwargs: Mapping[str, Any]) -> Hook:
        """Return the same hook with these parameters.

        Raises:
            HookSignatureError: a parameter that it does not take, or a missing one.
        """
        hook = _rebuild(self.fn, self.options, kwargs, self.instance, self.method, self.phase)
        hook.check_kwargs()
        return hook

    def limited_to(self, seconds: float, limit: str) -> Hook:
        """Return the same hook with at most these seconds, which its failure calls by the words in ``limit``."""
        own_s = self.options.timeout_s
        if own_s is not None and own_s <= seconds:
            return self
        options = self.options._replace(timeout_s=seconds)
        limited = _rebuild(self.fn, options, self.kwargs, self.instance, self.method, self.phase, self.number)
        limited.limit = limit
        return limited

    def check_kwargs(self) -> None:
        """Check that the parameters fit the function's signature.

        Raises:
            HookSignatureError: they do not; the message says which, and how to give them.
        """
        fn = self.fn if self.instance is None else _takes_ctx_only
        plain = isinstance(fn, FunctionType) and not fn.__code__.co_kwonlyargcount and not hasattr(fn, "__wrapped__")
        if plain and not self.kwargs:
            return  # checked where it was decorated, and inspect takes longer than the rest of loading a hook
        from .signature import check_kwargs

        check_kwargs(fn, self.kwargs, self.path)


def _takes_ctx_only(ctx: object) -> None:
    """Stand for a class's method in the check of parameters, which are the class's and not the method's."""


def _rebuild(
    fn: Callable[..., Any],
    options: HookOptions,
    kwargs: Mapping[str, Any],
    instance: LazyInstance | None,
    method: str,
    phase: str,
    number: int = 1,
) -> Hook:
    return Hook(fn, options, kwargs, instance=instance, method=method, phase=phase, number=number)


def numbered(hooks: Iterable[Hook]) -> list[Hook]:
    """Return the hooks of a start, those that are written alike at a point told apart by a number."""
    told: list[Hook] = []
    seen: dict[tuple[HookName, str], int] = {}
    for hook in hooks:
        number = seen[hook.point, hook.ref] = seen.get((hook.point, hook.ref), 0) + 1
        if number > 1:
            hook = _rebuild(hook.fn, hook.options, hook.kwargs, hook.instance, hook.method, hook.phase, number)
        told.append(hook)
    return told


def has_unique_path(fn: object, path: str) -> bool:
    """Return True if module:qualname identifies this function uniquely."""
    return isinstance(fn, FunctionType) and "<" not in path


def wrapped_chain(fn: Any) -> list[Any]:
    """Return a function, the one that it wraps (with ``functools.wraps``), and so on."""
    chain = [fn]
    while True:
        fn = getattr(fn, "__dict__", {}).get("__wrapped__")  # an object's own __getattr__ may have anything
        if fn is None or any(fn is each for each in chain):
            return chain
        chain.append(fn)


def code_of(fn: Any) -> Any:
    """Return the code of the innermost function: one `def` that runs many times makes functions of one code."""
    inner = wrapped_chain(fn)[-1]
    return getattr(inner, "__code__", inner)


def named_otherwise(fn: Any) -> set[int]:
    """Return the ids of what the module of a function holds by other names than the function's own."""
    there = getattr(wrapped_chain(fn)[-1], "__globals__", {})
    # IPython keeps the results of cells as _, __, _1, ...: they are nobody's names.
    return {id(value) for name, value in list(there.items()) if name != fn.__qualname__ and name.strip("_0123456789")}


def _identity_of(fn: Any) -> object:
    """Return what a function is known by. A bound method is made anew by each look at it."""
    return (id(fn.__self__), fn.__name__) if isinstance(fn, MethodType) else id(fn)


def marks_of(fn: Any) -> tuple[HookOptions, ...]:
    """Return the options that ``@hook`` has left on a function, one for each point."""
    if isinstance(fn, MethodType):  # its attributes are those of the function, which other objects have too
        marks: dict[str, tuple[HookOptions, ...]] = getattr(fn.__self__, "__dict__", {}).get(_METHOD_MARKS, {})
        return marks.get(fn.__name__, ())
    return tuple(getattr(fn, "__dict__", {}).get(MARK, ()))


def set_marks(fn: Any, marks: tuple[HookOptions, ...]) -> None:
    """Leave options on a function; of a bound method, on its object, with which they travel.

    Raises:
        AttributeError: it holds no attributes.
    """
    if not isinstance(fn, MethodType):
        setattr(fn, MARK, marks)
        return
    owner = fn.__self__
    methods = {**owner.__dict__.get(_METHOD_MARKS, {}), fn.__name__: marks}
    if isinstance(owner, type):
        setattr(owner, _METHOD_MARKS, methods)
    else:
        owner.__dict__[_METHOD_MARKS] = methods  # whatever a frozen or checked object says of assignments


def marked_hooks(fn: object) -> tuple[Hook, ...]:
    """Return the hooks that ``@hook`` made of a function; none if it was not decorated."""
    if not callable(fn) or issubclass(type(fn), type):  # not isinstance: an object may lie about its class, or raise
        return ()
    try:
        marks = marks_of(fn)
    except Exception:  # a lazy proxy that has nothing behind it yet
        return ()
    return tuple(Hook(fn, options) for options in marks)


def with_fresh_instances(hooks: Iterable[Hook]) -> list[Hook]:
    """Return the hooks for one start in one process: hooks of one class share an object that no other start has."""
    instances: dict[str, LazyInstance] = {}
    fresh: list[Hook] = []
    for hook in hooks:
        if hook.instance is not None:
            instance = instances.setdefault(hook.instance.key, hook.instance.fresh())
            hook = _rebuild(hook.fn, hook.options, hook.kwargs, instance, hook.method, hook.phase, hook.number)
        fresh.append(hook)
    return fresh


def _is_async(fn: Callable[..., Any]) -> bool:
    if isinstance(fn, FunctionType):
        return bool(fn.__code__.co_flags & _COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
