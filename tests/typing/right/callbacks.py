"""Every other way to write a callback, as its authors type it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from serve_llm_hooks import (
    Callback,
    CallbackCtx,
    CallbackRunner,
    EngineProcessCtx,
    InitializeNodeOutput,
    NodeCtx,
    RayServeLLMCallback,
    Skip,
    hook_options,
    load_callback,
    load_hooks,
    skip,
)
from serve_llm_hooks.ray import LLMConfig
from serve_llm_hooks_testing import FakeLLMConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

# -- a class ----------------------------------------------------------------------------------------------------------


class Sync(RayServeLLMCallback):
    """Made with an argument."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def on_custom_init(self, ctx: CallbackCtx) -> None:
        ctx.model_path = self.bucket

    def on_before_node_download(self, ctx: NodeCtx) -> Skip | None:
        return skip("cached") if ctx.is_local else None


class Async(RayServeLLMCallback):
    """Made without."""

    async def on_before_init(self, ctx: CallbackCtx) -> bool | Skip | None:
        return skip("ours")

    async def on_failure(self, ctx: CallbackCtx) -> None: ...


class Late(RayServeLLMCallback):
    """With options, which change no method's type."""

    checks_arguments = True

    @hook_options(until="on_after_engine_init", on_error="warn", model_id=["a", "b"], once_per_node="weights")
    async def on_before_node_download(self, ctx: NodeCtx) -> None: ...

    @hook_options(roles=["core", "worker"])
    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None: ...


class Plain:
    """Inherits nothing."""

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


# -- a phase function -------------------------------------------------------------------------------------------------


def returns_nothing(phase: str, config: Any, data: MutableMapping[str, Any]) -> None:
    data["skip_default"] = True


def returns_a_dict(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    return {"extra_init_kwargs": {"max_model_len": 128}}


async def is_async(phase: str, config: object, data: Mapping[str, Any]) -> dict[str, Any]:
    return {}


class Counter:
    """An object."""

    calls: int = 0

    async def __call__(self, phase: str, config: Any, data: MutableMapping[str, Any]) -> None: ...


callback: Callback = returns_a_dict
others: list[Callback] = [returns_nothing, is_async, Counter()]


async def on_its_own() -> None:
    runner = CallbackRunner([returns_nothing, "pkg.mod:fn", Counter])
    assert_type(await runner.run("warm_up", config=None), dict[str, Any])
    runner.set("bucket", "b")
    assert_type(runner.data, dict[str, Any])
    load_callback("pkg.mod:fn")("phase", None, {})
    CallbackRunner()
    CallbackRunner(None)


# -- one that replaces everything -------------------------------------------------------------------------------------


class MyInit:
    """Replaces the initialization."""

    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput()


# -- in a config ------------------------------------------------------------------------------------------------------

LLMConfig(
    model_id="m",
    hooks=["pkg.mod", Sync, Async(), {"hook": Sync, "kwargs": {"bucket": "b"}}],
    callback=Sync,
    callback_kwargs={"bucket": "b"},
    callbacks=[returns_nothing, is_async, Counter, Counter(), "pkg.mod:fn"],
    initialization_class=MyInit,
    initialization_kwargs={"a": 1},
    accelerator_type="L4",
)
LLMConfig(model_id="m", callback="pkg.mod:Mine", initialization_class="pkg.mod.MyInit")
LLMConfig(model_id="m", callback=Plain(), callbacks=None)
FakeLLMConfig(
    "m",
    callback=Async(),
    callbacks=(returns_a_dict, "pkg.mod.fn"),
    initialization_class=MyInit,
)
FakeLLMConfig("m", callback="pkg.mod:Mine", callback_kwargs={"bucket": "b"})
LLMConfig(model_id="m", weights="late")
FakeLLMConfig("m", weights="late")
load_hooks(Sync, Async(), {"hook": "pkg.mod:Mine", "kwargs": {}})
