"""``@hook``, and the registries that it fills: keyed by point and model id, ordered."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeAlias, TypeVar, Unpack, cast, overload

from .hook import Hook, code_of, has_unique_path, marks_of, named_otherwise, set_marks, wrapped_chain
from .made import record
from .options import checked_options, unknown_option
from .origin import path_of
from .points import HOOK_NAMES, HookName, hook_point

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from .context import CallbackCtx, NodeCtx
    from .options import NodeOptionKeywords, OnError, OptionKeywords, ProcessOptionKeywords
    from .points import NodeHookName, NodeVetoHookName, ProcessHookName, ReplicaHookName, ReplicaVetoHookName, Role
    from .process_context import EngineProcessCtx
    from .veto import Skip

    # A hook's type depends on where it runs and on whether it may veto. `Concatenate[..., ...]`: its own
    # parameters come after ctx, and are checked against `kwargs` when the config is made.
    Veto: TypeAlias = bool | Skip | None
    Vetoes: TypeAlias = Veto | Awaitable[Veto] | Iterator[Veto] | AsyncIterator[Veto]
    Nothing: TypeAlias = Awaitable[None] | Iterator[None] | AsyncIterator[None] | None
    ReplicaVetoFn = TypeVar("ReplicaVetoFn", bound=Callable[Concatenate[CallbackCtx, ...], Vetoes])
    ReplicaFn = TypeVar("ReplicaFn", bound=Callable[Concatenate[CallbackCtx, ...], Nothing])
    NodeVetoFn = TypeVar("NodeVetoFn", bound=Callable[Concatenate[NodeCtx, ...], Vetoes])
    NodeFn = TypeVar("NodeFn", bound=Callable[Concatenate[NodeCtx, ...], Nothing])
    ProcessFn = TypeVar("ProcessFn", bound=Callable[Concatenate[EngineProcessCtx, ...], None])

    class HookDecorator(Protocol):
        """The type of ``hook``: by the kind of point, so that checkers know a wrong name, ctx or return type."""

        @overload
        def __call__(
            self, point: ReplicaVetoHookName, **options: Unpack[OptionKeywords]
        ) -> Callable[[ReplicaVetoFn], ReplicaVetoFn]: ...
        @overload
        def __call__(
            self, point: ReplicaHookName, **options: Unpack[OptionKeywords]
        ) -> Callable[[ReplicaFn], ReplicaFn]: ...
        @overload
        def __call__(
            self, point: NodeVetoHookName, **options: Unpack[NodeOptionKeywords]
        ) -> Callable[[NodeVetoFn], NodeVetoFn]: ...
        @overload
        def __call__(
            self, point: NodeHookName, **options: Unpack[NodeOptionKeywords]
        ) -> Callable[[NodeFn], NodeFn]: ...
        @overload
        def __call__(
            self, point: ProcessHookName, **options: Unpack[ProcessOptionKeywords]
        ) -> Callable[[ProcessFn], ProcessFn]: ...


_YIELDS = 0x20 | 0x200  # inspect.CO_GENERATOR, inspect.CO_ASYNC_GENERATOR


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
        given: Any = hooks
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise _no_hook(given)
        for one in hooks:
            self.add(one)

    def add(self, hook: Hook) -> None:
        """Register a hook. A hook that is there already is kept once."""
        if not isinstance(hook, Hook):
            raise _no_hook(hook)
        self._hooks[self._key(hook)] = hook
        if has_unique_path(hook.fn, hook.path):
            self._newest[hook.path] = hook.fn

    def _key(self, hook: Hook) -> tuple[object, ...]:
        """Return the key of a hook: that of an equal one, or a new one."""
        key: tuple[object, ...] = (hook.point, hook.path, hook.identity)
        if not hook.parameters:
            return key
        from itertools import count

        from .values import hash_of

        key = (*key, hash_of(hook.parameters))
        return next(each for number in count() if self._hooks.get(each := (*key, number), hook) == hook)

    def hooks(self, point: HookName | None = None, model_id: str | None = None) -> tuple[Hook, ...]:
        """Return the hooks of a point for a model, in the order in which they run.

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
        from .order import in_order  # decorating needs no order

        return tuple(found for name in HOOK_NAMES if name in at for found in in_order(at[name]))

    def for_model(self, model_id: str) -> HookRegistry:
        """Return a registry with only the hooks that run for a model."""
        return HookRegistry(hook for hook in self if hook.options.matches(model_id))

    def clear(self) -> None:
        """Remove all hooks."""
        self._hooks.clear()
        self._newest.clear()

    def __iter__(self) -> Iterator[Hook]:
        hooks = list(self._hooks.values())
        inside = {(hook.point, id(fn)) for hook in hooks for fn in wrapped_chain(hook.fn)[1:]}  # run by their wrappers
        return iter([hook for hook in hooks if (hook.point, id(hook.fn)) not in inside] if inside else hooks)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<HookRegistry of {', '.join(hook.ref for hook in self) or 'no hooks'}>"

    def _add_decorated(self, hook: Hook) -> None:
        """Register a hook in the place of the function that its definition replaces, as a notebook's cell does.

        A function of the same ``def`` replaces none: a loop makes many. Nor is one replaced that another definition
        follows while the module has it by a name of its own.
        """
        newest = self._newest.get(hook.path)
        code = code_of(hook.fn)
        if newest is not None and code_of(newest) is not code and has_unique_path(hook.fn, hook.path):
            named = named_otherwise(hook.fn)
            kept: dict[tuple[object, ...], Hook] = {}
            for key, each in self._hooks.items():
                ours = each.path == hook.path and has_unique_path(each.fn, each.path) and code_of(each.fn) is not code
                if not ours or (id(each.fn) in named and code_of(each.fn) != code):
                    kept[key] = each
                elif each.point == hook.point:
                    kept[self._key(hook)] = hook
            self._hooks = kept
        self.add(hook)

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
        roles: Role | Iterable[Role] = (),
        until: HookName | None = None,
        once_per_node: bool | str = False,
        **unknown: Any,
    ) -> Callable[[Any], Any]:
        """Make a function a hook: it runs at ``point`` when a replica of the model starts.

        Args:
            point: the moment (:data:`~serve_llm_hooks.HOOK_POINTS` is the table of them).
            model_id: one id, several, or globs (``"meta-llama/*"``); left out, every model.
            order: lower runs earlier within the point.
            before: functions' names, or ``"module:qualname"``, that this one runs before. A name that is not there
                counts as met.
            after: likewise, that this one runs after.
            timeout_s: seconds after which the hook fails with ``HookTimeoutError``.
            on_error: ``"raise"`` ends the start; ``"warn"`` logs and goes on. Left out, the config decides.
            roles: at ``on_engine_process_start``, the processes in which it runs: ``"worker"``, or several. Left out,
                all but ``"inspection"``.
            until: a later point. A hook with a ``yield`` is finished on entry to it; left out, at the end of the start.
                Any other hook works in the background, and is waited for on entry to it; at
                ``on_engine_process_start`` by the engine's workers.
            once_per_node: of all replicas on a node, and their starts, one runs the hook; others wait and take its
                result. ``True``: once per rollout; a text, which may hold ``{model_id}``, names what the hook brings.
            **unknown: any other keyword is an error, with the option that it resembles.

        Returns:
            The decorator; it returns the function unchanged.

        Raises:
            UnknownHookError: no such point.
            HookSignatureError: the function does not take ``ctx``, or takes more than that by position.
            TypeError, ValueError: an option of the wrong kind; ``until`` at a point that does not come later; the same
                function at the same point again, with other options.
        """
        for name in unknown:
            raise unknown_option(name)
        options = checked_options(
            point, model_id, order, before, after, timeout_s, on_error, roles, until, once_per_node
        )
        in_process = hook_point(options.point).in_process

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            if isinstance(fn, staticmethod):
                decorate(fn.__func__)
                return fn
            plain = isinstance(fn, FunctionType) and fn.__code__.co_argcount == 1
            if not plain or fn.__code__.co_flags & _YIELDS:  # nearly every hook is `def f(ctx)`
                from .signature import check_takes_ctx

                check_takes_ctx(fn, options.point)
            elif "__wrapped__" in fn.__dict__:  # its own signature is right, whatever that of what it wraps
                from .signature import check_span

                check_span(fn, f"{path_of(fn)} at {options.point}", options.point)
            hook = Hook(fn, options)
            if in_process and hook.is_async:
                from .signature import check_is_sync

                check_is_sync(fn, f"{hook.path} at {options.point}")
            if options.until is not None:
                from .until import check_until  # few hooks have one

                check_until(hook)
            if options.once_per_node and hook.is_span:
                from .once import span_error

                raise span_error(f"{hook.path} at {hook.point}")
            marks = marks_of(fn)
            if any(mark.point == options.point and mark != options for mark in marks):
                raise ValueError(
                    f"{hook.path} is a hook at {options.point} already, with other options; "
                    "write one @hook with all of them (model_id= takes a list)"
                )
            if options not in marks:
                try:
                    set_marks(fn, (*marks, options))
                except AttributeError:
                    from .errors import HookSignatureError
                    from .messages import describe

                    raise HookSignatureError(
                        f"@hook({options.point!r}) cannot decorate {describe(fn)}, which holds no attributes; "
                        "wrap it in a function"
                    ) from None
            self._add_decorated(hook)
            record(hook)
            return fn

        return decorate


def _no_hook(given: object) -> Exception:
    from .errors import HookLoadError

    what = repr(given) if isinstance(given, str) else f"a {type(given).__name__}"
    return HookLoadError(
        f"HookRegistry(...) takes the hooks of other registries, not {what}: load_hooks(...) makes a registry of "
        "functions, modules and paths"
    )


registry: HookRegistry = HookRegistry()
"""The registry of this process; ``@hook`` fills it."""

hook: HookDecorator = registry.hook
