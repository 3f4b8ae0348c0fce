"""Assertions: what passes, what fails and how that reads, and what is refused."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, skip
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    FakeRun,
    HarnessError,
    assert_not_run,
    assert_order,
    assert_ran_on,
    engine_fails,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import CallbackCtx, NodeCtx, Skip


@pytest.fixture
def run(hooks: HookRegistry) -> FakeRun:
    @hooks.hook("on_before_init")
    def begin(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_before_node_download")
    def fetch(ctx: NodeCtx) -> None: ...

    @hooks.hook("on_after_node_download")
    def unpack(ctx: NodeCtx) -> None: ...

    @hooks.hook("on_after_init")
    def end(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_before_init", model_id="another")
    def for_another(ctx: CallbackCtx) -> None: ...

    return FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))


def test_what_is_in_order_passes(run: FakeRun) -> None:
    assert_order(run, "begin", "fetch", "unpack", "end")
    assert_order(run, "on_before_init", "unpack", "on_after_init")
    assert_order(run, next(iter(run.hooks)).path, "end")


def test_what_is_not_shows_both_timelines(run: FakeRun) -> None:
    with pytest.raises(AssertionError) as failure:
        assert_order(run, "begin", "unpack", "fetch")
    text = str(failure.value)
    assert "'fetch' ran before 'unpack'" in text
    assert "  2. unpack" in text
    marks = [line.split()[0] for line in text.splitlines() if " s  " in line]
    assert marks[:5] == ["1", "3", "2", "3", "2"]
    assert marks[5] == "50.000"  # `end`, which is none of the three


def test_one_hook_is_not_before_itself(run: FakeRun) -> None:
    with pytest.raises(AssertionError, match="the same"):
        assert_order(run, "begin", "on_before_init")


def test_a_step_that_did_not_run(run: FakeRun) -> None:
    with pytest.raises(AssertionError, match="'on_failure' did not run"):
        assert_order(run, "begin", "on_failure")
    with pytest.raises(AssertionError, match="not for model 'm'"):
        assert_order(run, "for_another", "end")


@pytest.mark.parametrize(
    "check",
    [
        lambda run: assert_order(run, "begin", "unpak"),
        lambda run: assert_ran_on(run, "unpak", node_count=2),
        lambda run: assert_not_run(run, "unpak"),
    ],
)
def test_an_unknown_name_is_an_error_and_not_a_pass(run: FakeRun, check: Callable[[FakeRun], None]) -> None:
    with pytest.raises(HarnessError, match="did you mean 'unpack'"):
        check(run)


def test_a_config_without_hooks_knows_none(module: Callable[[str, str], str]) -> None:
    import_module(module("unrelated_hooks", '@hook("on_before_init")\ndef unrelated(ctx): pass'))
    run = FakeCluster().run(FakeLLMConfig("m", hooks=[]))
    with pytest.raises(HarnessError, match="unrelated"):
        assert_not_run(run, "unrelated")


def test_an_ambiguous_name(module: Callable[[str, str], str]) -> None:
    names = [module(name, '@hook("on_before_init")\ndef same(ctx): pass') for name in ("one_hooks", "two_hooks")]
    run = FakeCluster().run(FakeLLMConfig("m", hooks=names))
    with pytest.raises(HarnessError, match="one_hooks:same, two_hooks:same"):
        assert_not_run(run, "same")
    assert_order(run, "one_hooks:same", "two_hooks:same")


def test_a_hook_with_parameters_is_meant_by_its_name(module: Callable[[str, str], str]) -> None:
    name = module("given_hooks", '@hook("on_before_init")\ndef fetch(ctx, *, bucket): pass')
    config = FakeLLMConfig("m", hooks=[{"hook": f"{name}:fetch", "kwargs": {"bucket": "s3://b"}}])
    assert_ran_on(FakeCluster().run(config), "fetch", node_ids=["node-0"])


def test_where_a_hook_ran(run: FakeRun) -> None:
    assert_ran_on(run, "unpack", node_count=2)
    assert_ran_on(run, "unpack", node_ids=["node-1", "node-0"])
    with pytest.raises(AssertionError, match="on 3 nodes, and ran on 2"):
        assert_ran_on(run, "unpack", node_count=3)
    with pytest.raises(AssertionError) as failure:
        assert_ran_on(run, "unpack", node_ids=["node-0"])
    assert "+ node-1" in str(failure.value)
    with pytest.raises(HarnessError, match="node-9"):
        assert_ran_on(run, "unpack", node_ids=["node-9"])
    with pytest.raises(HarnessError, match="one of the two"):
        assert_ran_on(run, "unpack")
    with pytest.raises(HarnessError, match=r"as in node_ids=\['node-1'\], not 'node-1'$"):
        assert_ran_on(run, "unpack", node_ids="node-1")


def test_a_failed_hook_did_not_run_to_its_end(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def fetch(ctx: NodeCtx) -> None:
        if ctx.node_id == "node-1":
            raise OSError("disk full")

    run = FakeCluster(nodes=2, download_s=5).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert_ran_on(run, "fetch", node_ids=["node-0"])
    with pytest.raises(AssertionError, match="disk full"):
        assert_ran_on(run, "fetch", node_count=2)


def test_what_should_not_have_run(run: FakeRun) -> None:
    assert_not_run(run, "for_another", "on_failure", "on_custom_init")
    with pytest.raises(AssertionError, match="'unpack' should not have run"):
        assert_not_run(run, "unpack")


def test_a_run_that_failed_before_says_nothing_about_what_did_not_run(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_custom_init")
    def take_over(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_after_init")
    def end(ctx: CallbackCtx) -> None: ...

    run = FakeCluster(faults=[engine_fails("out of memory")]).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert_not_run(run, "take_over")
    with pytest.raises(AssertionError, match=r"failed before, at on_before_engine_init.*out of memory"):
        assert_not_run(run, "end")
    assert_not_run(run, "end", even_if_failed=True)
    with pytest.raises(AssertionError, match="because the run had failed before"):
        assert_order(run, "tune", "end")
    with pytest.raises(AssertionError, match="because the run had failed before"):
        assert_ran_on(run, "end", node_count=1)


def test_assertions_that_assert_nothing(run: FakeRun) -> None:
    with pytest.raises(HarnessError, match="two names"):
        assert_order(run, "begin")
    with pytest.raises(HarnessError, match="one name"):
        assert_not_run(run)


def test_a_disabled_hook_did_not_run(hooks: HookRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    @hooks.hook("on_before_init")
    def begin(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_before_node_download")
    def fetch(ctx: NodeCtx) -> None: ...

    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "fetch")
    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert_not_run(run, "fetch")
    assert_not_run(run, "on_before_node_download")
    assert_ran_on(run, "fetch", node_count=0)
    with pytest.raises(AssertionError) as failure:
        assert_ran_on(run, "fetch", node_ids=["node-0"])
    lines = str(failure.value).splitlines()
    why = "disabled: 'fetch' in SERVE_LLM_HOOKS_DISABLE"
    assert lines[0] == f"'fetch' should have run on node-0, and ran on 0, because it is {why}:"
    assert lines[1].startswith("- node-0")
    assert lines[1].endswith(why)
    with pytest.raises(AssertionError, match=f"'fetch' did not run, because it is {why}"):
        assert_order(run, "begin", "fetch")
    assert why in str(run)


def test_a_hook_that_a_veto_left_out_did_not_run(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_download")
    def baked(ctx: CallbackCtx) -> Skip:
        return skip("in the image")

    @hooks.hook("on_before_node_download")
    def check_disk(ctx: NodeCtx) -> None: ...

    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert_not_run(run, "check_disk")
    why = "it is skipped: vetoed at on_before_download: in the image"
    with pytest.raises(AssertionError, match=f"ran on 0, because {why}"):
        assert_ran_on(run, "check_disk", node_count=2)
    with pytest.raises(AssertionError, match=f"'check_disk' did not run, because {why}"):
        assert_order(run, "baked", "check_disk")


def test_a_name_stands_for_all_hooks_that_are_written_alike() -> None:
    class Fetch:
        def __init__(self, bucket: str) -> None: ...

        def on_before_node_download(self, ctx: NodeCtx) -> None: ...

    twice: list[Any] = [{"hook": Fetch, "kwargs": {"bucket": bucket}} for bucket in "ab"]
    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=twice))
    (path,) = {event.hook.partition("#")[0] for event in run.trace}
    assert [event.hook for event in run.trace] == [path, f"{path}#2"] * 2
    assert_ran_on(run, path, node_count=2)
    with pytest.raises(AssertionError, match=f"{path}#2"):
        assert_not_run(run, path)


def test_a_function_in_the_place_of_its_name_is_told() -> None:
    def check_disk(ctx: CallbackCtx) -> None: ...

    hooks = HookRegistry()
    hooks.hook("on_before_init")(check_disk)
    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))
    given: Any = check_disk
    with pytest.raises(
        HarnessError, match=r"an assertion takes a hook's name, '.*check_disk', and not the hook itself"
    ):
        assert_not_run(run, given)
