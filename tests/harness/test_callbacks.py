"""Classes and phase functions on a fake cluster: what the harness adds for them."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookLoadError, HookOrderError, HookPickleError, HookRegistry, RayServeLLMCallback
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, HarnessWarning, check_hooks, replica_dies

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx


class Locked(RayServeLLMCallback):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_an_object_that_could_not_be_sent_is_told_with_its_attribute() -> None:
    with pytest.raises(HookPickleError, match=r"Locked\.on_after_init .* the attribute 'lock' of its object \(lock\)"):
        FakeCluster().run(FakeLLMConfig("m", callback=Locked()))
    assert FakeCluster().run(FakeLLMConfig("m", callback=Locked)).error is None  # a class makes it where it runs


class Counts(RayServeLLMCallback):
    def __init__(self) -> None:
        self.count = 0

    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.count += 1

    def on_after_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["count"] = self.count


class First(RayServeLLMCallback):
    def on_before_download(self, ctx: CallbackCtx) -> None: ...


class Second(RayServeLLMCallback):
    def on_before_download(self, ctx: CallbackCtx) -> None: ...


def test_an_order_across_fields_is_told_when_the_config_is_made() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_download", after="on_before_download", model_id="m")
    def last(ctx: CallbackCtx) -> None: ...

    FakeLLMConfig("m", hooks=[Second, hooks])
    FakeLLMConfig("another", callback=First, hooks=[Second, hooks])
    with pytest.raises(HookOrderError, match=r"is ambiguous: .*:First\.on_before_download, .*:Second\.on_before_down"):
        FakeLLMConfig("m", callback=First, hooks=[Second, hooks])


def test_a_replica_that_is_started_again_has_another_object() -> None:
    run = FakeCluster(faults=[replica_dies(at="on_before_engine_init")]).run(FakeLLMConfig("m", callback=Counts))
    assert run.ctx is not None
    assert run.ctx.custom_data == {"count": 1}


class LosesIt(RayServeLLMCallback):
    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.bucket = "s3://b"

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        print(self.bucket)


def test_check_hooks_tells_that_self_is_another_on_a_node() -> None:
    problems = check_hooks(LosesIt, check=False).problems
    assert any("'LosesIt' object has no attribute 'bucket'" in problem for problem in problems)
    assert check_hooks(Counts).problems == []


class Sleeps(RayServeLLMCallback):
    def on_after_init(self, ctx: CallbackCtx) -> None:
        select.select([], [], [], 1)  # long enough to be seen on a busy machine


def test_a_method_that_really_sleeps_is_named() -> None:
    with pytest.warns(HarnessWarning, match=r"hook .*test_callbacks:Sleeps\.on_after_init .* really blocks"):
        FakeCluster(real_sleep_limit_s=0.2).run(FakeLLMConfig("m", callback=Sleeps))


@pytest.mark.parametrize("callbacks", ["pkg.mod:fn", print])
def test_callbacks_is_a_list(callbacks: Any) -> None:
    with pytest.raises(HookLoadError, match=r"callbacks= is a list, as in callbacks=\['pkg\.mod:fn'\], not "):
        FakeLLMConfig("m", callbacks=callbacks)


def test_the_config_gives_back_what_it_was_given() -> None:
    config = FakeLLMConfig("m", callback=Counts, callbacks=(lambda phase, config, data: None,))
    assert config.callback is Counts
    assert config.callback_kwargs == {}
    assert len(config.callbacks or ()) == 1
