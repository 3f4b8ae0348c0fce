"""Classes whose methods are hooks, and classes that replace the whole initialization."""

from __future__ import annotations

import gc
import pickle
import re
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from serve_llm_hooks import (
    HookError,
    HookLoadError,
    HookPickleError,
    HookResultError,
    HookSignatureError,
    InitializeNodeOutput,
    RayServeLLMCallback,
    UnknownHookError,
    hook,
    load_hooks,
    skip,
)
from serve_llm_hooks.callbacks import class_hooks, initialization_hooks
from serve_llm_hooks.loading import select_hooks, warn_of_old_ways
from serve_llm_hooks.node import pack_hooks
from tests.unit.stub import FullConfig, Started, StubCluster, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx, NodeCtx, Skip

    WriteModule = Callable[[str, str], Path]

HERE = __name__


def run(cluster: StubCluster | None = None, hooks: Any = (), **fields: Any) -> Started:
    """A start with these fields of the config."""
    return start(config=FullConfig(hooks=hooks, **fields), cluster=cluster)


def refuse(error: type[Exception] = HookLoadError, **fields: Any) -> str:
    """What is said of wrong fields."""
    with pytest.raises(error) as caught:
        FullConfig(**fields).callback_hooks()
    return str(caught.value)


# -- a class --------------------------------------------------------------------------------------------------------


class EveryPoint(RayServeLLMCallback):
    """Counts its own calls; sync and async methods take turns."""

    def __init__(self, first: int = 0) -> None:
        self.count = first

    def up(self, ctx: CallbackCtx | NodeCtx) -> None:
        self.count += 1
        ctx.custom_data["count"] = self.count
        ctx.custom_data["id"] = id(self)

    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    async def on_before_download(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        self.up(ctx)

    async def on_after_node_download(self, ctx: NodeCtx) -> None:
        self.up(ctx)

    def on_after_download(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    async def on_after_placement_group(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    async def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    def on_after_engine_init(self, ctx: CallbackCtx) -> None:
        self.up(ctx)

    async def on_after_init(self, ctx: CallbackCtx) -> None:
        self.up(ctx)


@pytest.mark.parametrize("callback", [EveryPoint, f"{HERE}:EveryPoint", f"{HERE}.EveryPoint"])
def test_a_class_runs_at_its_points_on_one_object_per_process(callback: Any) -> None:
    ctx = run(callback=callback, callback_kwargs={"first": 10}).ctx
    assert [event.name for event in ctx.trace] == [
        *["on_before_init", "on_before_download"],
        *["on_before_node_download", "on_after_node_download"] * 3,
        *["on_after_download", "on_after_placement_group", "on_before_engine_init"],
        *["on_after_engine_init", "on_after_init"],
    ]
    assert [event.point for event in ctx.trace] == [event.name for event in ctx.trace]
    assert ctx.trace.events[0].hook == f"{HERE}:EveryPoint.on_before_init"
    assert ctx.custom_data["count"] == 10 + 7
    for node in ctx.nodes.values():  # a node has an object of its own, for both of its methods
        assert node.custom_data["count"] == 10 + 2
        assert node.custom_data["id"] != ctx.custom_data["id"]
    assert len({node.custom_data["id"] for node in ctx.nodes.values()}) == 3


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
    assert start(config=config).ctx.custom_data["count"] == 12
    assert mine.count == 12
    assert config.callback is mine
    # On a node it is a copy, with what it held when it was sent.
    assert {node.custom_data["count"] for node in start(config=config).ctx.nodes.values()} == {12 + 2 + 2}


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
    started = run(callback=Plain())
    assert [(event.name, event.detail) for event in started.ctx.trace] == [
        ("on_before_init", "by a static method"),
        ("on_custom_init", ""),
    ]
    assert started.ctx.custom_data == {"class": "Plain"}
    assert [event.name for event in run(callback=Plain).ctx.trace] == ["on_before_init", "on_custom_init"]


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
    assert run(hooks=[entry]).ctx.custom_data["count"] == first + 7


def test_twice_is_once_and_other_arguments_are_another_callback() -> None:
    mine = EveryPoint()
    assert run(hooks=[EveryPoint, EveryPoint], callback=EveryPoint).ctx.custom_data["count"] == 7
    assert run(hooks=[mine, mine], callback=mine).ctx.custom_data["count"] == 7
    two = [{"hook": EveryPoint, "kwargs": {"first": first}} for first in (1, 2)]
    assert run(hooks=two).names.count("on_after_init") == 2


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
    assert run(callback=AsksItsParent).names == [*names, "on_after_init"]
    assert {event.outcome for event in run(callback=AsksItsParent).ctx.trace} == {"ok"}
    assert run(callback=Grandchild).names == names


class Vetoes(RayServeLLMCallback):
    def on_before_node_download(self, ctx: NodeCtx) -> Skip | None:
        return skip("node-local copy") if ctx.node_id == "n1" else None

    async def on_before_init(self, ctx: CallbackCtx) -> bool:
        return True


def test_methods_veto_as_functions_do() -> None:
    nodes = run(callback=Vetoes).ctx.nodes
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
        run(callback=mine)
    assert mine.failures == ["mine", "HookError"]


class NotToday(RayServeLLMCallback):
    def __init__(self) -> None:
        raise ConnectionError("no metrics server")

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_a_constructor_that_fails_is_the_failure_of_the_first_method() -> None:
    with pytest.raises(HookError, match=r"NotToday\.on_after_init failed .*ConnectionError: no metrics server"):
        run(callback=NotToday)


def test_an_object_is_freed_with_its_run() -> None:
    hooks = select_hooks(FullConfig(callback=Owner))
    del hooks
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Owner)]


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

    assert "did you mean 'on_before_download'?" in refuse(UnknownHookError, callback=Mine)
    assert "did you mean 'on_before_download'?" in refuse(UnknownHookError, callback=Mine())
    with pytest.raises(UnknownHookError, match="did you mean 'on_before_download'"):
        load_hooks(Mine)


def test_a_class_without_hooks() -> None:
    message = refuse(callback=dict)
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
        ("text", "Mine.on_after_init is 'text'; a method at a hook point is `def on_after_init(self, ctx)`"),
        (staticmethod(lambda: None), "Mine.on_after_init() cannot be called with ctx alone"),
    ],
)
def test_a_method_that_does_not_take_ctx(value: Any, says: str) -> None:
    cls = method("on_after_init", value=value)
    for callback in (cls, cls()):
        message = refuse(HookSignatureError, callback=callback)
        assert says in message
        assert "a method at a hook point is `def on_after_init(self, ctx)`" in message


