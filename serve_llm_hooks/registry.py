"""``hook()``, and the registries that it fills: keyed by point and model id, ordered."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from .points import HOOK_NAMES, HookName, hook_point

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from .context import CallbackCtx, NodeCtx, Skip
    from .points import NodeHookName, NodeVetoHookName, ReplicaHookName, ReplicaVetoHookName

    # A hook's type depends on where it runs and on whether it may veto. `Concatenate[..., ...]`: its own
    # parameters come after ctx, and are checked against `kwargs` when the config is made.
    Veto: TypeAlias = bool | Skip | None
    ReplicaVetoFn = TypeVar("ReplicaVetoFn", bound=Callable[Concatenate[CallbackCtx, ...], Veto | Awaitable[Veto]])
    ReplicaFn = TypeVar("ReplicaFn", bound=Callable[Concatenate[CallbackCtx, ...], Awaitable[None] | None])
    NodeVetoFn = TypeVar("NodeVetoFn", bound=Callable[Concatenate[NodeCtx, ...], Veto | Awaitable[Veto]])
    NodeFn = TypeVar("NodeFn", bound=Callable[Concatenate[NodeCtx, ...], Awaitable[None] | None])

    class _Options(TypedDict, total=False):
        """The keywords of ``hook()``; documented there."""

        model_id: str | Iterable[str] | None
        order: int
        before: str | Iterable[str]
        after: str | Iterable[str]
        timeout_s: float | None
        on_error: OnError | None

    class HookDecorator(Protocol):
        """``hook``, as checkers see it: by the kind of point, so that they know a wrong name, ctx or return type."""

        @overload
        def __call__(
            self, point: ReplicaVetoHookName, **options: Unpack[_Options]
        ) -> Callable[[ReplicaVetoFn], ReplicaVetoFn]: ...
        @overload
        def __call__(self, point: ReplicaHookName, **options: Unpack[_Options]) -> Callable[[ReplicaFn], ReplicaFn]: ...
        @overload
        def __call__(
            self, point: NodeVetoHookName, **options: Unpack[_Options]
        ) -> Callable[[NodeVetoFn], NodeVetoFn]: ...
        @overload
        def __call__(self, point: NodeHookName, **options: Unpack[_Options]) -> Callable[[NodeFn], NodeFn]: ...


__all__ = ["Hook", "HookOptions", "HookRegistry", "OnError", "hook", "registry"]

OnError: TypeAlias = Literal["raise", "warn"]

MARK = "__serve_llm_hooks__"
"""The attribute of a decorated function that holds its tuple of :class:`HookOptions`, one for each point."""

_SIGNATURE_HELP = "a hook is `def {name}(ctx)`, its own parameters keyword-only: `def {name}(ctx, *, bucket)`"


class HookOptions(NamedTuple):
    """What was written in ``@hook(...)``."""

    point: HookName
    model_ids: tuple[str, ...] = ()
    order: int = 0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout_s: float | None = None
    on_error: OnError | None = None

    def matches(self, model_id: str) -> bool:
        """Whether these hooks run for the model; ``model_ids`` may be globs, and none means every model."""
        if not self.model_ids or model_id in self.model_ids:
            return True
        from fnmatch import fnmatchcase

        return any(fnmatchcase(model_id, pattern) for pattern in self.model_ids)


class Hook:
    """A function at a point, with its options and its parameters.

    Attributes:
        fn: the function that was decorated.
        options: what was written in ``@hook(...)``.
        kwargs: the parameters that it is called with besides ``ctx``.
        name: the bare function name.
        ref: ``module:qualname``; with its parameters, where there are any.
        call: takes ``ctx``, and nothing else.
        is_async: whether calling it gives an awaitable.
        alone: whether it cannot share a hop to the worker thread with its neighbours.
    """

    __slots__ = ("alone", "call", "fn", "is_async", "kwargs", "name", "options", "path", "ref")

    def __init__(self, fn: Callable[..., Any], options: HookOptions, kwargs: Mapping[str, Any] | None = None) -> None:
        self.fn: Callable[..., Any] = fn
        self.options: HookOptions = options
        self.kwargs: dict[str, Any] = dict(kwargs or {})
        named = fn if hasattr(fn, "__qualname__") else getattr(fn, "func", type(fn))  # a partial, an instance
        self.name: str = getattr(named, "__name__", type(named).__name__)
        self.path: str = f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', self.name)}"
        shown = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        self.ref: str = f"{self.path}({shown})" if shown else self.path
        self.call: Callable[[Any], Any] = partial(fn, **self.kwargs) if self.kwargs else fn
        self.is_async: bool = _is_async(fn)
        self.alone: bool = self.is_async or options.timeout_s is not None

    @property
    def point(self) -> HookName:
        """The hook point."""
        return self.options.point

    def __repr__(self) -> str:
        models = f" for {', '.join(self.options.model_ids)}" if self.options.model_ids else ""
        return f"<Hook {self.ref} at {self.point}{models}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hook):
            return NotImplemented
        return self.fn == other.fn and self.point == other.point and self.kwargs == other.kwargs

    def __hash__(self) -> int:
        return hash((self.path, self.point))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Hook, (self.fn, self.options, self.kwargs))

    def bind(self, kwargs: Mapping[str, Any]) -> Hook:
        """The same hook with these parameters.

        Raises:
            HookSignatureError: a parameter that it does not take, or one that it needs and is not there.
        """
        hook = Hook(self.fn, self.options, kwargs)
        hook.check_kwargs()
        return hook

    def check_kwargs(self) -> None:
        """See that the parameters fit the function's signature.

        Raises:
            HookSignatureError: they do not; the message says which, and how to give them.
        """
        fn = self.fn
        plain = isinstance(fn, FunctionType) and not fn.__code__.co_kwonlyargcount and not hasattr(fn, "__wrapped__")
        if plain and not self.kwargs:
            return  # decorating has checked it, and inspect takes longer than all else of loading a hook
        import inspect

        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):
            return  # as in check_signature: the call itself will tell
        try:
            signature.bind(None, **self.kwargs)
        except TypeError as error:
            # A script's function is given itself: no other process can find it by its path.
            named = self.name if self.path.startswith("__main__:") else f'"{self.path}"'
            example = f'{{"hook": {named}, "kwargs": {{...}}}}'
            raise _signature_error(
                f"hook {self.path}{signature} cannot be called with parameters {self.kwargs}: "
                f"{error}. Parameters are given in the config: hooks=[{example}]."
            ) from None


class HookRegistry:
    """Hooks, keyed by point and model id, in the order in which they were registered.

    Example:
        >>> registry = HookRegistry()
        >>> @registry.hook("on_before_download", model_id="llama-*")
        ... def choose(ctx):
        ...     ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> [hook.name for hook in registry.hooks("on_before_download", "llama-2-7b")]
        ['choose']
        >>> registry.hooks("on_before_download", "qwen")
        ()
    """

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks: dict[tuple[object, ...], Hook] = {}
        self._newest: dict[str, Callable[..., Any]] = {}
        for one in hooks:
            self.add(one)

    def add(self, hook: Hook) -> None:
        """Register a hook. Twice is once; a function defined again under its name replaces the older one."""
        # By path rather than by identity: a notebook's cell, run again, means the same hook. What has no path of its
        # own is itself and nothing else.
        own_path = has_own_path(hook)
        itself = None if own_path else getattr(hook.fn, "same_as", id(hook.fn))  # a class's method says what it is
        key = (hook.point, hook.path, itself, repr(hook.kwargs) if hook.kwargs else "")
        self._hooks[key] = hook
        if own_path:
            self._newest[hook.path] = hook.fn

    def _current(self, hook: Hook) -> bool:
        """Whether its function has not been defined again since, at other points."""
        newest = self._newest.get(hook.path, hook.fn) if has_own_path(hook) else hook.fn
        return newest is hook.fn or any(other.point == hook.point for other in marked_hooks(newest))

    def hooks(self, point: HookName | None = None, model_id: str | None = None) -> tuple[Hook, ...]:
        """The hooks of a point for a model, in the order in which they run.

        Args:
            point: the hook point; left out, all of them, one after another.
            model_id: the model; left out, hooks of all models.

        Raises:
            UnknownHookError: there is no such point.
            HookOrderError: ``before`` / ``after`` form a circle, or name more than one hook.
        """
        if point is not None:
            hook_point(point)
        at: dict[HookName, list[Hook]] = {}
        for hook in self:
            options = hook.options
            if (point is None or options.point == point) and (model_id is None or options.matches(model_id)):
                at.setdefault(options.point, []).append(hook)
        return tuple(found for name in HOOK_NAMES if name in at for found in in_order(at[name]))

    def for_model(self, model_id: str) -> HookRegistry:
        """A registry with only the hooks that run for a model."""
        return HookRegistry(hook for hook in self if hook.options.matches(model_id))

    def clear(self) -> None:
        """Forget all hooks."""
        self._hooks.clear()
        self._newest.clear()

    def __iter__(self) -> Iterator[Hook]:
        return iter([hook for hook in self._hooks.values() if self._current(hook)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<HookRegistry of {', '.join(hook.ref for hook in self) or 'no hooks'}>"

    @property
    def hook(self) -> HookDecorator:
        """The decorator that registers here; its arguments are those of :func:`serve_llm_hooks.hook`.

        Example:
            >>> @HookRegistry().hook("on_before_download", model_id="llama-2-7b", order=-1)
            ... def say(ctx):
            ...     print("about to download", ctx.model_id)
        """
        return cast("HookDecorator", self._hook)

    def _hook(
        self,
        point: Any,
        *,
        model_id: str | Iterable[str] | None = None,
        order: int = 0,
        before: str | Iterable[str] = (),
        after: str | Iterable[str] = (),
        timeout_s: float | None = None,
        on_error: OnError | None = None,
    ) -> Callable[[Any], Any]:
        """Make a function a hook: it runs at ``point`` when a replica of the model starts.

        Args:
            point: the moment (:data:`~serve_llm_hooks.points.HOOK_POINTS` is the table of them).
            model_id: one id, several, or globs (``"meta-llama/*"``); left out, every model.
            order: lower runs earlier within the point.
            before, after: functions' names, or ``"module:qualname"``, that this one runs before or after.
                A name that is not there counts as met.
            timeout_s: seconds after which the hook fails with ``HookTimeoutError``.
            on_error: ``"raise"`` ends the start; ``"warn"`` logs and goes on. Left out, the config decides.

        Returns:
            The decorator; it gives back the function as it was.

        Raises:
            UnknownHookError: no such point.
            HookSignatureError: the function does not take ``ctx``, or takes more than that by position.
            TypeError, ValueError: an option of the wrong kind; the same function at the same point again, with
                other options.
        """
        options = HookOptions(
            hook_point(point).name,
            _names("model_id", () if model_id is None else model_id),
            _order(order),
            _names("before", before),
            _names("after", after),
            _timeout_s(timeout_s),
            _on_error(on_error),
        )
        if model_id is not None and not options.model_ids:
            raise ValueError("model_id=[] matches no model; leave model_id out to match every model")

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            check_signature(fn, options.point)
            marks: tuple[HookOptions, ...] = getattr(fn, "__dict__", {}).get(MARK, ())
            for mark in marks:
                if mark.point == options.point and mark != options:
                    raise ValueError(
                        f"{Hook(fn, options).path} is a hook at {options.point} already, with other options; "
                        "write one @hook with all of them (model_id= takes a list)"
                    )
            if options not in marks:
                try:
                    setattr(fn, MARK, (*marks, options))
                except AttributeError:
                    raise _signature_error(
                        f"@hook({options.point!r}) cannot decorate {fn!r}, which holds no attributes; "
                        "wrap it in a function"
                    ) from None
            self.add(Hook(fn, options))
            return fn

        return decorate


def has_own_path(hook: Hook) -> bool:
    """Whether its path means it alone; else it is a local function, a partial, an instance."""
    return "<" not in hook.path and isinstance(hook.fn, FunctionType)


def marked_hooks(fn: object) -> tuple[Hook, ...]:
    """The hooks that decorating made of a function; none, if it was not decorated."""
    if not callable(fn) or isinstance(fn, type):
        return ()
    marks = getattr(fn, "__dict__", {}).get(MARK, ())
    return tuple(Hook(fn, options) for options in marks)


def in_order(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Hooks of one point in the order in which they run.

    By ``order``, then as given; of the hooks whose ``before`` / ``after`` are met, the first in that order is next.

    Raises:
        HookOrderError: the constraints form a circle, or one of their names means more than one hook.
    """
    ranked = sorted(hooks, key=lambda hook: hook.options.order)  # a stable sort: ties stay as given
    if not any(hook.options.before or hook.options.after for hook in ranked):
        return tuple(ranked)

    from graphlib import CycleError, TopologicalSorter
    from heapq import heapify, heappop, heappush

    sorter: TopologicalSorter[int] = TopologicalSorter()
    for index, one in enumerate(ranked):
        sorter.add(index)
        for name in one.options.after:
            sorter.add(index, *_resolve(name, one, "after", ranked))
        for name in one.options.before:
            for later in _resolve(name, one, "before", ranked):
                sorter.add(later, index)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(ranked[index].path for index in error.args[1])
        raise _order_error(
            f"before/after form a circle at {ranked[0].point}: {circle} (each must run before the next). "
            "Take one of these constraints away."
        ) from None

    ready = list(sorter.get_ready())
    heapify(ready)
    result = []
    while ready:
        index = heappop(ready)
        result.append(ranked[index])
        sorter.done(index)
        for freed in sorter.get_ready():
            heappush(ready, freed)
    return tuple(result)


