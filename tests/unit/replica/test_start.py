"""A start that goes well: every point at its time and place, and what each decision of a hook changes."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HOOK_POINTS,
    CallbackCtx,
    DownloadMode,
    HookError,
    HookLoadError,
    HookRegistry,
    InitializeNodeOutput,
    NodeCtx,
    ServeLLMHooksError,
    hook,
    initialization,
    initialize_node,
    skip,
)
from serve_llm_hooks._core.points import left_out_by
from tests.unit.stub import (
    GOOD_POINTS,
    IN_FIRST_TASK,
    IN_REPLICA,
    IN_SECOND_TASK,
    ON_NODES,
    Config,
    FullConfig,
    RayConfig,
    StubCluster,
    run,
    start,
)

if TYPE_CHECKING:
    from serve_llm_hooks import HookName, HookPoint
    from serve_llm_hooks._node.task import NodeReport, NodeTask
    from serve_llm_hooks._replica.initialize import Initialization

NODES = ("n0", "n1", "n2")

GOOD_START = [
    (name, node)
    for on_node, rows in groupby(GOOD_POINTS, key=lambda row: row.on_node)
    for names in [[row.name for row in rows]]
    for node in (NODES if on_node else NODES[:1])
    for name in names
    for _ in range(3 if name == "on_engine_process_start" else 1)  # the frontend, the core and its worker
]
"""Where a start without any veto runs its points, on three nodes: in the table's order."""


def everywhere() -> list[Any]:
    """A hook at every point of a start that does nothing."""

    def at(point: Any) -> Any:
        @hook(point)
        def nothing(ctx: Any) -> None: ...

        return nothing

    return [at(name) for name, row in HOOK_POINTS.items() if row.during != "shutdown"]


def points(ctx: CallbackCtx) -> list[tuple[HookName, str]]:
    return [(event.point, event.node_id) for event in ctx.trace if event.ran]


# -- the whole story ----------------------------------------------------------------------------------------------


def test_every_point_in_its_order_and_place() -> None:
    started = start(*everywhere())
    assert points(started.ctx) == GOOD_START
    assert len(GOOD_START) == len(IN_REPLICA) + 3 * len(ON_NODES) + 3
    assert {event.process_id for event in started.ctx.trace} == {os.getpid()}
    assert started.cluster.calls[:4] == ["acquire", "run n0", "run n1", "run n2"]
    assert started.cluster.calls[-5:] == ["configure /models/m", "engine", "run n0", "run n1", "run n2"]


def test_the_output_is_what_the_engine_was_started_with() -> None:
    @hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = 128
        ctx.runtime_env = {"env_vars": {"A": "1"}}

    started = start(tune)
    assert started.output == InitializeNodeOutput(("n0", "n1", "n2"), {"env_vars": {"A": "1"}}, {"max_model_len": 128})


def test_the_engine_answers_in_the_points_after_it_and_not_before() -> None:
    seen: list[object] = []

    @hook("on_before_engine_init")
    def before(ctx: CallbackCtx) -> None:
        seen.append(ctx.engine)

    @hook("on_after_engine_init")
    async def warm_up(ctx: CallbackCtx) -> None:
        seen.append(ctx.engine)

    start(before, warm_up)
    assert seen == [None, "the engine"]


def test_without_an_engine_the_points_around_it_still_run() -> None:
    cluster = StubCluster()
    seen: list[object] = []

    @hook("on_after_init")
    def last(ctx: CallbackCtx) -> None:
        seen.append(ctx.engine)

    output = run(initialize_node(Config(hooks=[last]), cluster=cluster))
    assert output.placement_group == cluster.nodes
    assert seen == [None]


def test_who_starts_the_engine_himself_does_it_inside_the_with() -> None:
    async def main() -> list[tuple[HookName, str]]:
        async with initialization(Config(hooks=everywhere()), cluster=StubCluster()) as start:
            before = [event.point for event in start.trace if not event.process]
            assert before[-1] == "on_before_engine_init"
            assert start.output.placement_group == ("n0", "n1", "n2")
            start.engine = "mine"
        assert start.ctx.engine == "mine"
        return points(start.ctx)

    assert run(main()) == GOOD_START