def test_a_method_that_tells_no_signature_is_taken_at_its_word() -> None:
    assert len(class_hooks(method("on_after_init", value=max)())) == 1
    assert len(class_hooks(method("on_after_init", value=partial(print, end="")))) == 1


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"frist": 1}, "there is no 'frist' (did you mean 'first'?)"),
        ({"first": 1, "more": 2}, "there is no 'more'"),
    ],
)
def test_arguments_that_do_not_fit_the_class(kwargs: dict[str, Any], says: str) -> None:
    message = refuse(HookSignatureError, callback=EveryPoint, callback_kwargs=kwargs)
    assert (
        message == f"{HERE}:EveryPoint(first: 'int' = 0) -> 'None' cannot be made with callback_kwargs={kwargs}: {says}"
    )
    with pytest.raises(HookSignatureError, match=r"cannot be made with kwargs=.* there is no '"):
        load_hooks({"hook": EveryPoint, "kwargs": kwargs})


@dataclass
class Needs(RayServeLLMCallback):
    bucket: str

    def on_after_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["bucket"] = self.bucket


def test_an_argument_that_is_missing() -> None:
    assert "missing a required argument: 'bucket'" in refuse(HookSignatureError, callback=Needs)
    misspelt = {"bukket": "b"}
    assert "did you mean 'bucket'?" in refuse(HookSignatureError, callback=Needs, callback_kwargs=misspelt)
    assert run(callback=Needs, callback_kwargs={"bucket": "b"}).ctx.custom_data == {"bucket": "b"}


def test_arguments_without_a_class() -> None:
    assert refuse(callback_kwargs={"bucket": "b"}) == (
        "callback_kwargs={'bucket': 'b'} without callback=...: there is nothing to make with them"
    )
    assert "initialization_kwargs={'a': 1} without initialization_class" in refuse(initialization_kwargs={"a": 1})


def test_arguments_for_an_object() -> None:
    message = refuse(callback=Needs("b"), callback_kwargs={"bucket": "c"})
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
        run(**fields)


