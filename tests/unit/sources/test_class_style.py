"""Classes whose methods are hooks."""

from __future__ import annotations

import gc
import pickle
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from serve_llm_hooks import (
    HOOK_POINTS,
    HookError,
    HookPickleError,
    HookSignatureError,
    RayServeLLMCallback,
    UnknownHookError,
    hook_options,
    load_hooks,
    skip,
)
from serve_llm_hooks._core.messages import masked
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._node.packing import pack_hooks
from serve_llm_hooks._sources.class_style import hooks_of_class
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import (
    BEFORE_SECOND_TASK,
    GOOD_POINTS,
    IN_FIRST_TASK,
    IN_REPLICA,
    IN_SECOND_TASK,
    ON_NODES,
    FullConfig,
    Started,
    refusal,
    start,
    start_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx, EngineProcessCtx, HookPoint, NodeCtx, Skip

    WriteModule = Callable[[str, str], Path]

HERE = __name__


# -- a class --------------------------------------------------------------------------------------------------------


class Counts(RayServeLLMCallback):
    """Counts its own calls."""

    def __init__(self, first: int = 0) -> None:
        self.count = first

    def up(self, ctx: CallbackCtx | NodeCtx) -> None:
        if type(ctx).__name__ == "EngineProcessCtx":  # from which nothing comes back
            return
        self.count += 1
        ctx.custom_data["count"] = self.count
        ctx.custom_data["id"] = id(self)
        if type(ctx).__name__ == "NodeCtx":  # a node's second process finds what the first has left
            ctx.custom_data["counts"] = {**ctx.custom_data.get("counts", {}), id(ctx): self.count}


def method_at(point: str, *, is_async: bool) -> Any:
    """Return a method for a point, which counts its calls."""

    def sync(self: Counts, ctx: CallbackCtx | NodeCtx) -> None:
        self.up(ctx)

    async def awaits(self: Counts, ctx: CallbackCtx | NodeCtx) -> None:
        self.up(ctx)

    method = awaits if is_async else sync
    method.__name__, method.__qualname__ = point, f"EveryPoint.{point}"
    return method


METHODS: dict[str, Any] = {
    row.name: method_at(row.name, is_async=i % 2 == 1 and not row.in_process) for i, row in enumerate(GOOD_POINTS)
}
EveryPoint = type("EveryPoint", (Counts,), {"__module__": HERE, **METHODS})
"""Sync and async methods take turns."""


@pytest.mark.parametrize("callback", [EveryPoint, f"{HERE}:EveryPoint", f"{HERE}.EveryPoint"])
def test_a_class_runs_at_its_points_on_one_object_per_process(callback: Any) -> None:
    ctx = start_with(callback=callback, callback_kwargs={"first": 10}).ctx
    assert [event.name for event in ctx.trace if event.name not in ON_NODES and not event.process] == IN_REPLICA
    assert [event.process for event in ctx.trace if event.process] == ["frontend", "core", "worker-0"]
    on_nodes = [event.name for event in ctx.trace if event.name in ON_NODES]
    assert on_nodes == [*IN_FIRST_TASK * 3, *IN_SECOND_TASK * 3]
    assert [event.point for event in ctx.trace] == [event.name for event in ctx.trace]
    assert ctx.trace.events[0].hook == f"{HERE}:EveryPoint.on_before_init"
    assert ctx.custom_data["count"] == 10 + len(IN_REPLICA)
    for node in ctx.nodes.values():  # a process on a node has an object of its own, for all of its methods
        assert node.custom_data["count"] == 10 + len(IN_SECOND_TASK)
        assert [*node.custom_data["counts"].values()] == [10 + len(IN_FIRST_TASK), 10 + len(IN_SECOND_TASK)]
        assert node.custom_data["id"] != ctx.custom_data["id"]
    assert len({node.custom_data["id"] for node in ctx.nodes.values()}) == 3


@pytest.mark.parametrize("row", HOOK_POINTS.values(), ids=list(HOOK_POINTS))
def test_the_class_to_inherit_has_the_method_of_a_row(row: HookPoint) -> None:
    method = vars(RayServeLLMCallback)[row.name]
    answer = "_Vetoes" if row.may_veto else "_Nothing" if row.during == "start" else "_AtTheEnd"
    answer = "None" if row.in_process else answer
    assert method.__annotations__ == {"ctx": row.context, "return": answer}
    assert method.__doc__ == f"{row.purpose[0].upper()}{row.purpose[1:]}."


def test_the_class_to_inherit_has_no_other() -> None:
    assert [name for name in vars(RayServeLLMCallback) if name.startswith("on_")] == list(HOOK_POINTS)


class Owner(RayServeLLMCallback):
    """Keeps itself where a test finds it."""

    def on_before_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["owner"] = self

    def on_after_init(self, ctx: CallbackCtx) -> None:
        assert ctx.custom_data["owner"] is self


def owner(started: Started) -> object:
    return started.ctx.custom_data["owner"]


def test_every_run_has_an_object_of_its_own_however_the_class_came() -> None:
    config = FullConfig(callback=Owner)
    assert owner(start(config=config)) is not owner(start(config=config))
    named = load_hooks(Owner)
    assert owner(start(named)) is not owner(start(named))
    assert config.callback is Owner
    models = [owner(start(config=FullConfig(model_id=model_id, hooks=[Owner]))) for model_id in "ab"]
    assert models[0] is not models[1]


def test_an_object_stays_the_object() -> None:
    mine = EveryPoint(first=5)
    config = FullConfig(callback=mine)
    count = 5 + len(IN_REPLICA)
    assert start(config=config).ctx.custom_data["count"] == count
    assert mine.count == count
    assert config.callback is mine
    # On a node it is a copy, with what it held when it was sent.
    assert {tuple(node.custom_data["counts"].values()) for node in start(config=config).ctx.nodes.values()} == {
        (
            count + IN_REPLICA.index("on_after_download") + len(IN_FIRST_TASK),
            count + len(BEFORE_SECOND_TASK) + len(IN_SECOND_TASK),
        )
    }


class Plain:
    """Inherits nothing; has one method too many for a hook, and one attribute that is none."""

    on_failure = None
    seen = ""

    @staticmethod
    def on_before_init(ctx: CallbackCtx) -> Skip:
        return skip("by a static method")

    @classmethod
    def on_custom_init(cls, ctx: CallbackCtx) -> None:
        ctx.custom_data["class"] = cls.__name__

    def helper(self, ctx: CallbackCtx, more: int) -> None: ...


def test_a_plain_class_does_as_well() -> None:
    started = start_with(callback=Plain())
    assert [(event.name, event.detail) for event in started.ctx.trace] == [
        ("on_before_init", "by a static method"),
        ("on_custom_init", ""),
    ]
    assert started.ctx.custom_data == {"class": "Plain"}
    assert [event.name for event in start_with(callback=Plain).ctx.trace] == ["on_before_init", "on_custom_init"]


@pytest.mark.parametrize(
    ("entry", "first"),
    [
        (EveryPoint, 0),
        (EveryPoint(), 0),
        (f"{HERE}:EveryPoint", 0),
        ({"hook": f"{HERE}:EveryPoint", "kwargs": {"first": 3}}, 3),
        ({"hook": EveryPoint, "kwargs": {"first": 3}}, 3),
        ({"hook": EveryPoint}, 0),
        ({"hook": EveryPoint(3)}, 3),
    ],
)
def test_a_class_stands_in_hooks_too(entry: Any, first: int) -> None:
    assert start_with(hooks=[entry]).ctx.custom_data["count"] == first + len(IN_REPLICA)


def test_twice_is_once_and_other_arguments_are_another_callback() -> None:
    mine = EveryPoint()
    assert start_with(hooks=[EveryPoint, EveryPoint], callback=EveryPoint).ctx.custom_data["count"] == len(IN_REPLICA)
    assert start_with(hooks=[mine, mine], callback=mine).ctx.custom_data["count"] == len(IN_REPLICA)
    two = [{"hook": EveryPoint, "kwargs": {"first": first}} for first in (1, 2)]
    assert start_with(hooks=two).names.count("on_after_init") == 2


def test_a_module_named_in_hooks_does_not_bring_its_classes(write_module: WriteModule) -> None:
    write_module("shop", "class C:\n    def on_after_init(self, ctx): 1/0\n@hook('on_after_init')\ndef f(ctx): pass\n")
    assert [one.name for one in load_hooks("shop")] == ["f"]


class AsksItsParent(RayServeLLMCallback):
    """``super()`` may be called, and does nothing."""

    def on_before_init(self, ctx: CallbackCtx) -> Any:
        return super().on_before_init(ctx)

    def on_before_download(self, ctx: CallbackCtx) -> Any:
        return super().on_before_download(ctx)

    def on_before_node_download(self, ctx: NodeCtx) -> Any:
        return super().on_before_node_download(ctx)

    def on_after_init(self, ctx: CallbackCtx) -> Any:
        return super().on_after_init(ctx)


class Grandchild(AsksItsParent):
    on_after_init = RayServeLLMCallback.on_after_init  # as if it had never been overridden


def test_inheritance() -> None:
    names = ["on_before_init", "on_before_download", *["on_before_node_download"] * 3]
    assert start_with(callback=AsksItsParent).names == [*names, "on_after_init"]
    assert {event.outcome for event in start_with(callback=AsksItsParent).ctx.trace} == {"ok"}
    assert start_with(callback=Grandchild).names == names


class Vetoes(RayServeLLMCallback):
    def on_before_node_download(self, ctx: NodeCtx) -> Skip | None:
        return skip("node-local copy") if ctx.node_id == "n1" else None

    async def on_before_init(self, ctx: CallbackCtx) -> bool:
        return True


def test_methods_veto_as_functions_do() -> None:
    nodes = start_with(callback=Vetoes).ctx.nodes
    assert [node.skipped for node in nodes.values()] == [None, "node-local copy", None]


class Fails(RayServeLLMCallback):
    def __init__(self) -> None:
        self.failures: list[str] = []

    def on_before_engine_init(self, ctx: CallbackCtx) -> NoReturn:
        self.failures.append("mine")
        raise OSError("no")

    def on_failure(self, ctx: CallbackCtx) -> None:
        self.failures.append(type(ctx.error).__name__)


def test_state_is_there_in_on_failure() -> None:
    mine = Fails()
    with pytest.raises(HookError, match=r"Fails\.on_before_engine_init failed at on_before_engine_init .*OSError: no"):
        start_with(callback=mine)
    assert mine.failures == ["mine", "HookError"]


class NotToday(RayServeLLMCallback):
    def __init__(self) -> None:
        raise ConnectionError("no metrics server")

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_a_constructor_that_fails_is_the_failure_of_the_first_method() -> None:
    with pytest.raises(HookError, match=r"NotToday\.on_after_init failed .*ConnectionError: no metrics server"):
        start_with(callback=NotToday)


def test_an_object_is_freed_with_its_run() -> None:
    hooks = hooks_of_config(FullConfig(callback=Owner))
    del hooks
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is Owner]


