"""The other ways to write a hook, turned into registry entries: classes, phase functions, replace-everything classes.

None of them has a dispatcher of its own. A class's method, and a phase function at each of its phases, is a ``Hook``
like any other; what is added here is the one object per process and run that they share.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from .context import skip
from .errors import HookLoadError, HookSignatureError, MeaninglessResult
from .points import HOOK_NAMES, HOOK_POINTS, did_you_mean
from .registry import Hook, HookOptions

if TYPE_CHECKING:
    from inspect import Signature

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
    "own_instances",
    "phase_hooks",
]

PHASES: tuple[str, ...] = tuple(row.phase for row in HOOK_POINTS.values() if row.phase is not None)
"""What phase functions are called at, in the order in which they run."""

CUSTOM = str(HOOK_POINTS["on_custom_init"].phase)


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

    def anew(self) -> Holder:
        """A holder of the same that nobody else has; as it would be after travelling."""
        rebuild, arguments = self.__reduce__()
        holder: Holder = rebuild(*arguments)
        return holder

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

    @property
    def __globals__(self) -> Mapping[str, object]:
        """Those of its class's module, as a function has its own. A method need not have them: it may be inherited."""
        owner = type(self.holder.made) if self.holder.recipe is None else self.holder.recipe
        for function in list(getattr(owner, "__dict__", {}).values()):
            found: Mapping[str, object] = getattr(function, "__globals__", {})
            if found.get("__name__") == self.__module__:
                return found
        return {}

    @property
    def same_as(self) -> object:
        """What two calls have in common that are one call given twice: a class with its arguments, or an object."""
        held = self.holder
        return (id(held.made), "") if held.recipe is None else (id(held.recipe), repr(held.kwargs))

    @property
    def parts(self) -> Mapping[str, object]:
        """What goes along when this travels, in words: for saying which of it cannot."""
        held = self.holder
        if held.recipe is not None:
            return {f"the argument {name!r} of its class": value for name, value in held.kwargs.items()}
        return {f"the attribute {name!r} of its object": value for name, value in _attributes(held.made).items()}


def own_instances(hooks: Iterable[Hook]) -> list[Hook]:
    """The hooks of one run in one process: those of one class share one object, which no other run has."""
    holders: dict[str, Holder] = {}
    own: list[Hook] = []
    for hook in hooks:
        if isinstance(hook.fn, HeldCall):
            call = copy(hook.fn)
            call.holder = holders.setdefault(call.holder.key, call.holder.anew())
            hook = Hook(call, hook.options, hook.kwargs)
        own.append(hook)
    return own


def _attributes(instance: object) -> dict[str, object]:
    names = [*getattr(instance, "__dict__", ()), *getattr(type(instance), "__slots__", ())]
    return {name: getattr(instance, name) for name in names if hasattr(instance, name)}


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
    misfit = _misfit(callback, **kwargs)
    if misfit is not None:
        signature, why = misfit
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:  # of a misspelt argument, Python says that the right one is missing
            why = f"there is no {unknown[0]!r}{did_you_mean(unknown[0], signature.parameters)}"
        raise HookSignatureError(f"{_path_of(callback)}{signature} cannot be made with {option}={dict(kwargs)}: {why}")
    return Holder(callback, kwargs)


def _misfit(fn: Callable[..., Any], /, *args: object, **kwargs: object) -> tuple[Signature, str] | None:
    """Whether a call would fail before it begins: the signature, and why. ``None``: it fits, or nobody can tell."""
    import inspect

    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # written in C: the call itself will tell
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return signature, str(error)
    return None


