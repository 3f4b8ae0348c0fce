"""Callbacks that do not fit, in every way to write one."""

from __future__ import annotations

from typing import Any

from serve_llm_hooks import (
    Callback,
    CallbackCtx,
    CallbackRunner,
    NodeCtx,
    RayServeLLMCallback,
    Skip,
    hook_options,
    skip,
)
from serve_llm_hooks.ray import LLMConfig
from serve_llm_hooks_testing import FakeLLMConfig

# -- a class ----------------------------------------------------------------------------------------------------------


class WrongCtx(RayServeLLMCallback):
    """Another ctx than the point's."""

    def on_before_init(self, ctx: NodeCtx) -> None: ...  # error: "on_before_init"

    async def on_after_init(self, ctx: NodeCtx) -> None: ...  # error: "on_after_init"

    def on_before_node_download(self, ctx: CallbackCtx) -> None: ...  # error: "on_before_node_download"

    async def on_after_node_download(self, ctx: CallbackCtx) -> None: ...  # error: "on_after_node_download"

    def on_before_engine_init(self) -> None: ...  # error: "on_before_engine_init"

    def on_after_download(self, ctx: CallbackCtx, bucket: str) -> None: ...  # error: "on_after_download"


class WrongOption(RayServeLLMCallback):
    """An option that there is not."""

    @hook_options(timeout=3)  # error: "timeout"
    def on_after_init(self, ctx: CallbackCtx) -> None: ...


class WrongResult(RayServeLLMCallback):
    """Another result than the point takes."""

    def on_before_init(self, ctx: CallbackCtx) -> str:  # error: "on_before_init"
        return "no"

    async def on_before_download(self, ctx: CallbackCtx) -> int:  # error: "on_before_download"
        return 0

    def on_custom_init(self, ctx: CallbackCtx) -> bool:  # error: "on_custom_init"
        return False

    async def on_after_init(self, ctx: CallbackCtx) -> bool:  # error: "on_after_init"
        return False

    def on_after_node_download(self, ctx: NodeCtx) -> Skip:  # error: "on_after_node_download"
        return skip("no")


class WrongField(RayServeLLMCallback):
    """Its ctx is checked as a function's."""

    def on_before_download(self, ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "ALL"  # error: 'ALL'
        ctx.model_pth = "/models"  # error: "model_pth"


class NeedsABucket(RayServeLLMCallback):
    """Made with an argument."""

    def __init__(self, bucket: str) -> None: ...


NeedsABucket(bukket="b")  # error: "bukket"


# -- a phase function -------------------------------------------------------------------------------------------------


def takes_two(phase: str, config: Any) -> None: ...


def returns_a_list(phase: str, config: Any, data: Any) -> list[str]:
    return []


async def returns_text(phase: str, config: Any, data: Any) -> str:
    return ""


def takes_a_dict(phase: str, config: Any, data: dict[str, Any]) -> None: ...


class TakesNothing:
    """An object that is called with nothing."""

    def __call__(self) -> None: ...


one: Callback = takes_two  # error: "Callback"
two: Callback = returns_a_list  # error: "Callback"
three: Callback = returns_text  # error: "Callback"
four: Callback = takes_a_dict  # error: "Callback"
five: Callback = TakesNothing()  # error: "Callback"


async def on_its_own() -> None:
    await CallbackRunner().run()  # error: "run"
    CallbackRunner(callback=one)  # error: "callback"


# -- in a config ------------------------------------------------------------------------------------------------------

LLMConfig(model_id="m", callbacks=[takes_two])  # error: Callback | type
LLMConfig(model_id="m", callbacks=takes_two)  # error: No overload variant of "LLMConfig"
LLMConfig(model_id="m", callback_kwargs=["b"])  # error: No overload variant of "LLMConfig"
LLMConfig(model_id="m", initialization_class=3)  # error: No overload variant of "LLMConfig"
LLMConfig(model_id="m", hooks="pkg.mod", callback_kwargs=None)  # error: No overload variant of "LLMConfig"
FakeLLMConfig("m", callbacks=[returns_a_list])  # error: Callback | type
FakeLLMConfig("m", callbacks=[3])  # error: Callback | type
FakeLLMConfig("m", callback_kwargs={1: 2})  # error: "int"
FakeLLMConfig("m", initialization_class=WrongCtx())  # error: "initialization_class"
FakeLLMConfig("m", calback=WrongCtx)  # error: "calback"
LLMConfig(model_id="m", weights="soon")  # error: No overload variant of "LLMConfig"
FakeLLMConfig("m", weights="soon")  # error: "weights"