# -- wrong classes --------------------------------------------------------------------------------------------------


def test_a_misspelt_method_is_told_where_the_class_is_written() -> None:
    with pytest.raises(UnknownHookError) as caught:
        type("Mine", (RayServeLLMCallback,), {"on_before_downlod": lambda self, ctx: None})
    assert "Mine has a method 'on_before_downlod', which is no hook point (did you mean 'on_before_download'?)" in str(
        caught.value
    )
    assert "If it is no hook, do not let its name begin with 'on_'" in str(caught.value)


def test_a_misspelt_method_of_a_plain_class_is_told_when_the_config_is_made() -> None:
    class Mine:
        def on_before_downlod(self, ctx: CallbackCtx) -> None: ...

    assert "did you mean 'on_before_download'?" in refusal(UnknownHookError, callback=Mine)
    assert "did you mean 'on_before_download'?" in refusal(UnknownHookError, callback=Mine())
    with pytest.raises(UnknownHookError, match="did you mean 'on_before_download'"):
        load_hooks(Mine)


def test_a_class_without_hooks() -> None:
    message = refusal(callback=dict)
    assert message.startswith("callback builtins:dict has no hooks: name its methods after hook points")
    assert "on_before_download(self, ctx)" in message


def method(*names: str, value: Any) -> type:
    return type("Mine", (), dict.fromkeys(names, value))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda self: None, "Mine.on_after_init() cannot be called with ctx alone (too many positional arguments)"),
        (lambda self, ctx, bucket: None, "cannot be called with ctx alone (missing a required argument: 'bucket')"),
        (lambda self, ctx, *, to: None, "Mine.on_after_init(ctx, *, to) cannot be called with ctx alone (missing a"),
        ("text", "Mine.on_after_init is a str; a method at a hook point is `def on_after_init(self, ctx)`"),
        (staticmethod(lambda: None), "Mine.on_after_init() cannot be called with ctx alone"),
    ],
)
def test_a_method_that_does_not_take_ctx(value: Any, says: str) -> None:
    cls = method("on_after_init", value=value)
    for callback in (cls, cls()):
        message = refusal(HookSignatureError, callback=callback)
        assert says in message
        assert "a method at a hook point is `def on_after_init(self, ctx)`" in message


