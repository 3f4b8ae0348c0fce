"""Server classes of people's own, and what of them cannot be hooked."""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib import import_module
from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, HookError, HookLoadError, HookRegistry, hook
from tests.conftest import require_engine

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@hook("on_before_init")
def never(ctx: CallbackCtx) -> None:
    raise AssertionError


class ByItself:
    """Starts its engine in its constructor."""

    async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        self.engine = "up"


class ByStart:
    """Starts its engine in ``start()``, as Ray's does."""

    async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        self._llm_config = llm_config
        await self.start()

    async def start(self) -> None:
        self.engine = "up"


def construct(server_cls: Any, *refs: Any, stops: bool = False, fails: bool = False) -> Any:
    """As Serve makes it, and perhaps stops it, whether it has started or not."""
    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="m", hooks=list(refs or [never]), accelerator_config={"kind": "cpu"})

    async def make() -> Any:
        server = server_cls.__new__(server_cls)
        if fails:
            with pytest.raises(HookError):
                await server.__init__(config)
        else:
            await server.__init__(config)
        if stops:
            ended = server.__del__()  # Serve awaits it if it is a coroutine
            if inspect.iscoroutine(ended):
                await ended
        return server

    return asyncio.run(make())


def test_a_constructor_that_starts_its_engine_by_itself_is_told() -> None:
    from serve_llm_hooks.ray import hooked_server

    class Eager(ByItself):
        async def start(self) -> None: ...

    with pytest.raises(HookLoadError, match=r"Eager starts its engine in its constructor and never calls start\(\)"):
        construct(hooked_server(Eager))


def test_so_is_that_of_a_subclass_of_rays() -> None:
    from ray.serve.llm.deployment import LLMServer

    from serve_llm_hooks.ray import hooked_server

    class Eager(ByItself, LLMServer): ...

    with pytest.raises(HookLoadError, match=r"let the constructor `await self\.start\(\)`, as Ray's LLMServer does"):
        construct(hooked_server(Eager))


