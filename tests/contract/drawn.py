"""Hooks that are drawn: what each does is data. Nodes import this module: it knows neither wing, and is kept light."""

from __future__ import annotations

import asyncio
import threading
import time
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookRegistry, RayServeLLMCallback, ask, skip

from . import wing
from .hooks import Here, HostileError, Panic, Parcel, Unreadable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence

    from serve_llm_hooks import CallbackCtx, HookName, NodeCtx

    Ctx = CallbackCtx | NodeCtx
    Steps = Generator[float | Awaitable[object] | BaseException, None, object]


@dataclass(frozen=True)
class Drawn:
    """A hook, or a method of a class.

    Attributes:
        name: its name.
        point: its hook point.
        acts: what it does, in order: the name of an act, and its arguments.
        is_async: whether it is ``async def``.
        slots: on which nodes it does so; on others it does nothing. Empty for all, and in the replica.
        options: of ``@hook``.
        kwargs: the parameters that the config gives it.
    """

    name: str
    point: HookName
    acts: tuple[tuple[Any, ...], ...] = ()
    is_async: bool = False
    slots: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnClass:
    """A class of hooks, or its instance.

    Attributes:
        name: its name.
        methods: one for each of some points.
        is_made: the config holds an instance, and not the class.
    """

    name: str
    methods: tuple[Drawn, ...]
    is_made: bool = False


@dataclass(frozen=True)
class DrawnPhases:
    """A function for phases.

    Attributes:
        name: its name.
        phases: what it does in each: sets these keys of ``data``.
        returns: what it returns in each.
        raises: in which it raises what.
    """

    name: str
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    returns: Mapping[str, Any] = field(default_factory=dict)
    raises: Mapping[str, str] = field(default_factory=dict)


# -- what they do -----------------------------------------------------------------------------------------------------


