"""One hook, without a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    HookError,
    HookRegistry,
    HookResultError,
    HookTimeoutError,
    NodeCtx,
    UnknownHookError,
    skip,
)
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    acall_hook,
    call_hook,
    callback_ctx,
    node_ctx,
)


def test_a_hook_on_a_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def fetch(ctx: NodeCtx, *, bucket: str) -> Any:
        ctx.model_path = f"/cache/{ctx.model_id}"
        return skip(f"from {bucket}") if not ctx.is_local else None

    ctx = node_ctx("m", node_id="node-1", is_local=False)
    assert call_hook(fetch, ctx, bucket="s3://b") == skip("from s3://b")
    assert ctx.model_path == "/cache/m"
    assert call_hook(fetch, node_ctx("m"), bucket="s3://b") is None


def test_a_hook_in_the_replica_with_any_field_set(hooks: HookRegistry) -> None:
    @hooks.hook("on_failure")
    def report(ctx: CallbackCtx) -> None:
        ctx.custom_data["told"] = str(ctx.error), ctx.engine, ctx.model_id

    ctx = callback_ctx("m", error=ValueError("x"), engine="engine", custom_data={"a": 1})
    call_hook(report, ctx)
    assert ctx.custom_data == {"a": 1, "told": ("x", "engine", "m")}


def test_a_hook_that_cleans_up_on_a_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_node_failure")
    def report(ctx: NodeCtx) -> None:
        ctx.custom_data["told"] = str(ctx.error)

    ctx = node_ctx("m", error=ValueError("x"))
    call_hook(report, ctx)
    assert ctx.custom_data == {"told": "x"}


def test_async_hooks_and_timeouts_take_no_time(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init", timeout_s=100)
    async def slow(ctx: CallbackCtx, *, seconds: float) -> None:
        await asyncio.sleep(seconds)

    call_hook(slow, callback_ctx(), seconds=99)
    with pytest.raises(HookTimeoutError):
        call_hook(slow, callback_ctx(), seconds=101)


def test_what_it_raises_and_returns_is_judged_as_in_a_run(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError("disk full")

    def wrong(ctx: CallbackCtx) -> Any:
        return "yes"

    with pytest.raises(HookError, match="disk full") as failure:
        call_hook(breaks, callback_ctx())
    assert isinstance(failure.value.__cause__, OSError)
    with pytest.raises(HookResultError, match="'yes'"):
        call_hook(wrong, callback_ctx(), point="on_before_init")


def test_the_wrong_kind_of_ctx_and_no_hook_at_all(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    @hooks.hook("on_after_node_download")
    def twice(ctx: NodeCtx) -> None: ...

    with pytest.raises(HarnessError, match=r"node_ctx\(\)"):
        call_hook(twice, callback_ctx())
    with pytest.raises(HarnessError, match="point="):
        call_hook(twice, node_ctx())
    call_hook(twice, node_ctx(), point="on_after_node_download")
    with pytest.raises(HarnessError, match="is no hook"):
        call_hook(lambda ctx: None, callback_ctx())
    misspelt: Any = "on_before_downlod"
    with pytest.raises(UnknownHookError, match="did you mean 'on_before_download'"):
        call_hook(lambda ctx: None, callback_ctx(), point=misspelt)


def test_in_an_async_test(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def veto(ctx: CallbackCtx) -> Any:
        await asyncio.sleep(60)
        return skip("not today")

    async def main() -> None:
        with pytest.raises(HarnessError, match="acall_hook"):
            call_hook(veto, callback_ctx())
        assert await acall_hook(veto, callback_ctx()) == skip("not today")

    asyncio.run(main())


def test_a_node_has_the_address_that_it_has_on_a_fake_cluster(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def look(ctx: NodeCtx) -> None:
        ctx.custom_data["place"] = [ctx.address, ctx.hostname]

    run = FakeCluster(nodes=257).run(FakeLLMConfig("m", hooks=[look]))
    assert run.ctx is not None
    assert run.ctx.nodes["node-0"].custom_data["place"] == ["10.0.0.1", "node-0"]
    assert run.ctx.nodes["node-256"].address == "10.0.1.1"
    ctx = node_ctx("m", node_id="node-256")
    call_hook(look, ctx)
    assert ctx.custom_data["place"] == run.ctx.nodes["node-256"].custom_data["place"]
    assert node_ctx("m", node_id="elsewhere").address == ""
