"""The other ways to write a hook, turned into registry entries: classes, phase functions, replace-everything classes.

None of them has a dispatcher of its own. A class's method, and a phase function at each of its phases, is a ``Hook``
like any other; what is added here is the one object per process and run that they share.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from .context import skip
from .errors import HookLoadError, HookSignatureError, MeaninglessResult
from .points import HOOK_NAMES, HOOK_POINTS, did_you_mean
from .registry import Hook, HookOptions, check_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .context import CallbackCtx, NodeCtx, NodeResult, Skip
    from .points import HookName

    _Veto: TypeAlias = bool | Skip | None

__all__ = [
    "PHASES",
    "Callback",
    "CallbackRunner",
    "PhaseData",
    "RayServeLLMCallback",
    "class_hooks",
    "initialization_hooks",
    "phase_hooks",
    "share_instances",
]

PHASES: tuple[str, ...] = tuple(row.phase for row in HOOK_POINTS.values() if row.phase is not None)
"""What phase functions are called at, in the order in which they run."""


class RayServeLLMCallback:
    """A callback as a class: override the hook points that you need, sync or async.

    Inheriting is optional (a class with some of the methods does as well) and buys two things: a type checker sees
    each method, and a misspelt one is an error where the class is written.

    One instance is made per process and run: what is kept on ``self`` in the replica is there at every later point in
    the replica, and not on a node. What must cross goes into ``ctx.custom_data``.

    Raises:
        UnknownHookError: a method ``on_...`` that is no hook point.
        HookSignatureError: a method that does not take ``ctx``.

    Example:
        >>> class Tokenizer(RayServeLLMCallback):
        ...     def on_before_download(self, ctx):
        ...         ctx.worker_node_download_model = "TOKENIZER_ONLY"
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_methods(cls, _path_of(cls))

    def on_before_init(self, ctx: CallbackCtx) -> _Veto | Awaitable[_Veto]:
        """Set up ``ctx``; a veto skips the defaults."""
        return None

    def on_custom_init(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """Take over, when the defaults are skipped."""

    def on_before_download(self, ctx: CallbackCtx) -> _Veto | Awaitable[_Veto]:
        """Choose what each node downloads; a veto leaves the nodes alone."""
        return None

    def on_before_node_download(self, ctx: NodeCtx) -> _Veto | Awaitable[_Veto]:
        """On every node; a veto skips this node's download."""
        return None

    def on_after_node_download(self, ctx: NodeCtx) -> Awaitable[None] | None:
        """On every node: verify, unpack, warm."""

    def on_after_download(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """See every node's result in ``ctx.nodes``."""

    def on_after_placement_group(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """Last word on ``ctx.placement_group``."""

    def on_before_engine_init(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """Last word on ``ctx.extra_init_kwargs`` and ``ctx.model_path``."""

    def on_after_engine_init(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """``ctx.engine`` answers."""

    def on_after_init(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """The last of a good start."""

    def on_failure(self, ctx: CallbackCtx) -> Awaitable[None] | None:
        """``ctx.error`` says what failed."""


class Callback(Protocol):
    """A phase function: called at every phase of a start (:data:`PHASES`), in the replica; sync or async.

    Args:
        phase: which one.
        config: the deployment's config.
        data: a live mapping over ``ctx``: see :class:`PhaseData`.

    Returns:
        Keys to merge into ``data`` (``extra_init_kwargs`` key by key), or ``None``.

    Example:
        >>> def limit(phase, config, data):
        ...     if phase == "pre_engine_init":
        ...         return {"extra_init_kwargs": {"max_model_len": 4096}}
    """

    def __call__(
        self, phase: str, config: Any, data: MutableMapping[str, Any], /
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None:
        """Be at a phase."""
        ...


# -- one object per process and run ---------------------------------------------------------------------------------


class Holder:
    """Makes a callback's object when it is first needed. Travels as the recipe, not as what was made of it."""

    def __init__(
        self, recipe: Callable[..., Any] | None, kwargs: Mapping[str, Any], made: Any = None, key: str | None = None
    ) -> None:
        self.recipe: Callable[..., Any] | None = recipe
        self.kwargs: dict[str, Any] = dict(kwargs)
        self.made: Any = made
        self.key: str = os.urandom(8).hex() if key is None else key

    def get(self) -> Any:
        """The object."""
        if self.made is None and self.recipe is not None:
            self.made = self.recipe(**self.kwargs)
        return self.made

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.recipe, self.kwargs, None if self.recipe is not None else self.made, self.key))


class HeldCall:
    """What a hook calls that belongs to a :class:`Holder`; it carries the names that messages and traces show."""

    def __init__(self, holder: Holder, owner: object, name: str = "") -> None:
        self.holder: Holder = holder
        self.method: str = name
        path = _path_of(owner)
        self.__module__, _, qualname = path.partition(":")
        self.__qualname__: str = f"{qualname}.{name}" if name else qualname
        self.__name__: str = self.__qualname__.rpartition(".")[2]

    def __call__(self, ctx: Any) -> Any:
        """Call the method; may give an awaitable."""
        return getattr(self.holder.get(), self.method)(ctx)


def share_instances(hooks: Iterable[Hook]) -> None:
    """Make hooks that arrived one by one share one object again, as they did where they came from."""
    holders: dict[str, Holder] = {}
    for hook in hooks:
        if isinstance(hook.fn, HeldCall):
            hook.fn.holder = holders.setdefault(hook.fn.holder.key, hook.fn.holder)


def _path_of(owner: object) -> str:
    named = owner if hasattr(owner, "__qualname__") else getattr(owner, "func", type(owner))
    return f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', type(named).__name__)}"


def _hold(callback: Any, kwargs: Mapping[str, Any], *, option: str) -> Holder:
    """A holder of a class's instance, or of an object that is there already."""
    if not isinstance(callback, type):
        if kwargs:
            raise HookLoadError(
                f"{option} are the arguments of a class, but {_path_of(callback)} is given as an object: give them to "
                "it where it is made"
            )
        return Holder(None, {}, callback)
    import inspect

    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # a class written in C: making it will tell
        return Holder(callback, kwargs)
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        raise HookSignatureError(
            f"{_path_of(callback)}{signature} cannot be made with {option}={dict(kwargs)}: {error}"
        ) from None
    return Holder(callback, kwargs)


# -- class-style ----------------------------------------------------------------------------------------------------


def is_class_style(callback: object) -> bool:
    """Whether an object, or a class, has a method that is named like a hook point."""
    return any(_is_hook_name(name) for name in dir(callback))


def class_hooks(
    callback: Any, kwargs: Mapping[str, Any] | None = None, *, option: str = "callback_kwargs"
) -> list[Hook]:
    """The hooks of a class (or of an instance): one for each method that is named after a hook point.

    Args:
        callback: the class, or an instance.
        kwargs: what the class is made with.
        option: what the config calls these arguments, for messages.

    Raises:
        UnknownHookError: a method ``on_...`` that is no hook point.
        HookSignatureError: a method that does not take ``ctx``; arguments that do not fit the class.
        HookLoadError: no method is named after a hook point.
    """
    path = _path_of(callback)
    names = _check_methods(callback, path)
    if not names:
        raise HookLoadError(
            f"callback {path} has no hooks: name its methods after hook points, as in `def on_before_download(self, "
            f"ctx)`. The points: {', '.join(HOOK_NAMES)}."
        )
    holder = _hold(callback, kwargs or {}, option=option)
    return [Hook(HeldCall(holder, callback, name), HookOptions(name)) for name in names]


def _check_methods(callback: object, path: str) -> list[HookName]:
    """The hook points that a class or an instance has methods for."""
    from types import MethodType

    from .errors import UnknownHookError

    for name in dir(callback):
        if _is_hook_name(name) and name not in HOOK_POINTS and callable(getattr(callback, name)):
            raise UnknownHookError(
                f"{path} has a method {name!r}, which is no hook point{did_you_mean(name, HOOK_NAMES)}. "
                f"The points: {', '.join(HOOK_NAMES)}. If it is no hook, do not let its name begin with 'on_'."
            )
    names: list[HookName] = []
    for point in HOOK_NAMES:
        method = getattr(callback, point, None)
        if method is None or getattr(method, "__func__", method) is getattr(RayServeLLMCallback, point, None):
            continue
        plain = isinstance(callback, type) and not isinstance(
            next(vars(base)[point] for base in callback.__mro__ if point in vars(base)), staticmethod | classmethod
        )
        # As it will be called: bound, to anything.
        check_signature(MethodType(method, object()) if plain else method, point)
        names.append(point)
    return names


def _is_hook_name(name: str) -> bool:
    return name.startswith("on_")


# -- phase-style ----------------------------------------------------------------------------------------------------


class PhaseData(MutableMapping[str, Any]):
    """What a phase function sees of ``ctx``, and what it changes of it, at once.

    - the fields of ``ctx`` by their names: ``placement_group``, ``runtime_env``, ``extra_init_kwargs``,
      ``local_node_download_model``, ``worker_node_download_model``, ``model_path``, …
    - ``download_result``: the :class:`~serve_llm_hooks.NodeResult` of the replica's own node; ``None`` before there
      is one
    - ``skip_default``: set it to ``True`` in ``pre_initialization`` to skip the defaults
    - every other key is one of ``ctx.custom_data``

    Assigning checks what is assigned, as assigning to ``ctx`` does.
    """

    def __init__(self, ctx: CallbackCtx, phase: str) -> None:
        self._ctx: CallbackCtx = ctx
        self._phase: str = phase

    def __getitem__(self, key: str) -> Any:
        if key == "skip_default":
            return self._ctx.__dict__.get("_skip_default", False)
        if key == "download_result":
            return self._own_node()
        if key in _CTX_KEYS:
            return getattr(self._ctx, key)
        return self._ctx.custom_data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "skip_default":
            self._set_skip_default(value)
        elif key == "download_result":
            raise AttributeError("data['download_result'] is read-only: it is what the download came to")
        elif key in _CTX_KEYS:
            setattr(self._ctx, key, value)
        else:
            self._ctx.custom_data[key] = value

    def __delitem__(self, key: str) -> None:
        if key in _CTX_KEYS or key in _OWN_KEYS:
            raise KeyError(f"data[{key!r}] cannot be deleted; assign None, or what it should be")
        del self._ctx.custom_data[key]

    def __iter__(self) -> Iterator[str]:
        yield from _CTX_KEYS
        yield from _OWN_KEYS
        yield from [key for key in self._ctx.custom_data if key not in _CTX_KEYS and key not in _OWN_KEYS]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<PhaseData at {self._phase}: {dict(self)}>"

    def _set_skip_default(self, value: object) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"data['skip_default'] is True or False, not {value!r}")
        if self._phase != PHASES[0] and value != self["skip_default"]:
            raise ValueError(
                f"data['skip_default'] = {value} at {self._phase} comes too late: whether the defaults are skipped is "
                f"decided at {PHASES[0]}"
            )
        self._ctx.__dict__["_skip_default"] = value

    def _own_node(self) -> NodeResult | None:
        return next((node for node in self._ctx.nodes.values() if node.is_local), None)


# What an older callback may find in `data` by these names. `custom_data` itself is among them.
_CTX_KEYS: tuple[str, ...] = (
    "local_node_download_model",
    "worker_node_download_model",
    "placement_group",
    "runtime_env",
    "extra_init_kwargs",
    "model_path",
    "run_init_node",
    "custom_data",
    "nodes",
    "engine",
    "error",
)
_OWN_KEYS: tuple[str, ...] = ("download_result", "skip_default")


class PhaseCall(HeldCall):
    """A phase function at one phase, as a hook."""

    def __init__(self, holder: Holder, owner: object, phase: str) -> None:
        super().__init__(holder, owner)
        self.phase: str = phase

    def __call__(self, ctx: CallbackCtx) -> Any:
        """Call it, and merge what it returns."""
        data = PhaseData(ctx, self.phase)
        result = self.holder.get()(self.phase, ctx.llm_config, data)
        if isinstance(result, Awaitable):
            return self._when_done(result, data)
        return self._done(result, data)

    async def _when_done(self, result: Awaitable[Any], data: PhaseData) -> Skip | None:
        return self._done(await result, data)

    def _done(self, result: object, data: PhaseData) -> Skip | None:
        _merge(data, result)
        if self.phase == PHASES[0] and data["skip_default"]:
            return skip(f"{self.__qualname__} set skip_default")
        return None


def phase_hooks(callbacks: Iterable[Any]) -> list[Hook]:
    """The hooks of phase functions: each of them at every phase.

    Args:
        callbacks: functions, objects with ``__call__``, classes of such objects (made once, without arguments).

    Raises:
        HookLoadError: what is not callable; a class that cannot be made without arguments.
    """
    hooks: list[Hook] = []
    seen: list[Any] = []
    for callback in callbacks:
        if any(callback is other for other in seen):
            continue  # twice is once
        seen.append(callback)
        if not callable(callback):
            raise HookLoadError(
                "callbacks=[...] takes callables `(phase, config, data)` and their paths ('pkg.mod:fn'), "
                f"not {callback!r}"
            )
        _check_phase_signature(callback)
        holder = _hold(callback, {}, option="the arguments")
        hooks += [
            Hook(PhaseCall(holder, callback, row.phase), HookOptions(row.name))
            for row in HOOK_POINTS.values()
            if row.phase is not None
        ]
    return hooks


def _check_phase_signature(callback: Any) -> None:
    import inspect
    from types import MethodType

    call = MethodType(callback.__call__, object()) if isinstance(callback, type) else callback
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return
    try:
        signature.bind("phase", "config", {})
    except TypeError as error:
        raise HookSignatureError(
            f"{_path_of(callback)}{signature} in callbacks=[...] is not called like that ({error}); a phase callback "
            "is `def callback(phase, config, data)`"
        ) from None


def _merge(data: MutableMapping[str, Any], result: object) -> None:
    """Merge what a phase function returned: as ``dict.update``, but ``extra_init_kwargs`` key by key."""
    if result is None:
        return
    if not isinstance(result, Mapping):
        raise MeaninglessResult(f"it returned {result!r}; a phase callback returns a dict to merge into data, or None")
    for key, value in result.items():
        old = data.get(key) if key == "extra_init_kwargs" else None
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        data[key] = value


class CallbackRunner:
    """Phase functions on their own, for any phases: what ``callbacks=[...]`` does, without a deployment.

    Args:
        callbacks: as in the config: functions, objects, classes, paths; ``None`` means none.

    Attributes:
        data: what the callbacks have left so far.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.

    Example:
        >>> import asyncio
        >>> def count(phase, config, data):
        ...     return {"calls": data.get("calls", 0) + 1}
        >>> runner = CallbackRunner([count])
        >>> asyncio.run(runner.run("warm_up", config=None))
        {'calls': 1}
        >>> runner.get("calls")
        1
    """

    def __init__(self, callbacks: Iterable[Any] | None = None) -> None:
        from .loading import load_callback

        loaded = [load_callback(callback) for callback in callbacks or ()]
        for callback in loaded:
            _check_phase_signature(callback)
        self._holders: list[tuple[str, Holder]] = [
            (_path_of(callback), _hold(callback, {}, option="the arguments")) for callback in loaded
        ]
        self.data: dict[str, Any] = {}

    async def run(self, phase: str, config: Any) -> dict[str, Any]:
        """Call every callback, in order, and merge what each returns.

        Raises:
            RuntimeError: a callback failed, or returned no dict; it names the phase, and chains the cause.
        """
        for path, holder in self._holders:
            try:
                result = holder.get()(phase, config, self.data)
                _merge(self.data, await result if isinstance(result, Awaitable) else result)
            except Exception as error:
                raise RuntimeError(f"callback {path} failed at phase {phase!r}: {error}") from error
        return self.data

    def get(self, key: str, default: Any = None) -> Any:
        """A value that a callback left, or the default."""
        return self.data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Give the callbacks a value."""
        self.data[key] = value


# -- replace-everything ---------------------------------------------------------------------------------------------


def initialization_hooks(initialization_class: Any, kwargs: Mapping[str, Any] | None = None) -> list[Hook]:
    """The hooks of a class that replaces the whole initialization: a veto of the defaults, and ``on_custom_init``.

    Args:
        initialization_class: a class with ``async initialize(llm_config)``, whose result has ``placement_group``,
            ``runtime_env`` and ``extra_init_kwargs``.
        kwargs: what it is made with.

    Raises:
        HookLoadError: not such a class. HookSignatureError: arguments that do not fit it.
    """
    path = _path_of(initialization_class)
    if not callable(getattr(initialization_class, "initialize", None)):
        raise HookLoadError(
            f"initialization_class {path} has no method `async def initialize(self, llm_config)`; new code uses "
            'callback=... with on_custom_init, or @hook("on_custom_init")'
        )
    holder = _hold(initialization_class, kwargs or {}, option="initialization_kwargs")
    return [
        Hook(_SkipDefaults(holder, initialization_class), HookOptions("on_before_init")),
        Hook(_Initialize(holder, initialization_class, "initialize"), HookOptions("on_custom_init")),
    ]


class _SkipDefaults(HeldCall):
    def __call__(self, ctx: CallbackCtx) -> Skip:
        return skip(f"{self.__qualname__} replaces the initialization")


class _Initialize(HeldCall):
    def __call__(self, ctx: CallbackCtx) -> Awaitable[None]:
        return self._run(ctx)

    async def _run(self, ctx: CallbackCtx) -> None:
        output = self.holder.get().initialize(ctx.llm_config)
        if isinstance(output, Awaitable):
            output = await output
        for name in ("placement_group", "runtime_env", "extra_init_kwargs"):
            if not hasattr(output, name):
                raise MeaninglessResult(
                    f"it returned {output!r}, which has no {name}; initialize() returns an InitializeNodeOutput"
                )
        if output.placement_group is not None:
            ctx.placement_group = output.placement_group
        if output.runtime_env is not None:
            ctx.runtime_env = output.runtime_env
        ctx.extra_init_kwargs = {**ctx.extra_init_kwargs, **(output.extra_init_kwargs or {})}
