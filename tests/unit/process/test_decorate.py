"""``@hook("on_engine_process_start")``: what it takes, and what it refuses where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import EngineProcessCtx, HookRegistry, HookSignatureError, RayServeLLMCallback
from tests.unit.stub import refusal


def test_an_async_hook_for_processes_is_refused_where_it_is_decorated() -> None:
    registry: Any = HookRegistry()
    with pytest.raises(HookSignatureError, match=r"is `async def`, and nothing awaits it there.* Write `def`"):

        @registry.hook("on_engine_process_start")  # type: ignore[untyped-decorator]  # an Any registry: checkers refuse this function
        async def register(ctx: Any) -> None: ...


def test_an_object_with_an_async_call_is_refused_too() -> None:
    class Registers:
        async def __call__(self, ctx: Any) -> None: ...

    registry: Any = HookRegistry()
    with pytest.raises(HookSignatureError, match="nothing awaits it there"):
        registry.hook("on_engine_process_start")(Registers())


@pytest.mark.parametrize(
    ("point", "options", "message"),
    [
        (
            "on_engine_process_start",
            {"roles": "workr"},
            r"has 'workr' \(did you mean 'worker'\?\): the roles are",
        ),
        (
            "on_engine_process_start",
            {"roles": ["core", "gpu"]},
            "has 'gpu': the roles are frontend, config, core",
        ),
        ("on_engine_process_start", {"roles": []}, "roles=\\[\\] is no process at all"),
        ("on_engine_process_start", {"timeout_s": 3}, "timeout_s= does not hold at on_engine_process_start"),
        ("on_before_init", {"roles": "core"}, "roles= is for hooks at on_engine_process_start"),
    ],
)
def test_options_that_a_process_cannot_keep_are_refused(point: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HookRegistry().hook(point, **options)


def test_roles_are_kept() -> None:
    registry = HookRegistry()

    @registry.hook("on_engine_process_start", roles=["core", "worker"])
    def register(ctx: EngineProcessCtx) -> None: ...

    (found,) = registry.hooks()
    assert found.options.roles == ("core", "worker")


class AsyncMethod:
    async def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Be refused."""


def test_an_async_method_is_refused_where_its_class_is_named() -> None:
    assert "AsyncMethod.on_engine_process_start is `async def`" in refusal(HookSignatureError, callback=AsyncMethod)


def test_an_async_method_of_a_subclass_is_refused_where_it_is_written() -> None:
    with pytest.raises(HookSignatureError, match="is `async def`"):

        class Subclass(RayServeLLMCallback):
            async def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:  # type: ignore[override]  # refused
                """Be refused."""


def test_a_process_has_nothing_that_comes_later() -> None:
    registry: Any = HookRegistry()
    with pytest.raises(ValueError, match=r"a process of the engine waits for nothing later\. Leave it out\."):

        @registry.hook("on_engine_process_start", until="on_after_init")  # type: ignore[untyped-decorator]  # an Any registry: checkers refuse this `until=`
        def background(ctx: Any) -> None: ...

    with pytest.raises(HookSignatureError, match="has a `yield`"):

        @registry.hook("on_engine_process_start")  # type: ignore[untyped-decorator]  # an Any registry: checkers refuse this function
        def span(ctx: Any) -> Any:
            yield

    with pytest.raises(ValueError, match="that point is in the engine's processes, in which no `yield` goes on"):

        @registry.hook("on_before_init", until="on_engine_process_start")  # type: ignore[untyped-decorator]  # an Any registry: checkers refuse this `until=`
        def ends_there(ctx: Any) -> Any:
            yield


@pytest.mark.parametrize("point", ["on_before_init", "on_after_node_download", "on_before_engine_init"])
def test_workers_can_wait_for_the_background(point: Any) -> None:
    def works(ctx: Any) -> None: ...

    registry: Any = HookRegistry()
    registry.hook(point, until="on_engine_process_start")(works)
    with pytest.raises(ValueError, match="that point does not come later"):
        registry.hook("on_after_engine_init", until="on_engine_process_start")(works)
