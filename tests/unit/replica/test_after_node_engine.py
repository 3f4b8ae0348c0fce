"""``on_after_node_engine_init``: a second task on every node, once the engine is up and warm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadMode,
    HookError,
    HookPickleError,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    NodeResult,
    PlacementGroupError,
    RayServeLLMCallback,
    hook,
    skip,
)
from serve_llm_hooks._core.node import Node
from tests.unit.stub import Config, Failed, StubCluster, start, start_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks._node.task import NodeReport, NodeTask


@hook("on_after_node_engine_init")
def collect(ctx: NodeCtx) -> None:
    ctx.custom_data["collected"] = [ctx.model_id, ctx.node_id, ctx.is_local, ctx.model_path, ctx.download_model]


def test_it_runs_on_every_node_between_warm_up_and_the_end() -> None:
    @hook("on_after_engine_init")
    def warm_up(ctx: CallbackCtx) -> None: ...

    @hook("on_after_init")
    def done(ctx: CallbackCtx) -> None:
        assert [node.custom_data["collected"][1] for node in ctx.nodes.values()] == ["n0", "n1", "n2"]

    started = start(collect, warm_up, done)
    assert started.names == ["warm_up", "collect", "collect", "collect", "done"]
    assert started.cluster.calls[-4:] == ["engine", "run n0", "run n1", "run n2"]
    all_of_it = DownloadMode.MODEL_AND_TOKENIZER
    assert {node_id: node.custom_data["collected"] for node_id, node in started.ctx.nodes.items()} == {
        "n0": ["m", "n0", True, "/models/m", all_of_it],
        "n1": ["m", "n1", False, "/models/m", all_of_it],
        "n2": ["m", "n2", False, "/models/m", all_of_it],
    }


def test_the_second_task_downloads_nothing_and_the_first_has_none_of_its_hooks() -> None:
    started = start(collect)
    calls = started.cluster.calls
    assert [each for each in calls if each.startswith("download")] == [
        f"download {node_id} MODEL_AND_TOKENIZER" for node_id in ("n0", "n1", "n2")
    ]
    assert calls.count("run n0") == 2


def test_without_a_download_and_other_hooks_there_is_one_task() -> None:
    started = start(collect, cluster=StubCluster(mirror=None))
    assert started.cluster.calls.count("run n0") == 1
    assert started.ctx.nodes["n0"].custom_data["collected"][3] == "org/m"


def test_without_such_hooks_there_is_no_second_task() -> None:
    @hook("on_after_node_download")
    def other(ctx: NodeCtx) -> None: ...

    @hook("on_node_failure")
    def clean_up(ctx: NodeCtx) -> None: ...

    assert start(other, clean_up).cluster.calls.count("run n0") == 1


def test_what_the_first_task_found_stays_in_the_result() -> None:
    @hook("on_before_node_download")
    def baked_in(ctx: NodeCtx) -> Any:
        ctx.model_path = "/baked"
        return skip("baked in")

    result = start(baked_in, collect).ctx.nodes["n1"]
    assert (result.path, result.skipped, result.error) == ("/baked", "baked in", None)
    assert result.custom_data["collected"][3] == "/baked"


# -- custom_data --------------------------------------------------------------------------------------------------


@hook("on_before_download")
def send(ctx: CallbackCtx) -> None:
    ctx.custom_data.update(kept={"a"}, changed_on_node="replica", changed_later="early", changed_by_both=0)


@hook("on_after_node_download")
def change(ctx: NodeCtx) -> None:
    ctx.custom_data.update(changed_on_node=ctx.node_id, own=[ctx.node_id], changed_by_both=1)


@hook("on_after_engine_init")
def change_later(ctx: CallbackCtx) -> None:
    ctx.custom_data.update(changed_later="late", new="warm", changed_by_both=2)


def test_a_node_finds_its_own_data_and_the_replicas_as_they_are_now() -> None:
    found: dict[str, Any] = {}

    @hook("on_after_init")
    def look(ctx: CallbackCtx) -> None:
        found.update(ctx.nodes["n1"].custom_data)

    start(send, change, change_later, collect, look)
    del found["collected"]
    assert found == {
        "kept": {"a"},
        "changed_on_node": "n1",
        "own": ["n1"],
        "changed_later": "late",
        "new": "warm",
        "changed_by_both": 1,  # the node's own
    }


def test_data_that_cannot_leave_the_replica_is_told() -> None:
    @hook("on_after_engine_init")
    def put(ctx: CallbackCtx) -> None:
        ctx.custom_data["lock"] = (each for each in "ab")

    with pytest.raises(HookPickleError, match=r"ctx\.custom_data\['lock'\] \(generator\) cannot leave the replica"):
        start(put, collect)


class Settings:
    """An object that is equal to itself only."""

    def __init__(self, value: str) -> None:
        self.value = value


@hook("on_before_download")
def send_objects(ctx: CallbackCtx) -> None:
    ctx.custom_data.update(changed_here=Settings("early"), changed_there=Settings("early"))


@hook("on_before_node_download")
def change_object(ctx: NodeCtx) -> None:
    ctx.custom_data["changed_there"].value = "node's"


@hook("on_after_engine_init")
def change_objects(ctx: CallbackCtx) -> None:
    for settings in ctx.custom_data.values():
        settings.value = "late"


def test_an_object_that_cannot_be_compared_is_the_replicas_unless_the_nodes_hooks_have_changed_it() -> None:
    nodes = start(send_objects, change_object, change_objects, collect).ctx.nodes
    found = nodes["n1"].custom_data
    assert (found["changed_here"].value, found["changed_there"].value) == ("late", "node's")


@hook("on_before_node_download")
def delete(ctx: NodeCtx) -> None:
    del ctx.custom_data["kept"]


@hook("on_after_node_engine_init")
def note_keys(ctx: NodeCtx) -> None:
    ctx.custom_data["keys"] = sorted(ctx.custom_data)


def test_a_key_that_the_nodes_own_hook_has_deleted_stays_away() -> None:
    keys = start(send, delete, change_later, note_keys).ctx.nodes["n1"].custom_data["keys"]
    assert keys == ["changed_by_both", "changed_later", "changed_on_node", "new"]


@hook("on_before_node_download")
def lock(ctx: NodeCtx) -> None:
    ctx.custom_data["lock"] = "/mnt/lock"


@hook("on_after_node_engine_init")
def unlock(ctx: NodeCtx) -> None:
    del ctx.custom_data["lock"]


@hook("on_after_node_engine_init")
def breaks(ctx: NodeCtx) -> None:
    raise OSError


@hook("on_node_failure")
def unlock_after_failure(ctx: NodeCtx) -> None:
    del ctx.custom_data["lock"]


def test_what_a_hook_has_emptied_is_empty_for_the_replica_also_where_it_cleans_up() -> None:
    assert [dict(node.custom_data) for node in start(lock, unlock).ctx.nodes.values()] == [{}] * 3
    failed = Failed()
    with pytest.raises(NodeInitializationError):
        start(lock, breaks, unlock_after_failure, failed.hook())
    assert [dict(node.custom_data) for node in failed.nodes.values()] == [{}] * 3


def test_of_a_node_that_is_lost_the_replica_has_what_is_known() -> None:
    class Lost(StubCluster):
        async def run_on_node(self, task: NodeTask, **more: Any) -> NodeReport:
            if task.after_engine:
                raise NodeLostError("node n0 is gone", node_id="n0")
            return await super().run_on_node(task, **more)

    failed = Failed()
    with pytest.raises(NodeInitializationError):
        start(lock, unlock, failed.hook(), cluster=Lost(nodes=("n0",)))
    assert dict(failed.nodes["n0"].custom_data) == {"lock": "/mnt/lock"}


# -- what is vetoed, turned off or too late -----------------------------------------------------------------------


def test_a_veto_of_all_downloads_leaves_it_out_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_download")
    def veto(ctx: CallbackCtx) -> Any:
        return skip("nothing to do on nodes")

    started = start(veto, collect)
    assert [(event.name, event.outcome) for event in started.ctx.trace] == [("veto", "vetoed"), ("collect", "skipped")]
    assert "collect at on_after_node_engine_init" in caplog.text


def test_one_that_is_turned_off_leaves_a_mark_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "collect")
    started = start(collect, cluster=StubCluster(mirror=None))
    assert [(event.node_id, event.outcome) for event in started.ctx.trace] == [
        (node_id, "disabled") for node_id in ("n0", "n1", "n2")
    ]
    assert not [each for each in started.cluster.calls if each.startswith("run")]


def test_fields_that_the_engine_has_been_given_cannot_be_changed() -> None:
    @hook("on_after_node_engine_init")
    def too_late(ctx: NodeCtx) -> None:
        ctx.model_path = "/elsewhere"

    with pytest.raises(NodeInitializationError) as caught:
        start(too_late)
    assert "ctx.model_path cannot be changed any more: the engine has been given it. on_after_node_download is the" in (
        str(caught.value.exceptions[0])
    )


def test_it_runs_on_the_nodes_of_the_group_that_the_engine_is_in() -> None:
    @hook("on_after_placement_group")
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n1", "n9")

    started = start(replace, collect)
    assert started.cluster.calls[-2:] == ["run n1", "run n9"]
    assert "collected" not in started.ctx.nodes["n0"].custom_data


# -- failure ------------------------------------------------------------------------------------------------------


def test_a_group_that_has_moved_to_another_node_since_is_an_error_with_its_name() -> None:
    class Moved(StubCluster):
        async def node_ids(self, *args: Any, **more: Any) -> Sequence[str]:
            return ["n0", "n9"] if "engine" in self.calls else await super().node_ids(*args, **more)

    failed = Failed()
    cluster = Moved(nodes=("n0", "n1"), nodes_known={"n9": Node("n9", "10.0.0.9", "host-9")})
    with pytest.raises(PlacementGroupError) as caught:
        start(collect, failed.hook(), cluster=cluster)
    assert f"its placement group is on {cluster.node('n9')} since its nodes were initialized" in str(caught.value)
    assert failed.error is caught.value
    assert list(failed.nodes) == ["n0", "n1"]


@hook("on_after_node_engine_init")
def second_breaks(ctx: NodeCtx) -> None:
    ctx.custom_data["tried"] = True
    if ctx.node_id == "n1":
        raise OSError("no room for the caches")


@hook("on_node_failure")
def clean_up(ctx: NodeCtx) -> None:
    ctx.custom_data["cleaned up after"] = type(ctx.error).__name__


def test_a_node_that_fails_ends_the_start_and_cleans_up() -> None:
    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(second_breaks, clean_up, failed.hook())
    (error,) = caught.value.exceptions
    assert isinstance(error, HookError)
    assert error.point == "on_after_node_engine_init"
    assert failed.ctx is not None
    assert failed.ctx.engine == "the engine"  # it is up
    assert failed.nodes["n1"].error is not None
    assert failed.nodes["n1"].path == "/models/m"
    assert failed.nodes["n1"].custom_data["cleaned up after"] == "HookError"
    assert "cleaned up after" not in failed.nodes["n0"].custom_data


def test_on_error_warn_lets_the_start_go_on() -> None:
    @hook("on_after_node_engine_init", on_error="warn")
    def breaks(ctx: NodeCtx) -> None:
        raise OSError

    started = start(breaks)
    assert [event.outcome for event in started.ctx.trace] == ["warned"] * 3


def test_a_node_that_does_not_answer_is_lost_after_the_node_timeout() -> None:
    @hook("on_after_node_engine_init")
    async def hangs(ctx: NodeCtx) -> None:
        if ctx.node_id == "n2":
            await asyncio.sleep(1e6)

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(hangs, failed.hook(), cluster=StubCluster(node_timeout_s=60))
    (error,) = caught.value.exceptions
    assert isinstance(error, NodeLostError)
    assert "node n2 did not answer within 60 s" in str(error)
    result: NodeResult = failed.nodes["n2"]
    assert result.path == "/models/m"  # what is known of it stays


def test_a_class_has_a_fresh_object_there() -> None:
    class Caches(RayServeLLMCallback):
        def on_after_node_download(self, ctx: NodeCtx) -> None:
            self.seen = True

        def on_after_node_engine_init(self, ctx: NodeCtx) -> None:
            ctx.custom_data["a fresh object"] = not hasattr(self, "seen")

    nodes = start_with(callback=Caches).ctx.nodes
    assert [node.custom_data["a fresh object"] for node in nodes.values()] == [True] * 3


def test_the_config_can_be_asked_for_there() -> None:
    @hook("on_after_node_engine_init")
    def ask(ctx: NodeCtx) -> None:
        ctx.custom_data["config"] = ctx.llm_config.model_id

    assert start(config=Config(hooks=(ask,))).ctx.nodes["n0"].custom_data["config"] == "m"