def test_a_method_that_tells_no_signature_is_taken_at_its_word() -> None:
    assert len(hooks_of_class(method("on_after_init", value=max)())) == 1
    assert len(hooks_of_class(method("on_after_init", value=partial(print, end="")))) == 1


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"frist": 1}, "there is no 'frist' (did you mean 'first'?)"),
        ({"first": 1, "more": 2}, "there is no 'more'"),
    ],
)
def test_arguments_that_do_not_fit_the_class(kwargs: dict[str, Any], says: str) -> None:
    message = refusal(HookSignatureError, callback=EveryPoint, callback_kwargs=kwargs)
    assert message == f"{HERE}:EveryPoint(first=…) cannot be made with callback_kwargs={masked(kwargs)}: {says}"
    with pytest.raises(HookSignatureError, match=r"cannot be made with kwargs=.* there is no '"):
        load_hooks({"hook": EveryPoint, "kwargs": kwargs})


@dataclass
class Needs(RayServeLLMCallback):
    bucket: str

    def on_after_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["bucket"] = self.bucket


def test_an_argument_that_is_missing() -> None:
    assert "missing a required argument: 'bucket'" in refusal(HookSignatureError, callback=Needs)
    misspelt = {"bukket": "b"}
    assert "did you mean 'bucket'?" in refusal(HookSignatureError, callback=Needs, callback_kwargs=misspelt)
    assert start_with(callback=Needs, callback_kwargs={"bucket": "b"}).ctx.custom_data == {"bucket": "b"}