def test_a_class_travels_without_what_its_object_has_become() -> None:
    assert len(run(callback=Locked).ctx.nodes) == 3
    (one,) = class_hooks(Locked)
    one.fn.holder.get()  # type: ignore[attr-defined]  # as if it had run here
    assert pickle.loads(pickle.dumps(one)).fn.holder.made is None


def test_another_error_is_that_of_loading() -> None:
    assert "has no 'Mising'" in refuse(AttributeError, callback=f"{HERE}:Mising")


# -- replace-everything ---------------------------------------------------------------------------------------------


class MyInit:
    def __init__(self, group: tuple[str, ...] = ("n2",)) -> None:
        self.group = group

    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        assert llm_config.model_id == "m"
        return InitializeNodeOutput(self.group, {"env_vars": {"A": "1"}}, {"max_model_len": 128})


@pytest.mark.parametrize("given", [MyInit, f"{HERE}.MyInit", MyInit()])
def test_a_replace_everything_class_is_a_veto_and_a_custom_init(given: Any) -> None:
    cluster = StubCluster()
    started = run(cluster, initialization_class=given)
    assert [(event.hook, event.point, event.outcome, event.detail) for event in started.ctx.trace] == [
        (f"{HERE}:MyInit", "on_before_init", "vetoed", "MyInit replaces the initialization"),
        (f"{HERE}:MyInit.initialize", "on_custom_init", "ok", ""),
    ]
    assert cluster.calls == ["configure None", "engine"]
    assert started.output == InitializeNodeOutput(("n2",), {"env_vars": {"A": "1"}}, {"max_model_len": 128})


def test_its_arguments() -> None:
    started = run(initialization_class=MyInit, initialization_kwargs={"group": ("n0", "n1")})
    assert started.output.placement_group == ("n0", "n1")
    assert "there is no 'gruop' (did you mean 'group'?)" in refuse(
        HookSignatureError, initialization_class=MyInit, initialization_kwargs={"gruop": ()}
    )


class LeavesThingsOut:
    def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput()


def test_what_it_leaves_out_is_the_default() -> None:
    cluster = StubCluster()
    output = run(cluster, initialization_class=LeavesThingsOut).output
    assert output == InitializeNodeOutput(cluster.nodes, None, {})


class ReturnsADict:
    async def initialize(self, llm_config: Any) -> dict[str, Any]:
        return {"placement_group": None}


def test_what_it_returns_is_checked() -> None:
    with pytest.raises(HookResultError, match=r"ReturnsADict\.initialize failed .* which has no placement_group; init"):
        run(initialization_class=ReturnsADict)


def test_a_class_that_initializes_nothing() -> None:
    message = refuse(initialization_class=Owner)
    assert message.startswith(
        f"initialization_class {HERE}:Owner has no method `async def initialize(self, llm_config)"
    )
    assert "callback=... with on_custom_init" in message

    class Wrong:
        async def initialize(self) -> None: ...

    assert "Wrong.initialize() -> 'None' does not fit (too many positional arguments); it is `async def" in refuse(
        HookSignatureError, initialization_class=Wrong
    )
    assert len(initialization_hooks(MyInit)) == 2


def test_it_is_deprecated_with_the_name_of_what_replaces_it() -> None:
    def make() -> None:
        warn_of_old_ways(FullConfig(initialization_class=MyInit), stacklevel=1)

    with pytest.warns(DeprecationWarning, match=re.escape("`async def on_custom_init(self, ctx)`")) as told:
        make()
    assert told[0].filename == __file__
    warn_of_old_ways(FullConfig(), stacklevel=1)  # silence


# -- all of them ----------------------------------------------------------------------------------------------------


def phase_function(phase: str, config: Any, data: Any) -> None: ...


@hook("on_before_init")
def decorated(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order=-1)
def early(ctx: CallbackCtx) -> None: ...


def test_the_order_is_that_of_the_configs_fields() -> None:
    started = run(
        hooks=[decorated, early], callbacks=[phase_function], callback=EveryPoint, initialization_class=MyInit
    )
    assert [event.hook.partition(":")[2] for event in started.ctx.trace if event.point == "on_before_init"] == [
        "early",
        "MyInit",
        "EveryPoint.on_before_init",
        "phase_function",
        "decorated",
    ]
