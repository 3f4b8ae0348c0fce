"""``initialize_node`` on a real Ray of three nodes: what runs where, in which order, and what comes of failures."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HOOK_POINTS,
    CallbackCtx,
    DownloadError,
    HookError,
    HookLoadError,
    HookPickleError,
    NodeCtx,
    NodeInitializationError,
    PlacementGroupError,
    hook,
    initialization,
    initialize_node,
    skip,
)
from tests.conftest import written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import Skip
    from serve_llm_hooks._replica.initialize import Initialization

pytestmark = pytest.mark.ray

MakeConfig = "Callable[..., Any]"


def start(config: Any, *, engine: object = "the engine", **cluster: Any) -> Initialization:
    """One start, to its end; the engine is a stand-in, since these tests are about what is around it."""
    from serve_llm_hooks.ray import RayCluster

    async def run() -> Initialization:
        async with initialization(config, cluster=RayCluster(**cluster)) as run:
            run.engine = engine
        return run

    return asyncio.run(run())


def names(run: Initialization, point: str) -> list[str]:
    return [event.name for event in run.trace if event.point == point]


def test_every_hook_runs_at_its_point_in_order_on_its_node(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    run = start(make_config("tests.integration.hooks.every_point"))

    in_replica = [event for event in run.trace if not HOOK_POINTS[event.point].on_node]
    assert [event.name for event in in_replica] == [
        "before_init",
        "before_download",
        "after_download",
        "after_placement_group",
        "before_engine",
        "after_engine",
        "after_init",
    ]
    assert {(event.node_id, event.process_id) for event in in_replica} == {(three_nodes[0], os.getpid())}
    assert {event.outcome for event in run.trace} == {"ok"}

    for node_id in three_nodes:
        on_node = [event for event in run.trace if event.node_id == node_id and event.process_id != os.getpid()]
        assert [event.name for event in on_node] == ["before_node_first", "before_node_second", "after_node"]
        assert len({event.process_id for event in on_node}) == 1
        assert all(event.start_s <= event.end_s for event in on_node)
        assert on_node[-1].end_s <= in_replica[2].start_s  # before on_after_download
        assert on_node[0].start_s >= in_replica[1].end_s  # after on_before_download

    data = run.ctx.custom_data
    assert set(run.ctx.nodes) == set(three_nodes)
    for node_id, node in run.ctx.nodes.items():
        assert node.custom_data["order"] == ["before_download", "first", "second"]
        assert node.custom_data["from_replica"] == os.getpid()
        assert node.custom_data["heavy_imports"] == []
        assert node.is_local == (node_id == three_nodes[0])
        assert data["seen"][node_id] == f"m on {node_id}, local: {node_id == three_nodes[0]}"
    assert data["order"] == ["before_download"]  # what a node changes is its own copy
    assert "says" not in data
    assert len({node.custom_data["pid"] for node in run.ctx.nodes.values()}) == 3
    assert data["engine"] == "the engine"
    assert data["group"] == run.output.placement_group.id.hex()
    assert run.ctx.llm_config.get_engine_config().engine_kwargs["max_model_len"] == 128
    assert run.ctx.llm_config.engine_kwargs["max_model_len"] == 128


@hook("on_before_download")
def no_download(ctx: CallbackCtx) -> Skip:
    return skip("baked into the image")


@hook("on_before_node_download")
def say_pid(ctx: NodeCtx) -> None:
    ctx.custom_data["pid"] = os.getpid()


def test_a_vetoed_download_touches_no_node(make_config: Callable[..., Any]) -> None:
    run = start(make_config(no_download, say_pid))

    assert [(event.name, event.outcome, event.detail) for event in run.trace] == [
        ("no_download", "vetoed", "baked into the image"),
        ("say_pid", "skipped", "vetoed at on_before_download: baked into the image"),
    ]
    assert dict(run.ctx.nodes) == {}


def test_a_replaced_group_is_used_and_its_new_nodes_are_initialized_once(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    import ray

    def replace(ctx: CallbackCtx) -> None:
        ctx.custom_data["first"] = list(ctx.nodes)
        ctx.placement_group = ray.util.placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")

    config = make_config(hook("on_after_placement_group")(replace), say_pid, nodes=1)
    run = start(config)

    assert len(run.ctx.custom_data["first"]) == 1
    assert set(run.ctx.nodes) == set(three_nodes)
    assert sorted(event.node_id for event in run.trace if event.name == "say_pid") == sorted(three_nodes)
    assert run.output.placement_group is run.ctx.placement_group
    assert len(run.output.placement_group.bundle_specs) == 3
    assert config.get_or_create_callback() is not None


def test_two_models_with_different_hooks_in_one_process_stay_apart(make_config: Callable[..., Any]) -> None:
    from serve_llm_hooks.ray import RayCluster

    def tell(name: str) -> Any:
        def say(ctx: NodeCtx) -> None:
            ctx.custom_data["hook of"] = [*ctx.custom_data.get("hook of", []), name]

        return hook("on_after_node_download")(say)

    configs = [
        make_config(tell(name), model_loading_config={"model_id": name, "model_source": "/nowhere"}) for name in "ab"
    ]
    seen: dict[str, list[Any]] = {}

    async def one(config: Any) -> None:
        async with initialization(config, cluster=RayCluster()) as run:
            seen[config.model_id] = [node.custom_data["hook of"] for node in run.ctx.nodes.values()]

    async def both() -> None:
        await asyncio.gather(*(one(config) for config in configs))

    asyncio.run(both())
    assert seen == {"a": [["a"]] * 3, "b": [["b"]] * 3}


def fail_on(*node_ids: str) -> Any:
    def broken_disk(ctx: NodeCtx) -> None:
        if ctx.node_id in node_ids:
            raise OSError(28, "No space left on device")

    return hook("on_after_node_download")(broken_disk)


@pytest.mark.parametrize("count", [1, 2])
def test_failing_nodes_are_named_with_their_tracebacks(
    count: int, make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    failing = three_nodes[1 : 1 + count]
    with pytest.raises(NodeInitializationError) as caught:
        start(make_config(fail_on(*failing)))

    error = caught.value
    assert set(error.node_ids) == set(failing)
    lines = str(error).splitlines()
    assert lines[0] == f"{'1 node' if count == 1 else '2 nodes'} of model 'm' could not be initialized:"
    assert len(lines) == 1 + count
    for line, each in zip(lines[1:], error.exceptions, strict=True):
        assert isinstance(each, HookError)
        assert each.node_id is not None
        assert line.startswith(f"  {written(each.node_id)}: ")
        assert "broken_disk failed at on_after_node_download" in line
        assert "No space left on device" in line
        assert each.remote_traceback is not None
        assert "test_three_nodes.py" in each.remote_traceback
        assert 'raise OSError(28, "No space left on device")' in each.remote_traceback


def test_an_exception_that_cannot_be_pickled_arrives_as_text(make_config: Callable[..., Any]) -> None:
    def odd(ctx: NodeCtx) -> None:
        import threading

        error = ValueError("with a lock inside")
        error.lock = threading.Lock()  # type: ignore[attr-defined]  # that is the point
        raise error

    with pytest.raises(NodeInitializationError) as caught:
        start(make_config(hook("on_before_node_download")(odd)))
    assert all("ValueError: with a lock inside" in str(each) for each in caught.value.exceptions)


def test_a_hook_that_cannot_travel_is_told_before_any_node_is_touched(make_config: Callable[..., Any]) -> None:
    import threading

    lock = threading.Lock()

    def guarded(ctx: NodeCtx) -> None:
        with lock:
            pass

    with pytest.raises(HookPickleError, match=r"guarded.*the variable 'lock' it captured \(lock\) cannot be pickled"):
        start(make_config(hook("on_before_node_download")(guarded)))


def test_a_module_that_a_node_does_not_have(
    make_config: Callable[..., Any], hidden_module: Callable[[str, str], str], three_nodes: list[str]
) -> None:
    name = hidden_module(
        "hooks_only_here",
        "from serve_llm_hooks import hook\n\n@hook('on_before_node_download')\ndef f(ctx):\n    pass\n",
    )
    with pytest.raises(NodeInitializationError) as caught:
        start(make_config(name), node_grace_s=120)  # processes start slowly on a busy machine
    assert len(caught.value.exceptions) == 3
    for error in caught.value.exceptions:
        assert isinstance(error, HookLoadError)
        assert "hooks module 'hooks_only_here' cannot be imported on node" in str(error)
        assert any(written(node_id) in str(error) for node_id in three_nodes)
        assert "runtime_env={'working_dir': ...} or {'py_modules': [...]}" in str(error)


def test_hooks_of_a_script_of_a_file_and_given_as_functions_reach_the_nodes(
    three_nodes: list[str], tmp_path: Path
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    file = tmp_path / "loose_hooks.py"
    file.write_text(
        textwrap.dedent("""
            from serve_llm_hooks import hook
            WORD = "loose"
            @hook("on_after_node_download")
            def from_file(ctx):
                ctx.custom_data["from_file"] = WORD
        """)
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
            import asyncio, pickle
            import ray
            import ray.cloudpickle as cloudpickle
            from serve_llm_hooks import hook, initialization
            from serve_llm_hooks.ray import LLMConfig, RayCluster

            GREETING = "hello from the script"

            @hook("on_after_node_download")
            def from_script(ctx):
                ctx.custom_data["from_script"] = GREETING

            @hook("on_after_node_download", model_id="other")
            def for_another_model(ctx):
                raise AssertionError

            async def start(config):
                async with initialization(config, cluster=RayCluster()) as run:
                    pass
                ray.util.remove_placement_group(run.output.placement_group)
                return [node.custom_data for node in run.ctx.nodes.values()]

            ray.init(address={address!r}, log_to_driver=False)
            fields = dict(
                model_loading_config=dict(model_id="m", model_source="/nowhere"),
                accelerator_config=dict(kind="cpu"),
                placement_group_config=dict(bundles=[dict(CPU=1)] * 3, strategy="STRICT_SPREAD"),
            )
            here = asyncio.run(start(LLMConfig(**fields)))
            assert here == [{{"from_script": GREETING}}] * 3, here

            # In a replica, another process: the config takes the script's hooks along.
            @ray.remote
            def replica(config):
                return asyncio.run(start(config))

            there = ray.get(replica.remote(LLMConfig(**fields)))
            assert there == [{{"from_script": GREETING}}] * 3, there
            there = ray.get(replica.remote(LLMConfig(**fields, hooks=[{str(file)!r}, from_script])))
            assert there == [{{"from_file": "loose", "from_script": GREETING}}] * 3, there
            assert ray.get(replica.remote(LLMConfig(**fields, hooks=[]))) == [{{}}] * 3
            print("all arrived")
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "all arrived" in done.stdout


def test_llm_config_on_a_node(make_config: Callable[..., Any]) -> None:
    def ask(ctx: NodeCtx) -> None:
        ctx.custom_data["strategy"] = ctx.llm_config.placement_group_config["strategy"]

    run = start(make_config(hook("on_before_node_download")(ask), nodes=1))
    assert [node.custom_data["strategy"] for node in run.ctx.nodes.values()] == ["STRICT_SPREAD"]


@pytest.mark.fault(
    "a placement group that this cluster can never hold",
    promise="`PlacementGroupError` at once: what was asked, what there is; with an autoscaler, after the timeout",
)
def test_a_group_that_this_cluster_can_never_hold(make_config: Callable[..., Any]) -> None:
    config = make_config(placement_group_config={"bundles": [{"CPU": 1000}], "strategy": "PACK"})
    begin = time.monotonic()
    with pytest.raises(PlacementGroupError) as caught:
        start(config, placement_group_timeout_s=300)
    assert time.monotonic() - begin < 60
    assert "can never be scheduled: asked for PACK of {'CPU': 1000.0}" in str(caught.value)
    assert "'CPU': 4.0" in str(caught.value)


def test_downloads_with_rays_own_code_as_each_node_is_told(
    make_config: Callable[..., Any], bucket: str, three_nodes: list[str], tmp_path: Path
) -> None:
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "TOKENIZER_ONLY"

    def look(ctx: NodeCtx) -> None:
        assert ctx.model_path is not None
        ctx.custom_data["files"] = sorted(os.listdir(ctx.model_path))

    config = make_config(
        hook("on_before_download")(choose),
        hook("on_after_node_download")(look),
        model_loading_config={"model_id": "tokenizer-only", "model_source": {"bucket_uri": bucket}},
        runtime_env={"env_vars": {"HF_HOME": str(tmp_path / "hf")}},
    )
    run = start(config)

    assert [node.custom_data["files"] for node in run.ctx.nodes.values()] == [["config.json", "tokenizer.json"]] * 3
    assert {node.download_model for node in run.ctx.nodes.values()} == {"TOKENIZER_ONLY"}
    assert all(node.download_s > 0 for node in run.ctx.nodes.values())
    assert run.ctx.model_path is not None
    assert run.ctx.model_path.startswith(str(tmp_path / "hf"))
    assert config.get_engine_config().hf_model_id == run.ctx.model_path


@pytest.mark.fault("a download fails: no such bucket, access denied, connection cut half-way, no space left")
def test_a_download_that_fails_names_node_source_and_cause(
    make_config: Callable[..., Any], s3: str, bucket: str, three_nodes: list[str]
) -> None:
    config = make_config(
        model_loading_config={"model_id": "absent", "model_source": {"bucket_uri": "s3://no-such-bucket/m"}},
    )
    begin = time.monotonic()
    with pytest.raises(NodeInitializationError) as caught:
        start(config, node_timeout_s=120, node_grace_s=120)  # as above
    assert time.monotonic() - begin < 2 * 120
    assert len(caught.value.exceptions) == len(three_nodes)
    for error in caught.value.exceptions:
        assert isinstance(error, DownloadError)
        assert "model 'absent' could not be downloaded to node" in str(error)
        assert "from s3://no-such-bucket/m" in str(error)
        assert "bucket" in str(error).lower()


@pytest.mark.parametrize("source", ["folder", "mirror"])
def test_without_hooks_the_end_state_is_that_of_rays_own(
    source: str, make_config: Callable[..., Any], bucket: str, tmp_path: Path
) -> None:
    """Ray's ``initialize_node`` beside ours, on the same config."""
    from ray.llm._internal.serve.utils.node_initialization_utils import initialize_node as ray_initialize_node
    from ray.serve.llm import LLMConfig as RayLLMConfig

    fields: dict[str, Any] = {"runtime_env": {"env_vars": {"HF_HOME": str(tmp_path / "hf")}}}
    if source == "mirror":
        fields["model_loading_config"] = {"model_id": "mirrored", "model_source": {"bucket_uri": bucket}}
    theirs, ours = make_config(cls=RayLLMConfig, **fields), make_config(**fields)
    # Ray asks for the group's nodes without waiting for it, and fails where it is not scheduled yet.
    assert theirs.get_or_create_callback().ctx.placement_group.wait(300)
    asyncio.run(ray_initialize_node(theirs))
    output = asyncio.run(initialize_node(ours))

    assert ours.get_engine_config().model_dump() == theirs.get_engine_config().model_dump()
    assert ours.get_engine_config().hf_model_id
    assert output.extra_init_kwargs == {}
    assert output.runtime_env == theirs.get_or_create_callback().ctx.runtime_env
    assert output.placement_group.bundle_specs == theirs.get_or_create_callback().ctx.placement_group.bundle_specs


@pytest.mark.parametrize(
    ("indices", "says"),
    [("0,5", r"VLLM_RAY_BUNDLE_INDICES names the bundles \[5\], but placement group \w+ has 1"), ("0;1", "not '0;1'")],
)
def test_bundle_indices_that_the_group_does_not_have(
    indices: str, says: str, make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_RAY_BUNDLE_INDICES", indices)
    with pytest.raises(PlacementGroupError, match=says):
        start(make_config(nodes=1))