def _bound(callback: object, name: str) -> Any:
    """A method as it will be called: bound; where there is only the class, to anything."""
    from types import FunctionType, MethodType

    method = getattr(callback, name, None)
    if not isinstance(callback, type) or not isinstance(method, FunctionType):
        return method
    static = any(isinstance(vars(base).get(name), staticmethod) for base in callback.__mro__)
    return method if static else MethodType(method, object())


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
    from .errors import UnknownHookError

    for name in dir(callback):
        if _is_hook_name(name) and name not in HOOK_POINTS and callable(getattr(callback, name)):
            raise UnknownHookError(
                f"{path} has a method {name!r}, which is no hook point{did_you_mean(name, HOOK_NAMES)}. "
                f"The points: {', '.join(HOOK_NAMES)}. If it is no hook, do not let its name begin with 'on_'."
            )
    names: list[HookName] = []
    for point in HOOK_NAMES:
        method = _bound(callback, point)
        if method is None or getattr(method, "__func__", method) is getattr(RayServeLLMCallback, point, None):
            continue
        wanted = f"a method at a hook point is `def {point}(self, ctx)`"
        if not callable(method):
            raise HookSignatureError(f"{path}.{point} is {method!r}; {wanted}")
        misfit = _misfit(method, None)
        if misfit is not None:
            signature, why = misfit
            raise HookSignatureError(
                f"{path}.{point}{signature} cannot be called with ctx alone ({why}); {wanted}, and what it needs "
                "besides is given to the class, in callback_kwargs"
            )
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
        # Where custom_initialization runs, the defaults are skipped, whoever said so.
        self._skip: bool = ctx.__dict__.get("_skip_default", False) or phase == CUSTOM
        self._skipped_before: bool = self._skip
        self._over: bool = phase != PHASES[0]

    def __getitem__(self, key: str) -> Any:
        if key == "skip_default":
            return self._skip
        if key == "download_result":
            return self._own_node()
        if key in _CTX_KEYS:
            return getattr(self._ctx, key)
        return self._ctx.custom_data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"the keys of data are strings, not {key!r}")
        if self.get(key, self) is value:
            return  # `return data` and `return {**data, ...}` change nothing of what they repeat, read-only or not
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

    def settle(self) -> bool:
        """The callback has returned: whether it is the one that skips the defaults. Later it cannot any more."""
        self._over = True
        self._ctx.__dict__["_skip_default"] = self._skip
        return self._skip and not self._skipped_before

    def _set_skip_default(self, value: object) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"data['skip_default'] is True or False, not {value!r}")
        if self._over:
            raise ValueError(
                f"data['skip_default'] = {value} comes too late: whether the defaults are skipped is decided at "
                f"{PHASES[0]}, so set it `if phase == {PHASES[0]!r}`"
            )
        if self._skipped_before:
            raise ValueError(
                "data['skip_default'] = False: another callback has set it to True, which cannot be taken back; "
                "let that one decide"
            )
        self._skip = value

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
        skips = data.settle()
        return skip(f"{self.__qualname__} set skip_default") if skips and self.phase == PHASES[0] else None


def phase_hooks(callbacks: Iterable[Any] | None) -> list[Hook]:
    """The hooks of phase functions: each of them at every phase.

    Args:
        callbacks: functions, objects with ``__call__``, classes of such objects (made once, without arguments), and
            paths of any of these; ``None``: none.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: not a list. HookSignatureError: not called like that; a class that needs arguments.
    """
    return [
        Hook(PhaseCall(holder, callback, row.phase), HookOptions(row.name))
        for callback, holder in _phase_holders(callbacks)
        for row in HOOK_POINTS.values()
        if row.phase is not None
    ]


def listed(callbacks: Any) -> list[Any] | None:
    """What stands in ``callbacks=``, as a list.

    Raises:
        HookLoadError: it is none; one path, or one function, is what people write.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable | None):
        raise HookLoadError(f"callbacks= is a list, as in callbacks=['pkg.mod:fn'], not {callbacks!r}")
    return None if callbacks is None else list(callbacks)


def _phase_holders(callbacks: Iterable[Any] | None) -> list[tuple[Any, Holder]]:
    """Phase functions, loaded and checked, each once."""
    from .loading import load_callback

    loaded: list[Any] = []
    for given in listed(callbacks) or ():
        callback = load_callback(given)
        if not any(callback is other for other in loaded):  # twice is once
            _check_phase_signature(callback)
            loaded.append(callback)
    return [(callback, _hold(callback, {}, option="the arguments")) for callback in loaded]


def _check_phase_signature(callback: Any) -> None:
    wanted = "a phase callback is `def callback(phase, config, data)`"
    call = callback
    if isinstance(callback, type):
        if not any("__call__" in vars(base) for base in callback.__mro__):
            raise HookSignatureError(
                f"{_path_of(callback)} in callbacks=[...] is a class whose objects cannot be called; {wanted}, or a "
                "class with such a `__call__`. A class with methods `on_...` goes into callback=..."
            )
        call = _bound(callback, "__call__")
    misfit = _misfit(call, "phase", "config", {})
    if misfit is not None:
        signature, why = misfit
        raise HookSignatureError(f"{_path_of(callback)}{signature} in callbacks=[...] does not fit ({why}); {wanted}")


def _merge(data: MutableMapping[str, Any], result: object) -> None:
    """Merge what a phase function returned: as ``dict.update``, but ``extra_init_kwargs`` key by key."""
    if result is None:
        return
    if not isinstance(result, Mapping):
        raise MeaninglessResult(f"it returned {result!r}; a phase callback returns a dict to merge into data, or None")
    for key, value in dict(result).items():
        old = data.get(key)
        if key == "extra_init_kwargs" and isinstance(old, Mapping) and isinstance(value, Mapping) and value is not old:
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
        HookLoadError: not a list, or not called like that.

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
        self._holders: list[tuple[str, Holder]] = [
            (_path_of(callback), holder) for callback, holder in _phase_holders(callbacks)
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
    misfit = _misfit(_bound(initialization_class, "initialize"), None)
    if misfit is not None:
        signature, why = misfit
        raise HookSignatureError(
            f"initialization_class {path}.initialize{signature} does not fit ({why}); it is "
            "`async def initialize(self, llm_config)`"
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