def test_hooks_can_be_given_in_place_of_those_that_the_config_selects() -> None:
    ours = HookRegistry()

    @ours.hook("on_before_init")
    def mine(ctx: CallbackCtx) -> None: ...

    async def main() -> list[str]:
        async with initialization(Config(hooks=["no_such_module"]), cluster=StubCluster(), hooks=ours) as start:
            return [event.name for event in start.trace]

    assert run(main()) == ["mine"]


def test_who_is_given_the_start_at_its_beginning_has_its_trace_when_it_fails() -> None:
    begun: list[Initialization] = []

    @hook("on_before_init")
    def fails(ctx: CallbackCtx) -> None:
        raise ValueError

    async def main() -> None:
        async with initialization(Config(hooks=[fails]), cluster=StubCluster(), on_begin=begun.append):
            raise AssertionError

    with pytest.raises(HookError):
        run(main())
    assert [(event.name, event.outcome) for event in begun[0].trace] == [("fails", "failed")]


def test_left_out_the_cluster_is_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = StubCluster()
    module: Any = ModuleType("serve_llm_hooks.ray")
    module.RayCluster = lambda: cluster
    monkeypatch.setitem(sys.modules, "serve_llm_hooks.ray", module)
    run(initialize_node(Config()))
    assert cluster.calls[0] == "acquire"


def test_what_runs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serve_llm_hooks")
    start()
    assert caplog.messages == ["model 'm': 0 hooks: none"]


# -- once the engine has been given everything ---------------------------------------------------------------------


@pytest.mark.parametrize("point", ["on_after_engine_init", "on_after_init"])
@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("model_path", "on_before_engine_init"),
        ("placement_group", "on_after_placement_group"),
        ("extra_init_kwargs", "on_before_engine_init"),
        ("worker_node_download_model", "on_before_download"),
    ],
)
def test_what_comes_too_late_fails_at_the_assignment(point: Any, name: str, last: str) -> None:
    @hook(point)
    def late(ctx: CallbackCtx) -> None:
        setattr(ctx, name, getattr(ctx, name))

    with pytest.raises(HookError) as caught:
        start(late)
    assert str(caught.value.__cause__) == (
        f"ctx.{name} cannot be changed any more: the engine has been given it. {last} is the last point at which it can"
    )