class TwoArguments(Exception):
    """Cannot be unpickled: it does not keep what it was made of."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def _with_cause() -> Exception:
    error = RuntimeError("the effect")
    error.__cause__ = OSError(2, "the cause")
    error.add_note("a note")
    return error


RAISES: dict[str, Callable[[], BaseException]] = {
    "OSError": lambda: OSError(28, "No space left on device"),
    "KeyError": lambda: KeyError("a key"),
    "without a text": ValueError,
    "several lines": lambda: RuntimeError("one line\nand another"),
    "AssertionError": lambda: AssertionError("assert 1 == 2"),
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": lambda: TimeoutError("of its own"),
    "CancelledError": lambda: asyncio.CancelledError("of its own"),
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "a group": lambda: ExceptionGroup("several", [ValueError("one"), OSError(5, "two")]),
    "a group of exits": lambda: BaseExceptionGroup("several", [SystemExit(3), KeyError("one")]),
    "with a cause": _with_cause,
    "two arguments": lambda: TwoArguments("one", "two"),
    "a panic": lambda: Panic("index out of range"),
    "unreadable": Unreadable,
    "hostile": lambda: HostileError("the text"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "MemoryError": MemoryError,
    "an import": lambda: ModuleNotFoundError("No module named 'boto4'", name="boto4"),
}

RETURNS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "a reason": lambda: skip("there is a reason"),
    "no reason": lambda: skip(""),
    "a reason in lines": lambda: skip("one line\nand another"),
    "a number": lambda: 42,
    "a text": lambda: "done",
    "zero": lambda: 0,
    "a dict": lambda: {"skip": True},
    "a class": lambda: ValueError,
}

VALUES: dict[str, Callable[[], Any]] = {
    "a number": lambda: 7,
    "a list": lambda: [1, [2, "three"]],
    "a dict": lambda: {"one": {"two": None}},
    "a tuple": lambda: (1, 2),
    "a parcel": lambda: Parcel(["a word"]),
    "a set": lambda: {1},
    "bytes": lambda: b"bytes",
    "a long text": lambda: "x" * 100_000,
    "a lock": threading.Lock,
    "a lambda": lambda: lambda: None,
    "what does not arrive": Here,
}


def _slot(ctx: NodeCtx) -> int:
    number: int = ctx.custom_data["slots"][ctx.node_id]
    return number


def _note(ctx: Ctx, key: str, value: object) -> None:
    ctx.custom_data[key] = deepcopy(value)


def _put(ctx: Ctx, key: str, kind: str) -> None:
    ctx.custom_data[key] = VALUES[kind]()


def _append(ctx: Ctx, key: str, value: object) -> None:
    held = ctx.custom_data.setdefault(key, [])
    if isinstance(held, list):
        held.append(value)


def _drop(ctx: Ctx, key: str) -> None:
    ctx.custom_data.pop(key, None)


def _replace(ctx: Ctx) -> None:
    ctx.custom_data = {"slots": ctx.custom_data["slots"], "replaced": True}


def _see(ctx: Any) -> None:
    """Note everything of ``ctx`` that can be told."""
    seen: dict[str, Any] = {"keys": sorted(ctx.custom_data), "model": [ctx.model_id, ctx.model_path]}
    if hasattr(ctx, "node_id"):
        seen["node"] = [ctx.is_local, _slot(ctx), ctx.download_model]
    else:
        seen["modes"] = [ctx.worker_node_download_model, ctx.local_node_download_model, ctx.run_init_node]
        seen["has"] = [ctx.placement_group is not None, ctx.engine is not None]
        seen["variable"] = (ctx.runtime_env or {}).get("env_vars", {}).get("CONTRACT")
        seen["arguments"] = dict(ctx.extra_init_kwargs)
        seen["nodes"] = [
            [node.is_local, node.path, node.skipped, bool(node.error), sorted(node.custom_data)]
            for node in ctx.nodes.values()
        ]
        seen["points"] = list(dict.fromkeys(each.point for each in ctx.trace if each.hook.startswith(__name__)))
    seen["error"] = type(getattr(ctx, "error", None)).__name__
    ctx.custom_data["seen"] = [*ctx.custom_data.get("seen", []), seen]


def _assign(ctx: Any, name: str, value: object) -> None:
    setattr(ctx, name, value)


def _argument(ctx: CallbackCtx, name: str, value: object) -> None:
    ctx.extra_init_kwargs[name] = value


def _group(ctx: CallbackCtx, numbers: Sequence[int]) -> None:
    ctx.placement_group = wing.make_group(numbers)


def _variable(ctx: CallbackCtx, value: str) -> None:
    ctx.runtime_env = {"env_vars": {**(ctx.runtime_env or {}).get("env_vars", {}), "CONTRACT": value}}


def _config(ctx: Any, name: str) -> None:
    """Change the config, which is refused in the replica; on a node it is a copy."""
    ctx.llm_config.engine_kwargs[name] = 7


def _config_model(ctx: Any) -> None:
    _note(ctx, "config", ctx.llm_config.model_id)


async def _ask(ctx: CallbackCtx) -> None:
    answer = await ask(ctx, "Where is the Eiffel tower?")
    _note(ctx, "answer", answer.choices[0].message.content)


async def _spawn(ctx: Ctx) -> None:
    """Let tasks do something at the same time, in order."""
    order: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(0.05 * (number % 2))
        order.append(number)

    await asyncio.gather(*map(one, range(4)))
    _note(ctx, "order", order)


ACTS: dict[str, Callable[..., Any]] = {
    "note": _note,
    "put": _put,
    "append": _append,
    "drop": _drop,
    "replace": _replace,
    "see": _see,
    "assign": _assign,
    "argument": _argument,
    "group": _group,
    "variable": _variable,
    "config": _config,
    "config's model": _config_model,
    "raise": lambda ctx, kind: RAISES[kind](),
    "sleep": lambda ctx, seconds: seconds,
    "ask": _ask,
    "spawn": _spawn,
    "return": lambda ctx, kind: RETURNS[kind](),
}
# What these give is raised, slept or awaited. The last two are for async hooks.
YIELDS = ("raise", "sleep", "ask", "spawn")


def _steps(drawn: Drawn, ctx: Any) -> Steps:
    """Do what a hook does; yield the seconds that it sleeps, what it awaits, and what it raises."""
    result: object = None
    if drawn.slots and _slot(ctx) not in drawn.slots:
        return result
    for what, *given in drawn.acts:
        result = ACTS[what](ctx, *given)
        if what in YIELDS:
            yield result  # type: ignore[misc]  # by its name
            result = None
    return result


def _next(steps: Steps) -> tuple[Any, object, bool]:
    """The next step, or the result; and whether that is the end."""
    try:
        return next(steps), None, False
    except StopIteration as end:
        return None, end.value, True


def _run(drawn: Drawn, ctx: Any) -> object:
    steps = _steps(drawn, ctx)
    while True:
        step, result, is_end = _next(steps)
        if is_end:
            return result
        if isinstance(step, BaseException):
            raise step
        time.sleep(step)  # what is awaited is drawn for async hooks only


async def _run_async(drawn: Drawn, ctx: Any) -> object:
    steps = _steps(drawn, ctx)
    while True:
        step, result, is_end = _next(steps)
        if is_end:
            return result
        if isinstance(step, BaseException):
            raise step
        await (asyncio.sleep(step) if isinstance(step, int | float) else step)


# -- making them ------------------------------------------------------------------------------------------------------


def made(drawn: Drawn) -> Any:
    """A drawn hook as an entry of ``hooks=[...]``."""
    hook = _named(_function(drawn, takes_kwargs=bool(drawn.kwargs)), drawn.name)
    # A registry of its own: the process's must not find these.
    decorated = HookRegistry().hook(drawn.point, **drawn.options)(hook)
    return {"hook": decorated, "kwargs": dict(drawn.kwargs)} if drawn.kwargs else decorated


def made_class(drawn: DrawnClass) -> Any:
    """A drawn class, or its instance. Its methods count what they see on ``self``."""

    def method(each: Drawn) -> Any:
        function = _function(each)

        def count(self: Any, ctx: Any) -> None:
            self.calls = [*getattr(self, "calls", []), each.point]
            ctx.custom_data[f"calls of {drawn.name}"] = list(self.calls)

        def with_self(self: Any, ctx: Any) -> Any:
            count(self, ctx)
            return function(ctx)

        async def async_with_self(self: Any, ctx: Any) -> Any:
            count(self, ctx)
            return await function(ctx)

        return async_with_self if each.is_async else with_self

    methods: dict[str, Any] = {each.point: _named(method(each), each.point) for each in drawn.methods}
    cls = type(drawn.name, (RayServeLLMCallback,), {**methods, "__module__": __name__})
    return cls() if drawn.is_made else cls


def made_phases(drawn: DrawnPhases) -> Any:
    """A drawn function for phases."""

    def phases(phase: str, config: Any, data: MutableMapping[str, Any]) -> Any:
        for key, value in drawn.phases.get(phase, {}).items():
            data[key] = deepcopy(value)
        if phase in drawn.raises:
            raise RAISES[drawn.raises[phase]]()
        return deepcopy(drawn.returns.get(phase))

    return _named(phases, drawn.name)


def _function(drawn: Drawn, *, takes_kwargs: bool = False) -> Any:
    if not drawn.is_async:

        def sync_hook(ctx: Any) -> Any:
            return _run(drawn, ctx)

        def sync_hook_with(ctx: Any, **kwargs: Any) -> Any:
            _note(ctx, f"parameters of {drawn.name}", kwargs)
            return _run(drawn, ctx)

        return sync_hook_with if takes_kwargs else sync_hook

    async def async_hook(ctx: Any) -> Any:
        return await _run_async(drawn, ctx)

    async def async_hook_with(ctx: Any, **kwargs: Any) -> Any:
        _note(ctx, f"parameters of {drawn.name}", kwargs)
        return await _run_async(drawn, ctx)

    return async_hook_with if takes_kwargs else async_hook


def _named(function: Any, name: str) -> Any:
    function.__name__ = function.__qualname__ = name
    return function