def test_one_based_on_ours_is_hooked_around_what_it_overrides(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import LLMConfig, LLMServer, hooked_server

    class Eager(ByItself, LLMServer): ...

    class OwnStart(ByStart, LLMServer):
        async def start(self) -> None:
            raise AssertionError

    for base in (Eager, OwnStart):
        config = LLMConfig(model_id="m", hooks=[never], server_cls=base, accelerator_config={"kind": "cpu"})
        assert config.server_cls is hooked_server(base) is not base
    with pytest.raises(HookLoadError, match=r"Eager starts its engine in its constructor"):
        construct(hooked_server(Eager))
    with pytest.raises(HookError, match=r"hook .*never failed at on_before_init"):
        construct(hooked_server(OwnStart))


def test_one_based_on_a_hooked_one_runs_hooks_once(three_nodes: list[str]) -> None:
    import ray

    from serve_llm_hooks.ray import hooked_server

    @hooked_server
    class Plain(ByStart): ...

    class More(Plain):
        async def start(self) -> None:
            await super().start()
            self.more = True

    seen: list[CallbackCtx] = []

    def look(ctx: CallbackCtx) -> None:
        seen.append(ctx)

    server = construct(hooked_server(More), hook("on_after_init")(look))
    ray.util.remove_placement_group(seen[0].placement_group)
    assert (server.engine, server.more, len(seen)) == ("up", True, 1)
    assert len(asyncio.run(server.hook_trace())) == 1


# -- the end ----------------------------------------------------------------------------------------------------------


class Keeps:
    """Hooks for the start and the end of a server, which keep what they saw; they give the group back."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def hooks(self) -> list[Any]:
        registry = HookRegistry()

        @registry.hook("on_after_init")
        def up(ctx: CallbackCtx) -> None:
            import ray

            self.seen.append(f"started, engine {ctx.engine}")
            ray.util.remove_placement_group(ctx.placement_group)

        @registry.hook("on_shutdown")
        async def down(ctx: CallbackCtx) -> None:
            self.seen.append(f"stopped, engine {ctx.engine}")

        return [registry]


def test_a_server_without_an_end_of_its_own_has_one(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import hooked_server

    keeps = Keeps()
    construct(hooked_server(ByStart), *keeps.hooks(), stops=True)
    assert keeps.seen == ["started, engine up", "stopped, engine up"]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_servers_own_end_comes_after_the_hooks(is_async: bool, three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import hooked_server

    keeps = Keeps()

    class Sync(ByStart):
        def __del__(self) -> None:
            if self.__dict__.pop("engine", None):  # Python calls it too
                keeps.seen.append("its own end")

    class Async(ByStart):
        async def __del__(self) -> None:
            keeps.seen.append("its own end")

    base: Any = Async if is_async else Sync
    server = construct(hooked_server(base), *keeps.hooks(), stops=True)
    assert keeps.seen == ["started, engine up", "stopped, engine up", "its own end"]
    # Serve's wrapper of an ingress looks at this before it awaits the end.
    assert inspect.iscoroutinefunction(type(server).__del__) is is_async


def test_one_that_is_hooked_twice_ends_once(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import hooked_server

    @hooked_server
    class Plain(ByStart): ...

    class More(Plain): ...

    keeps = Keeps()
    construct(hooked_server(More), *keeps.hooks(), stops=True)
    assert keeps.seen == ["started, engine up", "stopped, engine up"]


def test_one_that_starts_in_its_constructor_ends_too(three_nodes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray's SGLang server, which has no end of its own."""
    from ray.util.placement_group import placement_group

    from serve_llm_hooks.ray import hooked_server, sglang

    class ByConstructor:
        def __init__(self, llm_config: Any) -> None:
            self.engine = "up"

        async def start(self) -> None: ...

    group = placement_group([{"CPU": 1}])  # such a replica is in one
    monkeypatch.setattr(sglang, "get_current_placement_group", lambda: group)
    keeps = Keeps()
    construct(hooked_server(ByConstructor), *keeps.hooks(), stops=True)
    assert keeps.seen == ["started, engine up", "stopped, engine up"]


def test_after_a_start_that_failed_only_its_own_end_runs(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import hooked_server

    keeps = Keeps()

    class WithAnEnd(ByStart):
        async def __del__(self) -> None:
            keeps.seen.append("its own end")

    construct(hooked_server(WithAnEnd), never, *keeps.hooks(), stops=True, fails=True)
    assert keeps.seen == ["its own end"]


def test_how_long_hooks_have_is_what_serve_leaves_them() -> None:
    from serve_llm_hooks._replica.shutdown import budget_s

    assert budget_s({}) == 16
    assert budget_s({"graceful_shutdown_timeout_s": 60, "graceful_shutdown_wait_loop_s": 10}) == 48
    assert budget_s({"graceful_shutdown_timeout_s": 3}) == 0
    assert budget_s({"graceful_shutdown_timeout_s": None}) == 16
    assert budget_s({"graceful_shutdown_timeout_s": "sixty"}) == 16  # Serve itself refuses that


def test_the_settings_are_serves_own() -> None:
    from serve_llm_hooks._replica.shutdown import SERVE_DEFAULTS_S

    constants: Any = import_module("ray.serve._private.constants")
    assert list(SERVE_DEFAULTS_S.values()) == [
        constants.DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S,
        constants.DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S,
    ]


@pytest.mark.parametrize(
    ("timeout_s", "deployment_config", "warning"),
    [
        (16, {}, None),
        (None, {}, None),
        (17, {}, r"has timeout_s=17, but its replicas have at most 16 s .*'graceful_shutdown_timeout_s': 21}, or more"),
        (17, {"graceful_shutdown_timeout_s": 21}, None),
        (None, {"graceful_shutdown_timeout_s": 3}, r"slow at on_shutdown, but its replicas have at most 0 s"),
    ],
)
def test_a_hook_that_cannot_fit_is_told_when_the_config_is_made(
    timeout_s: float | None, deployment_config: dict[str, Any], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    registry = HookRegistry()

    @registry.hook("on_shutdown", timeout_s=timeout_s)
    def slow(ctx: CallbackCtx) -> None: ...

    LLMConfig(model_id="m", hooks=[registry], accelerator_config={"kind": "cpu"}, deployment_config=deployment_config)
    told = [record.getMessage() for record in caplog.records if "on_shutdown" in record.getMessage()]
    assert len(told) == (warning is not None)
    assert warning is None or re.search(warning, told[0])