def test_an_argument_that_comes_too_late_fails_too() -> None:
    @hook("on_after_engine_init")
    def late(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = 128

    with pytest.raises(HookError, match="on_before_engine_init is the last point at which it can"):
        start(late)


def test_a_copy_of_arguments_that_are_closed_is_the_hooks_own() -> None:
    @hook("on_after_engine_init")
    def copies(ctx: CallbackCtx) -> None:
        arguments = ctx.extra_init_kwargs
        for own in (dict(arguments), arguments.copy(), copy.deepcopy(arguments), pickle.loads(pickle.dumps(arguments))):
            own["max_model_len"] = 128

    assert start(copies).ctx.extra_init_kwargs == {}


def test_custom_data_is_kept_to_the_end() -> None:
    @hook("on_after_init")
    def last(ctx: CallbackCtx) -> None:
        ctx.custom_data["seen"] = True
        ctx.custom_data = {**ctx.custom_data, "again": True}

    assert start(last).ctx.custom_data == {"seen": True, "again": True}


# -- nodes --------------------------------------------------------------------------------------------------------


def test_every_nodes_result_is_in_ctx_nodes() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["shared"] = ["from the replica"]

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["shared"].append(ctx.node_id)
        ctx.custom_data["is_local"] = ctx.is_local

    ctx = start(prepare, work).ctx
    assert list(ctx.nodes) == ["n0", "n1", "n2"]
    assert ctx.custom_data == {"shared": ["from the replica"]}
    for node_id, result in ctx.nodes.items():
        is_local = node_id == "n0"
        assert result.node_id == node_id
        assert result.is_local is is_local
        assert result.path == "/models/m"
        assert result.custom_data == {"shared": ["from the replica", node_id], "is_local": is_local}
        assert result.download_model is DownloadMode.MODEL_AND_TOKENIZER
        assert result.skipped is None
        assert result.error is None
        assert 0 < result.start_s < result.end_s
        assert 0 < result.download_s < result.end_s - result.start_s


def test_a_hook_on_a_node_sees_the_config_and_the_model() -> None:
    @hook("on_after_node_download", model_id="llama")
    def look(ctx: NodeCtx) -> None:
        ctx.custom_data["seen"] = (ctx.model_id, ctx.llm_config.model_id, ctx.model_path)

    ctx = start(config=Config("llama", [look])).ctx
    assert ctx.nodes["n1"].custom_data["seen"] == ("llama", "llama", "/models/m")


def test_node_tasks_get_the_runtime_env_that_hooks_set() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.runtime_env = {"pip": ["x"]}

    assert start(prepare).cluster.runtime_envs == [{"pip": ["x"]}] * 3


def test_where_there_is_nothing_to_do_no_node_is_touched() -> None:
    started = start(cluster=StubCluster(mirror=None))
    assert started.cluster.calls == ["acquire", "configure org/m", "engine"]
    assert {node_id: (one.path, one.is_local) for node_id, one in started.ctx.nodes.items()} == {
        "n0": ("org/m", True),
        "n1": ("org/m", False),
        "n2": ("org/m", False),
    }


def test_the_replicas_own_group_is_taken_where_there_is_one() -> None:
    started = start(cluster=StubCluster(placement_group=("n0", "n4")))
    assert "acquire" not in started.cluster.calls
    assert list(started.ctx.nodes) == ["n0", "n4"]


# -- modes --------------------------------------------------------------------------------------------------------


def downloads(cluster: StubCluster) -> list[str]:
    # Sorted: nodes work at the same time, and which of them is first is nobody's promise.
    return sorted(call.removeprefix("download ") for call in cluster.calls if call.startswith("download "))


def nodes_touched(cluster: StubCluster) -> list[str]:
    return [call.removeprefix("run ") for call in cluster.calls if call.startswith("run ")]


def test_the_workers_mode_governs_every_node() -> None:
    @hook("on_before_download")
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "TOKENIZER_ONLY"

    started = start(choose)
    assert downloads(started.cluster) == ["n0 TOKENIZER_ONLY", "n1 TOKENIZER_ONLY", "n2 TOKENIZER_ONLY"]
    assert {one.download_model for one in started.ctx.nodes.values()} == {DownloadMode.TOKENIZER_ONLY}


def test_the_local_mode_is_our_nodes_alone() -> None:
    @hook("on_before_download")
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "NONE"
        ctx.local_node_download_model = "EXCLUDE_SAFETENSORS"

    started = start(choose)
    assert downloads(started.cluster) == ["n0 EXCLUDE_SAFETENSORS"]
    assert nodes_touched(started.cluster) == ["n0"]
    assert {node_id: one.download_model for node_id, one in started.ctx.nodes.items()} == {
        "n0": DownloadMode.EXCLUDE_SAFETENSORS,
        "n1": DownloadMode.NONE,
        "n2": DownloadMode.NONE,
    }


def test_a_node_may_change_its_own_mode() -> None:
    @hook("on_before_node_download")
    def choose(ctx: NodeCtx) -> None:
        if ctx.node_id == "n1":
            ctx.download_model = "NONE"

    started = start(choose)
    assert [one.partition(" ")[0] for one in downloads(started.cluster)] == ["n0", "n2"]
    assert started.ctx.nodes["n1"].path == "org/m"


def test_with_mode_none_the_hooks_of_the_nodes_run_and_nothing_is_downloaded() -> None:
    @hook("on_before_download")
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = DownloadMode.NONE

    started = start(choose, *everywhere())
    assert downloads(started.cluster) == []
    assert [each for each in points(started.ctx) if each[0] in ON_NODES] == [
        (point, node) for task in (IN_FIRST_TASK, IN_SECOND_TASK) for node in NODES for point in task
    ]


def test_extra_files_come_with_any_mode() -> None:
    @hook("on_before_download")
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "NONE"

    started = start(choose, cluster=StubCluster(("n0",), mirror={"extra_files": [{"bucket_uri": "s3://b/f"}]}))
    assert downloads(started.cluster) == ["n0 NONE"]


# -- what a veto stops --------------------------------------------------------------------------------------------


def test_at_before_download_a_veto_leaves_every_node_alone() -> None:
    @hook("on_before_download")
    def baked(ctx: CallbackCtx) -> Any:
        return skip("the image has it")

    started = start(baked, *everywhere())
    assert started.cluster.calls == ["acquire", "configure None", "engine"]
    assert dict(started.ctx.nodes) == {}
    assert started.ctx.run_init_node is False
    ran = [event.point for event in started.ctx.trace if event.ran and not event.process]
    assert [point for point in ran if point != "on_before_download"] == [
        point for point in IN_REPLICA if point != "on_before_download"
    ]
    (vetoed,) = [event for event in started.ctx.trace if event.outcome == "vetoed"]
    assert (vetoed.name, vetoed.detail) == ("baked", "the image has it")


def test_rays_name_for_it_does_the_same() -> None:
    @hook("on_before_init")
    def leave_them_alone(ctx: CallbackCtx) -> None:
        ctx.run_init_node = False

    assert start(leave_them_alone, *everywhere()).cluster.calls == ["acquire", "configure None", "engine"]


@pytest.mark.parametrize("row", [row for row in HOOK_POINTS.values() if row.may_veto], ids=lambda row: row.name)
def test_what_a_veto_leaves_out_is_what_the_table_says(row: HookPoint, caplog: pytest.LogCaptureFixture) -> None:
    point: Any = row.name

    @hook(point)
    def veto(ctx: Any) -> Any:
        return skip("there already")

    trace = start(veto, *everywhere()).ctx.trace
    left_out = {event.point: event.detail for event in trace if event.outcome == "skipped"}
    assert left_out == dict.fromkeys(left_out_by(row.name), f"vetoed at {row.name}: there already")
    instead = {"on_custom_init"} if row.name == "on_before_init" else set()
    assert {event.point for event in trace if event.ran} == {row.name for row in GOOD_POINTS} - set(left_out) | instead
    said = [message for message in caplog.messages if "do not run" in message]
    assert len(said) == bool(left_out)
    assert all(f"nothing at {point}" in line for line in said for point in left_out)
    assert all('worker_node_download_model = "NONE"' in line for line in said)


def test_a_hook_that_says_it_in_rays_words_leaves_out_the_same(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_init")
    def leave_nodes_alone(ctx: CallbackCtx) -> None:
        ctx.run_init_node = False

    trace = start(leave_nodes_alone, *everywhere()).ctx.trace
    left_out = {event.point: event.detail for event in trace if event.outcome == "skipped"}
    assert left_out == dict.fromkeys(left_out_by("on_before_download"), "a hook set ctx.run_init_node = False")
    assert sum("do not run" in message for message in caplog.messages) == 1


def test_a_phase_callback_that_skips_the_defaults_is_not_warned_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    def callback(phase: str, config: object, data: Any) -> None:
        if phase == "pre_initialization":
            data["skip_default"] = True

    trace = start(config=FullConfig(callbacks=[callback])).ctx.trace
    assert sum(event.outcome == "skipped" for event in trace) == 3
    assert not any("do not run" in message for message in caplog.messages)


def test_on_a_node_a_veto_stops_this_nodes_download_and_its_hooks_run() -> None:
    @hook("on_before_node_download")
    def have_it(ctx: NodeCtx) -> Any:
        return skip("cached") if ctx.node_id == "n1" else None

    started = start(have_it, *everywhere())
    assert [one.partition(" ")[0] for one in downloads(started.cluster)] == ["n0", "n2"]
    result = started.ctx.nodes["n1"]
    assert (result.path, result.skipped, result.error, result.download_s) == (None, "cached", None, 0.0)
    assert started.ctx.nodes["n0"].skipped is None
    assert [(event.name, event.outcome, event.detail) for event in started.ctx.trace if event.node_id == "n1"] == [
        ("have_it", "vetoed", "cached"),
        *[("nothing", "ok", "")] * len(ON_NODES),
    ]


def test_with_the_defaults_skipped_on_custom_init_takes_over_and_the_engine_still_starts() -> None:
    @hook("on_before_init")
    def ours(ctx: CallbackCtx) -> bool:
        return False

    @hook("on_custom_init")
    def take_over(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n7",)
        ctx.model_path = "/baked"

    started = start(ours, take_over, *everywhere())
    assert started.cluster.calls == ["configure /baked by a hook", "engine"]
    assert started.output.placement_group == ("n7",)
    assert started.ctx.run_init_node is False
    ran = list(dict.fromkeys(event.point for event in started.ctx.trace if event.ran and not event.process))
    the_engines = IN_REPLICA[IN_REPLICA.index("on_before_engine_init") :]
    assert ran == ["on_before_init", "on_custom_init", *the_engines]


def test_with_the_defaults_skipped_and_no_group_of_its_own_the_default_one_is_acquired() -> None:
    @hook("on_before_init")
    def ours(ctx: CallbackCtx) -> bool:
        return False

    started = start(ours)
    assert started.cluster.calls == ["acquire", "configure None", "engine"]


# -- a replaced placement group -----------------------------------------------------------------------------------


def test_a_group_that_a_hook_brings_at_the_beginning_is_the_one() -> None:
    @hook("on_before_init")
    def bring(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n5", "n0")

    started = start(bring, *everywhere())
    assert "acquire" not in started.cluster.calls
    assert list(started.ctx.nodes) == ["n5", "n0"]
    assert started.output.placement_group == ("n5", "n0")


def test_a_group_that_is_replaced_at_the_end_has_its_new_nodes_initialized_once() -> None:
    @hook("on_after_placement_group")
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n0", "n1", "n8", "n9")

    started = start(replace, *everywhere(), cluster=StubCluster(("n0", "n1")))
    assert list(started.ctx.nodes) == ["n0", "n1", "n8", "n9"]
    assert started.output.placement_group == ("n0", "n1", "n8", "n9")
    assert nodes_touched(started.cluster) == ["n0", "n1", "n8", "n9"] * 2  # and once the engine is up
    ran = points(started.ctx)
    assert [point for point, _ in ran].count("on_after_download") == 1
    late = [(point, node) for node in ("n8", "n9") for point in IN_FIRST_TASK]
    first = ran.index(late[0])
    assert ran[first : first + len(late)] == late
    assert ran.index(("on_after_placement_group", "n0")) < first < ran.index(("on_before_engine_init", "n0"))


def test_a_group_that_is_taken_away_is_the_default_one_again() -> None:
    @hook("on_after_placement_group")
    def take_away(ctx: CallbackCtx) -> None:
        ctx.placement_group = None

    started = start(take_away)
    assert started.cluster.calls.count("acquire") == 1
    assert started.output.placement_group == ("n0", "n1", "n2")


@pytest.mark.parametrize(("veto", "touched"), [(True, []), (False, ["n0", "n1", "n2", "n9"])])
def test_whether_nodes_are_touched_is_decided_once(veto: bool, touched: list[str]) -> None:
    @hook("on_before_download")
    def decide(ctx: CallbackCtx) -> bool:
        return not veto

    @hook("on_after_placement_group")
    def change_its_mind(ctx: CallbackCtx) -> None:
        ctx.run_init_node = veto
        ctx.placement_group = ("n0", "n9")

    assert nodes_touched(start(decide, change_its_mind).cluster) == touched


# -- where the engine finds the model -----------------------------------------------------------------------------


def cluster_with(paths: dict[str, str], **options: Any) -> StubCluster:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        return paths.get(task.node_id, "/models/m")

    return StubCluster(("n0", "n1"), download=download, **options)


def test_it_is_what_our_nodes_download_returned() -> None:
    seen: list[str | None] = []

    @hook("on_after_download")
    def look(ctx: CallbackCtx) -> None:
        seen.append(ctx.model_path)

    started = start(look)
    assert seen == ["/models/m"]
    assert "configure /models/m" in started.cluster.calls


@pytest.mark.parametrize("point", ["on_before_init", "on_after_download", "on_before_engine_init"])
def test_what_a_hook_says_wins(point: Any) -> None:
    @hook(point)
    def say(ctx: CallbackCtx) -> None:
        ctx.model_path = str(Path("/store/m"))

    started = start(say)
    assert started.ctx.model_path == "/store/m"
    assert "configure /store/m by a hook" in started.cluster.calls


def test_a_hook_on_a_node_may_have_fetched_it_itself() -> None:
    @hook("on_before_node_download")
    def fetch(ctx: NodeCtx) -> Any:
        ctx.model_path = "/local/m"
        return skip("fetched from our store")

    ctx = start(fetch).ctx
    assert {one.path for one in ctx.nodes.values()} == {"/local/m"}
    assert ctx.model_path == "/local/m"


def test_a_hook_on_a_node_may_have_moved_it() -> None:
    @hook("on_after_node_download")
    def move(ctx: NodeCtx) -> None:
        ctx.model_path = f"{ctx.model_path}-unpacked"

    assert start(move).ctx.model_path == "/models/m-unpacked"


def test_where_our_node_has_no_part_in_the_group_it_is_the_first_nodes() -> None:
    cluster = cluster_with({"n0": "/first", "n1": "/first"}, local_node_id="elsewhere")
    assert start(cluster=cluster).ctx.model_path == "/first"


def test_nodes_that_have_it_elsewhere_are_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    started = start(cluster=cluster_with({"n1": "/other"}))
    assert started.ctx.model_path == "/models/m"
    assert [one.path for one in started.ctx.nodes.values()] == ["/models/m", "/other"]
    assert caplog.messages == [
        "model 'm' is at /models/m here, but elsewhere on node n1 (/other); the engine loads /models/m"
    ]


def test_nodes_that_have_it_elsewhere_are_an_error_where_the_engines_workers_span_them() -> None:
    with pytest.raises(ServeLLMHooksError) as caught:
        start(cluster=cluster_with({"n1": "/other"}, engine_workers=2))
    assert str(caught.value) == (
        "model 'm' is at /models/m here, but elsewhere on node n1 (/other). The engine takes one path for all its "
        "workers: download to the same path everywhere, or set ctx.model_path to one that is good on all nodes."
    )


def test_and_it_is_none_where_a_hook_says_the_path() -> None:
    @hook("on_before_init")
    def say(ctx: CallbackCtx) -> None:
        ctx.model_path = "/shared/m"

    assert start(say, cluster=cluster_with({"n1": "/other"}, engine_workers=2)).ctx.model_path == "/shared/m"


def test_a_node_that_vetoed_its_download_has_no_path_to_differ(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_node_download")
    def veto(ctx: NodeCtx) -> bool:
        return ctx.is_local

    assert start(veto, cluster=StubCluster(engine_workers=3)).ctx.model_path == "/models/m"
    assert caplog.messages == []


# -- which hooks --------------------------------------------------------------------------------------------------


def test_two_models_in_one_process_never_see_each_others_hooks() -> None:
    @hook("on_before_init", model_id="llama")
    def for_llama(ctx: CallbackCtx) -> None:
        ctx.custom_data["mine"] = "llama"

    @hook("on_before_init", model_id="qwen")
    def for_qwen(ctx: CallbackCtx) -> None:
        ctx.custom_data["mine"] = "qwen"

    @hook("on_before_node_download", model_id="qwen")
    def on_nodes(ctx: NodeCtx) -> None: ...

    ours = [for_llama, for_qwen, on_nodes]
    llama, qwen = start(config=Config("llama", ours)), start(config=Config("qwen", ours), cluster=StubCluster(("n0",)))
    assert (llama.names, llama.ctx.custom_data) == (["for_llama"], {"mine": "llama"})
    assert (qwen.names, qwen.ctx.custom_data) == (["for_qwen", "on_nodes"], {"mine": "qwen"})
    assert (start(config=RayConfig("llama")).names, start(config=RayConfig("other")).names) == (["for_llama"], [])


def test_hooks_that_are_not_in_the_replica_are_told_with_the_place() -> None:
    with pytest.raises(HookLoadError, match=r"^in the replica of model 'm' on node n0: hooks module 'no_such' cannot"):
        start("no_such")


def test_registered_but_not_named_is_logged_and_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_init")
    def of_another_module(ctx: CallbackCtx) -> None: ...

    caplog.set_level(logging.INFO, "serve_llm_hooks")
    assert start(config=Config(hooks=None)).names == []
    there = f"{__name__}:test_registered_but_not_named_is_logged_and_does_not_run.<locals>.of_another_module"
    assert caplog.messages == [
        "model 'm': 0 hooks: none",
        f"model 'm': registered for it, but not named in its config's hooks=[...], so not run: {there}",
    ]
    caplog.clear()
    assert start(config=Config(hooks=[])).names == []
    assert caplog.messages == ["model 'm': 0 hooks: none"]


def test_with_nothing_left_unnamed_nothing_more_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serve_llm_hooks")
    exec("@hook('on_before_init')\ndef mine(ctx):\n    pass\n", {"__name__": "__main__", "hook": hook})
    assert start(config=Config(hooks=None)).names == ["mine"]
    assert caplog.messages[:-1] == ["model 'm': 1 hook: __main__:mine"]  # the last tells what the start did


FILE = """
from serve_llm_hooks import hook

SEEN = "helped"

def helper():
    return SEEN

@hook("on_before_node_download")
def work(ctx):
    ctx.custom_data["work"] = helper()
"""


def test_the_hooks_of_a_file_travel_by_value(tmp_path: Path) -> None:
    file = tmp_path / "site_hooks.py"
    file.write_text(FILE)
    cluster = StubCluster(("n1",))

    async def on_a_fresh_node(task: NodeTask) -> NodeReport:
        (name,) = [name for name in sys.modules if name.startswith("site_hooks")]
        del sys.modules[name]
        file.unlink()
        return await cluster.work(task)

    cluster.answers = {"n1": on_a_fresh_node}
    assert start(str(file), cluster=cluster).ctx.nodes["n1"].custom_data == {"work": "helped"}


SCRIPT = """
from serve_llm_hooks import hook
from tests.unit.stub import Config, StubCluster, start

@hook("on_before_init")
def mine(ctx):
    ctx.custom_data["from"] = "the script"

@hook("on_after_node_download")
def on_every_node(ctx):
    ctx.custom_data["there"] = ctx.custom_data["from"]

@hook("on_before_init", model_id="other")
def of_another_model(ctx):
    raise AssertionError

started = start(config=Config(hooks=None))
print(started.names, started.ctx.nodes["n2"].custom_data)
print(start(config=Config(hooks=[])).names, start(config=Config(hooks=[mine])).names)
"""


def test_the_running_scripts_own_hooks(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['mine', 'on_every_node', 'on_every_node', 'on_every_node'] {'from': 'the script', 'there': 'the script'}",
        "[] ['mine']",
    ]