def _resolve(name: str, owner: Hook, side: str, hooks: list[Hook]) -> list[int]:
    """The hooks that a ``before`` / ``after`` name means: none, or one function (with whatever parameters)."""
    key = "path" if ":" in name else "name"
    found = [index for index, other in enumerate(hooks) if getattr(other, key) == name]
    paths = sorted({hooks[index].path for index in found})
    if len(paths) > 1:
        raise _order_error(
            f"{side}={name!r} of {owner.path} at {owner.point} is ambiguous: {', '.join(paths)}. "
            f"Write one of these instead of the bare name."
        )
    return found


def check_signature(fn: Callable[..., Any], point: str) -> None:
    """See that a function can be called with ``ctx`` alone, and at most keyword parameters besides.

    Raises:
        HookSignatureError: it cannot; the message shows the form wanted.
    """
    if not callable(fn):
        raise _signature_error(f"@hook({point!r}) decorates a function, not {fn!r}")
    if isinstance(fn, FunctionType) and fn.__code__.co_argcount == 1:
        return  # nearly every hook; spares `inspect`
    import inspect

    if isinstance(fn, type):
        raise _signature_error(
            f"@hook({point!r}) decorates a function, not the class {fn.__name__}; decorate a function that "
            "makes one, or name the class's methods after hook points and give the class as a callback"
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # some builtins tell no signature; the call itself will
    parameters = signature.parameters.values()
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in by_position if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(required) > 1 or not (by_position or takes_any):
        name = getattr(fn, "__name__", type(fn).__name__)
        count = len(required) if len(required) > 1 else "no"
        raise _signature_error(
            f"{getattr(fn, '__module__', '?')}:{getattr(fn, '__qualname__', name)}{signature} at "
            f"{point} takes {count} positional arguments, but a hook is called with one; "
            + _SIGNATURE_HELP.format(name=name)
        )


def _signature_error(message: str) -> Exception:
    from .errors import HookSignatureError  # only a mistake pays for this import

    return HookSignatureError(message)


def _order_error(message: str) -> Exception:
    from .errors import HookOrderError  # as above

    return HookOrderError(message)


def _is_async(fn: Callable[..., Any]) -> bool:
    if isinstance(fn, FunctionType):
        return bool(fn.__code__.co_flags & 0x80)  # inspect.CO_COROUTINE, without the import
    import inspect

    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  # not whether it is callable: whether calling it is async


def _names(option: str, value: Iterable[object]) -> tuple[str, ...]:
    try:
        names = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        names = (value,)
    checked = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(f"{option}= takes a name or several, as strings, not {name!r}")
        checked.append(name)
    return tuple(checked)


def _order(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"order= is an int, lower first, not {value!r}")
    return value


def _timeout_s(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"timeout_s= is a positive number of seconds, not {value!r}")
    return float(value)


def _on_error(value: OnError | None) -> OnError | None:
    if value not in (None, "raise", "warn"):
        raise ValueError(f"on_error= is 'raise' or 'warn', not {value!r}")
    return value


registry: HookRegistry = HookRegistry()
"""The process's registry: what ``@hook`` fills."""

hook: HookDecorator = registry.hook
