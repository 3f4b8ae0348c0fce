"""One hook, without a cluster."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    EngineArgumentError,
    HookError,
    HookPickleError,
    HookRegistry,
    HookResultError,
    HookTimeoutError,
    NodeCtx,
    NodeResult,
    PlacementGroupError,
    UnknownHookError,
    ask,
    skip,
)
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeEngine,
    FakeLLMConfig,
    FakePlacementGroup,
    HarnessError,
    HarnessWarning,
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


def test_a_hook_on_a_node_comes_too_late_for_the_engine(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_node_engine_init")
    def too_late(ctx: NodeCtx) -> None:
        ctx.model_path = "/elsewhere"

    with pytest.raises(HookError, match="on_after_node_download is the last point at which it can"):
        call_hook(too_late, node_ctx("m"))


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
    with pytest.raises(HookResultError, match="it returned a str; a hook at on_before_init returns"):
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


def test_it_refuses_an_assignment_that_comes_too_late(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_engine_init")
    def too_late(ctx: CallbackCtx) -> None:
        ctx.model_path = "/elsewhere"

    @hooks.hook("on_after_engine_init")
    def argument_too_late(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["seed"] = 7

    ctx = callback_ctx()
    with pytest.raises(HookError, match="cannot be changed any more"):
        call_hook(too_late, ctx)
    with pytest.raises(HookError, match=r"ctx.extra_init_kwargs cannot be changed any more.* on_before_engine_init is"):
        call_hook(argument_too_late, ctx)
    ctx.extra_init_kwargs["seed"] = 7  # the test's own, for the next call
    ctx.model_path = "/elsewhere"


def test_a_failure_behind_the_engine_closes_the_context(hooks: HookRegistry) -> None:
    @hooks.hook("on_failure")
    def writes(ctx: CallbackCtx) -> None:
        ctx.model_path = "/elsewhere"

    call_hook(writes, callback_ctx(error=OSError()))
    with pytest.raises(HookError, match="cannot be changed any more"):
        call_hook(writes, callback_ctx(error=OSError(), engine=FakeEngine()))


def test_it_refuses_what_cannot_leave_a_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_node_download")
    def keeps_a_lock(ctx: NodeCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()

    with pytest.raises(HookPickleError, match=r"ctx\.custom_data\['lock'\].*cannot leave node node-1"):
        call_hook(keeps_a_lock, node_ctx(node_id="node-1"))


def test_what_cannot_leave_the_replica_is_told(hooks: HookRegistry) -> None:
    def keeps_a_lock(ctx: CallbackCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()

    with pytest.warns(HarnessWarning, match=r"'lock'.*a run refuses this if a hook runs on nodes"):
        call_hook(keeps_a_lock, callback_ctx(), point="on_before_init")
    call_hook(keeps_a_lock, callback_ctx(), point="on_after_init")  # where nothing is sent any more


def test_the_nodes_cannot_be_written(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_download")
    def writes(ctx: CallbackCtx) -> None:
        nodes: Any = ctx.nodes
        nodes["node-0"] = None

    with pytest.raises(HookError, match="TypeError"):
        call_hook(writes, callback_ctx(nodes={"node-0": NodeResult("node-0")}))


def test_it_refuses_a_changed_config_and_a_late_group(hooks: HookRegistry) -> None:
    def changes_the_config(ctx: CallbackCtx) -> None:
        ctx.llm_config.engine_kwargs["seed"] = 7

    def replaces_the_group(ctx: CallbackCtx) -> None:
        ctx.placement_group = FakePlacementGroup(["node-0"])

    def names_the_model(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["model"] = "/m"

    with pytest.raises(EngineArgumentError, match=r"Set ctx\.extra_init_kwargs\['seed'\] instead"):
        call_hook(changes_the_config, callback_ctx(), point="on_before_init")
    with pytest.raises(PlacementGroupError, match="too late for its nodes"):
        call_hook(replaces_the_group, callback_ctx(), point="on_before_engine_init")
    call_hook(replaces_the_group, callback_ctx(), point="on_after_placement_group")
    with pytest.raises(EngineArgumentError, match=r"set ctx\.model_path"):
        call_hook(names_the_model, callback_ctx(), point="on_before_engine_init")


SEEN = {
    "on_before_download": None,
    "on_after_download": "/models/m",
    "on_before_engine_init": "/models/m",
    "on_after_init": "/models/m",
    "on_failure": None,
}


@pytest.mark.parametrize("point", SEEN)
def test_a_hook_finds_what_it_finds_in_a_run(point: Any) -> None:
    seen: list[Any] = []

    def look(ctx: CallbackCtx) -> None:
        seen.append((ctx.model_path, ctx.runtime_env, ctx.placement_group.node_ids))

    config = FakeLLMConfig("m", [], runtime_env={"env_vars": {"A": "1"}})
    call_hook(look, callback_ctx("m", llm_config=config), point=point)
    assert seen == [(SEEN[point], {"env_vars": {"A": "1"}}, ("node-0",))]


def test_a_path_that_is_given_stays(hooks: HookRegistry) -> None:
    seen: list[Any] = []

    def look(ctx: NodeCtx) -> None:
        seen.append(ctx.model_path)

    for ctx in (node_ctx("m"), node_ctx("m", model_path=None), node_ctx("m", model_path="/x"), node_ctx("m")):
        call_hook(look, ctx, point="on_after_node_download")
    call_hook(look, node_ctx("m"), point="on_before_node_download")
    call_hook(look, node_ctx("m", download_model="NONE"), point="on_after_node_download")
    assert seen == ["/models/m", None, "/x", "/models/m", None, "m"]


def test_a_hook_that_lacks_its_engine_is_told_how_to_give_it_one(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_engine_init")
    async def warm(ctx: CallbackCtx) -> None:
        await ask(ctx, "Hello!")

    @hooks.hook("on_after_init")
    async def check(ctx: CallbackCtx) -> None:
        await ctx.engine.check_health()

    @hooks.hook("on_after_init")
    def fails(ctx: CallbackCtx) -> None:
        raise OSError("disk full")

    for one in (warm, check):
        with pytest.raises(HookError) as raised:
            call_hook(one, callback_ctx())
        assert raised.value.__notes__ == ["this ctx has no engine: give the hook callback_ctx(engine=FakeEngine())"]
        call_hook(one, callback_ctx("m", engine=FakeEngine(model_id="m")))
    with pytest.raises(HookError) as raised:
        call_hook(fails, callback_ctx())
    assert "engine=" not in str(getattr(raised.value, "__notes__", ""))