class Checked(RayServeLLMCallback):
    checks_arguments = True

    def __init__(self, seats: int) -> None:
        if seats < 1:
            raise ValueError("seats= is at least 1")

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_an_argument_that_the_constructor_refuses_is_told_with_the_config() -> None:
    message = refusal(HookSignatureError, callback=Checked, callback_kwargs={"seats": 0})
    assert message == f"{HERE}:Checked cannot be made with callback_kwargs={{'seats': …}}: seats= is at least 1"
    with pytest.raises(HookSignatureError, match=r"with kwargs=\{'seats': …\}: seats= is at least 1"):
        load_hooks({"hook": f"{HERE}:Checked", "kwargs": {"seats": -1}})
    assert start_with(callback=Checked, callback_kwargs={"seats": 1}).ctx.error is None


def test_a_constructor_that_does_more_is_not_called_with_the_config() -> None:
    class Made(RayServeLLMCallback):
        def __init__(self) -> None:
            raise AssertionError("made too early")

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    assert [hook.name for hook in load_hooks(Made)] == ["on_after_init"]


# -- options of methods -----------------------------------------------------------------------------------------------


class WithOptions(RayServeLLMCallback):
    @hook_options(model_id="llama-*", order=3, before="one", after=["two"], timeout_s=5, on_error="warn")
    def on_before_init(self, ctx: CallbackCtx) -> None:
        raise LookupError("only warned of")

    @hook_options(until="on_after_engine_init")
    async def on_before_node_download(self, ctx: NodeCtx) -> None:
        ctx.custom_data["fetched"] = True

    @hook_options(roles="worker")
    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None: ...

    @hook_options(order=-1)
    @staticmethod
    def on_after_engine_init(ctx: CallbackCtx) -> None:
        ctx.custom_data["fetched"] = [node.custom_data["fetched"] for node in ctx.nodes.values()]

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_a_method_has_the_options_that_it_was_given() -> None:
    options = {hook.point: hook.options for hook in load_hooks(WithOptions)}
    first = options["on_before_init"]
    assert (first.model_ids, first.order, first.timeout_s, first.on_error) == (("llama-*",), 3, 5.0, "warn")
    assert (first.before, first.after) == (("one",), ("two",))
    assert options["on_engine_process_start"].roles == ("worker",)
    assert options["on_after_engine_init"].order == -1
    assert options["on_after_init"] == HookOptions("on_after_init")
    assert pickle.loads(pickle.dumps(load_hooks(WithOptions).hooks()[0])).options == first

    class Other(WithOptions):
        def on_before_init(self, ctx: CallbackCtx) -> None: ...

    inherited = {hook.point: hook.options for hook in load_hooks(Other)}
    assert inherited["on_before_init"] == HookOptions("on_before_init")
    assert inherited["on_engine_process_start"].roles == ("worker",)


@pytest.mark.parametrize("form", [WithOptions, WithOptions()])
def test_the_options_of_a_method_hold_in_a_start(form: Any) -> None:
    ctx = start_with(callback=form, model_id="llama-2").ctx
    assert ctx.custom_data["fetched"] == [True] * 3
    outcomes = {event.point: event.outcome for event in ctx.trace}
    assert outcomes["on_before_init"] == "warned"
    assert [event.process for event in ctx.trace if event.process] == ["worker-0"]


@pytest.mark.parametrize(
    ("name", "options", "kind", "told"),
    [
        ("on_before_init", {"timeout": 3}, TypeError, "@hook_options takes no timeout=.*did you mean 'timeout_s'"),
        ("warm_up", {"order": 1}, UnknownHookError, "warm_up"),
        ("on_after_init", {"until": "on_before_init"}, ValueError, "that point does not come later"),
        ("on_after_init", {"roles": "worker"}, ValueError, "roles= is for hooks at on_engine_process_start"),
    ],
)
def test_a_wrong_option_of_a_method(name: str, options: Any, kind: type[Exception], told: str) -> None:
    def method(self: object, ctx: object) -> None: ...

    method.__name__ = name
    with pytest.raises(kind, match=told):
        hook_options(**options)(method)


def test_arguments_without_a_class() -> None:
    assert refusal(callback_kwargs={"bucket": "b"}) == (
        "callback_kwargs={'bucket': …} without callback=...: there is nothing to make with them"
    )
    assert "initialization_kwargs={'a': …} without initialization_class" in refusal(initialization_kwargs={"a": 1})


def test_arguments_for_an_object() -> None:
    message = refusal(callback=Needs("b"), callback_kwargs={"bucket": "c"})
    assert message == (
        f"callback_kwargs are the arguments of a class, but {HERE}:Needs is given as an object: give them to it "
        "where it is made"
    )


class Slotted(RayServeLLMCallback):
    __slots__ = ("empty", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def on_after_node_download(self, ctx: NodeCtx) -> None: ...


class Locked(RayServeLLMCallback):
    def __init__(self, lock: Any = None) -> None:
        self.name = "fine"
        self.lock = lock or threading.Lock()

    def on_after_node_download(self, ctx: NodeCtx) -> None: ...


@pytest.mark.parametrize(
    ("fields", "name", "what"),
    [
        ({"callback": Locked()}, "Locked", "the attribute 'lock' of its object (lock)"),
        ({"callback": Slotted()}, "Slotted", "the attribute 'lock' of its object (lock)"),
        (
            {"callback": Locked, "callback_kwargs": {"lock": threading.Lock()}},
            "Locked",
            "the argument 'lock' of its class (lock)",
        ),
    ],
)
def test_what_cannot_be_pickled_is_named(fields: dict[str, Any], name: str, what: str) -> None:
    with pytest.raises(HookPickleError) as caught:
        pack_hooks(FullConfig(**fields).callback_hooks())
    assert str(caught.value).startswith(
        f"hook {HERE}:{name}.on_after_node_download at on_after_node_download cannot be sent to another process: "
        f"{what} cannot be pickled: "
    )
    assert "Give the class and its arguments" in str(caught.value)
    with pytest.raises(HookPickleError):
        start_with(**fields)


def test_a_class_travels_without_what_its_object_has_become() -> None:
    assert len(start_with(callback=Locked).ctx.nodes) == 3
    (one,) = hooks_of_class(Locked)
    assert one.instance is not None
    one.instance.get()  # as if it had run here
    assert pickle.loads(pickle.dumps(one)).instance.made is None


def test_another_error_is_that_of_loading() -> None:
    assert "has no 'Mising'" in refusal(AttributeError, callback=f"{HERE}:Mising")
