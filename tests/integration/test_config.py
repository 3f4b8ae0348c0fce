"""Our ``LLMConfig`` and ``build_openai_app``: what they take, and what they refuse before anything is deployed."""

from __future__ import annotations

import asyncio
import importlib
import logging
import pickle
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HOOK_POINTS,
    CallbackCtx,
    HookError,
    HookLoadError,
    HookNotAllowedError,
    HookOrderError,
    HookPickleError,
    HookSignatureError,
    NodeCtx,
    NodeInitializationError,
    RayServeLLMCallback,
    hook,
    registry,
)
from serve_llm_hooks._core.messages import path_or_type, without_value
from serve_llm_hooks._observe import progress as progress_module
from tests.conftest import written
from tests.harness.test_odd_inputs import ODD, SECRET, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from serve_llm_hooks import HookRegistry

pytestmark = pytest.mark.ray

CPU: dict[str, Any] = {"accelerator_config": {"kind": "cpu"}}


@hook("on_before_init")
def setup(ctx: CallbackCtx, *, bucket: str = "none") -> None:
    ctx.custom_data["bucket"] = bucket


@hook("on_before_init")
def refuses(ctx: CallbackCtx) -> None:
    raise OSError("not on this machine")


@hook("on_after_node_download")
def note(ctx: NodeCtx) -> None:
    ctx.custom_data["noted"] = True


@hook("on_after_engine_init")
def too_late(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", before="setup", after="setup")
def impossible(ctx: CallbackCtx) -> None: ...


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our warnings, among all that Ray logs."""
    return [r.getMessage() for r in caplog.records if r.name == "serve_llm_hooks" and r.levelname == "WARNING"]


def test_model_id_is_a_shorthand(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="llama", model_loading_config={"model_source": "/models/llama"}, hooks=[setup], **CPU)
    assert config.model_id == "llama"
    assert config.hooks == [setup]
    assert LLMConfig(model_id="llama", **CPU).hooks is None
    with pytest.raises(ValueError, match=r"model_id='a' and model_loading_config\['model_id'\]='b' differ; give one"):
        LLMConfig(model_id="a", model_loading_config={"model_id": "b"}, **CPU)


@pytest.mark.parametrize(
    ("hooks", "error", "says"),
    [
        (["no_such.hooks"], HookLoadError, "hooks module 'no_such.hooks' cannot be found (no module 'no_such')"),
        ("my.hooks", HookLoadError, "hooks= is a list, as in hooks=['my_company.llm_hooks'], not 'my.hooks'"),
        ([len], HookLoadError, 'len in hooks=[...] is no hook: decorate it with @hook("on_...")'),
        ([{"hook": setup, "kwargs": {"bukket": 1}}], HookSignatureError, "unexpected keyword argument 'bukket'"),
        ([setup, impossible], HookOrderError, "form a circle at on_before_init"),
        ([3], HookLoadError, "not 3"),
    ],
)
def test_hooks_that_cannot_be_used_are_refused_when_the_config_is_made(
    hooks: Any, error: type[Exception], says: str, three_nodes: list[str]
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    with pytest.raises(error) as caught:
        LLMConfig(model_id="m", hooks=hooks, **CPU)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "brings",
    [
        {"working_dir": "s3://code/app.zip"},
        {"py_modules": ["s3://code/hooks.zip"]},
        {"pip": ["shipped-hooks"]},
        {"uv": ["shipped-hooks"]},
        {"conda": {"dependencies": ["shipped-hooks"]}},
        {"image_uri": "registry/with:hooks"},
        {"container": {"image": "registry/with:hooks"}},
    ],
    ids=lambda brings: next(iter(brings)),
)
def test_a_module_that_this_process_lacks_may_come_with_the_runtime_env(
    brings: dict[str, Any], three_nodes: list[str]
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    assert LLMConfig(model_id="m", hooks=["shipped.hooks"], runtime_env=brings, **CPU).hooks == ["shipped.hooks"]
    with pytest.raises(HookLoadError, match=r"hooks module 'shipped\.hooks' cannot be found"):
        LLMConfig(model_id="m", hooks=["shipped.hooks"], runtime_env={"env_vars": {"A": "1"}}, **CPU)


def test_a_module_that_is_shipped_is_looked_for_in_the_replica(three_nodes: list[str]) -> None:
    from serve_llm_hooks import initialize_node
    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="m", hooks=["shipped.hooks"], runtime_env={"working_dir": "s3://code/app.zip"}, **CPU)
    with pytest.raises(HookLoadError) as caught:  # which this process is not
        asyncio.run(initialize_node(config))
    assert str(caught.value).startswith(
        f"in the replica of model 'm' on {written(three_nodes[0])}: hooks module 'shipped.hooks' cannot be found"
    )
    assert "runtime_env={'working_dir': ...} or {'py_modules': [...]} ships it" in str(caught.value)


def test_a_hook_that_cannot_leave_is_told_by_name_when_the_config_is_sent(three_nodes: list[str]) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    lock = threading.Lock()

    def guarded(ctx: CallbackCtx) -> None:
        with lock:
            pass

    config = LLMConfig(model_id="m", hooks=[{"hook": hook("on_before_init")(guarded)}], **CPU)
    with pytest.raises(HookPickleError, match=r"guarded at on_before_init .* the variable 'lock' it captured"):
        cloudpickle.dumps(config)


class First:
    def on_before_init(self, ctx: CallbackCtx) -> None: ...


class Second:
    def on_before_init(self, ctx: CallbackCtx) -> None: ...


class Quantized(RayServeLLMCallback):
    checks_arguments = True

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        if llm_config.engine_kwargs.get("quantization"):
            raise ValueError("the weights are quantized already")

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_a_class_looks_at_the_config_when_it_is_made_and_when_it_is_sent(three_nodes: list[str]) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    told = r"model 'm': .*:Quantized refuses the config: the weights are quantized already"
    with pytest.raises(HookLoadError, match=told):
        LLMConfig(model_id="m", hooks=[Quantized], engine_kwargs={"quantization": "awq"}, **CPU)
    config = LLMConfig(model_id="m", callback=Quantized, hooks=[], **CPU)
    config.engine_kwargs["quantization"] = "awq"
    with pytest.raises(HookLoadError, match=told):
        cloudpickle.dumps(config)


def test_an_order_across_fields_is_told_when_the_config_is_made(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import LLMConfig

    def last(ctx: CallbackCtx) -> None: ...

    hook("on_before_init", after="on_before_init")(last)
    LLMConfig(model_id="m", hooks=[Second, last], **CPU)
    with pytest.raises(HookOrderError, match=r"is ambiguous: .*:First\.on_before_init, .*:Second\.on_before_init"):
        LLMConfig(model_id="m", callback=First, hooks=[Second, last], **CPU)


def test_parameters_may_be_given_beside_the_hooks_module(
    three_nodes: list[str], hidden_module: Callable[[str, str], str]
) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    name = hidden_module(
        "shop", 'from serve_llm_hooks import hook\n@hook("on_before_init")\ndef fetch(ctx, *, bucket): ...'
    )
    given: dict[str, Any] = {"hook": f"{name}:fetch", "kwargs": {"bucket": "s3://b"}}
    for beside in (name, importlib.import_module(name)):
        cloudpickle.dumps(LLMConfig(model_id="m", hooks=[beside, given], **CPU))
        with pytest.raises(HookSignatureError, match="bucket"):
            LLMConfig(model_id="m", hooks=[beside], **CPU)


def test_what_a_script_decorated_is_checked_when_the_config_is_sent(
    three_nodes: list[str], hook_registry: HookRegistry
) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    def script(source: str) -> None:
        exec(source, {"__name__": "__main__", "hook": hook})

    registry.clear()
    config = LLMConfig(model_id="m", callback=First, **CPU)
    script("@hook('on_before_init', after='on_before_init', before='on_before_init')\ndef f(ctx): ...")
    with pytest.raises(HookOrderError, match="form a circle at on_before_init"):
        cloudpickle.dumps(config)
    config = LLMConfig(model_id="m", **CPU)
    cloudpickle.dumps(config)
    script("@hook('on_before_node_download')\ndef fetch(ctx, *, bucket): ...")
    with pytest.raises(HookSignatureError, match=r"missing a required argument: 'bucket'.* hooks=\[{\"hook\": fetch,"):
        cloudpickle.dumps(config)


def test_hooks_that_stay_behind_are_told_once_when_the_config_is_sent(
    three_nodes: list[str], hook_registry: HookRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """As under `serve run app:app`, which imports the module of the user's hooks as `app`, and not as the script."""
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    registry.clear()
    hook("on_before_init", model_id="left-out")(lambda ctx: None)
    left_out = LLMConfig(model_id="left-out", **CPU)
    there = pickle.loads(cloudpickle.dumps(left_out))
    for config in (
        left_out,
        there,
        LLMConfig(model_id="left-out", hooks=[], **CPU),
        LLMConfig(model_id="another", **CPU),
    ):
        cloudpickle.dumps(config)
    (message,) = warnings_of(caplog)
    assert message.startswith("model 'left-out': hooks=[...] is left out of its config, so only hooks of the running")
    assert "<lambda>" in message
    assert f"add hooks=[{__name__!r}]" in message


def test_what_was_changed_in_place_on_rays_config_is_not_lost_by_the_builder(
    three_nodes: list[str],
) -> None:
    from ray.serve.llm import LLMConfig as RayLLMConfig

    from serve_llm_hooks.ray import build_openai_app

    config: Any = RayLLMConfig(model_loading_config={"model_id": "m"}, **CPU)
    config.update_engine_kwargs(max_model_len=99)
    config.deployment_config["num_replicas"] = 3
    config.callback_config.callback_class = "serve_llm_hooks.ray.HooksCallback"
    config.callback_config.callback_kwargs["hooks"] = [too_late]
    app = build_openai_app({"llm_configs": [config]})
    (server,) = app._bound_deployment.init_kwargs["llm_deployments"].values()
    built = server._bound_deployment.init_kwargs["llm_config"]
    assert built.engine_kwargs["max_model_len"] == 99
    assert server._bound_deployment.num_replicas == 3
    assert built.hooks == [too_late]


def test_the_builder_takes_configs_dicts_and_files(three_nodes: list[str], tmp_path: Path) -> None:
    from ray.serve.llm import LLMConfig as RayLLMConfig, LLMServingArgs

    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    file = tmp_path / "model.yaml"
    file.write_text(
        "model_id: from-file\nhooks: [{hook: tests.integration.test_config:setup, kwargs: {bucket: 's3://b'}}]\n"
        "accelerator_config: {kind: cpu}\n"
    )
    as_dict = {"model_id": "from-dict", "hooks": ["tests.integration.hooks.every_point"], **CPU}
    rays = RayLLMConfig(
        model_loading_config={"model_id": "rays"},
        callback_config={
            "callback_class": "serve_llm_hooks.ray.HooksCallback",
            "callback_kwargs": {"hooks": [too_late]},  # in reach now
        },
        **CPU,
    )
    app = build_openai_app({"llm_configs": [str(file), as_dict, LLMConfig(model_id="ours", **CPU), rays]})
    assert app is not None
    rays = RayLLMConfig(model_loading_config={"model_id": "x"}, **CPU)
    assert build_openai_app(LLMServingArgs(llm_configs=[rays])) is not None

    with pytest.raises(FileNotFoundError, match=r"llm_configs names the file 'no\.yaml', which is not there"):
        build_openai_app({"llm_configs": ["no.yaml"]})
    with pytest.raises(HookLoadError, match="hooks module 'absent' cannot be found"):
        build_openai_app({"llm_configs": [{"model_id": "m", "hooks": ["absent"], **CPU}]})


@pytest.mark.parametrize("given", ["model.yaml", {"model_id": "m", "hooks": []}], ids=["a path", "a dash forgotten"])
def test_the_builder_wants_a_list_of_configs(given: Any, three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import build_openai_app

    with pytest.raises(TypeError) as caught:
        build_openai_app({"llm_configs": given})
    assert str(caught.value) == f"llm_configs is a list, as in llm_configs: [model.yaml], not {path_or_type(given)}"


def native(hooks: list[Any], make_config: Callable[..., Any]) -> Any:
    """Ray's own config, as somebody has it who changes only ``callback_config``."""
    from ray.serve.llm import LLMConfig as RayLLMConfig

    return make_config(
        cls=RayLLMConfig,
        callback_config={
            "callback_class": "serve_llm_hooks.ray.HooksCallback",
            "callback_kwargs": {"hooks": hooks},
        },
    )


def test_native_use_runs_hooks_instead_of_rays_node_initialization(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    import ray.cloudpickle

    def look(ctx: CallbackCtx) -> None:
        assert set(ctx.nodes) == set(three_nodes)
        assert all(node.custom_data["noted"] for node in ctx.nodes.values())
        ctx.extra_init_kwargs["max_model_len"] = 99

    config = native([note, hook("on_after_download")(look)], make_config)
    callback = config.get_or_create_callback()
    asyncio.run(callback.run_callback("on_before_node_init"))  # as Ray's engine does

    assert callback.ctx.run_init_node is False  # so Ray leaves the nodes alone
    assert callback.ctx.placement_group is not None
    assert config.get_engine_config().engine_kwargs["max_model_len"] == 99

    # For GPU engines Ray sends the config, with the callback on it, to another process.
    there = ray.cloudpickle.loads(ray.cloudpickle.dumps(config)).get_or_create_callback()
    assert there.ctx.run_init_node is False
    assert there.ctx.placement_group == callback.ctx.placement_group
    assert not hasattr(there, "_hooks")


def test_native_use_takes_the_group_that_ray_has_made(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    import ray

    def groups() -> set[str]:
        return {id_ for id_, row in ray.util.placement_group_table().items() if row["state"] != "REMOVED"}

    def fail(ctx: CallbackCtx) -> None:
        raise OSError("disk")

    before = groups()
    callback = native([], make_config).get_or_create_callback()
    made = callback.ctx.placement_group
    asyncio.run(callback.run_callback("on_before_node_init"))
    assert callback.ctx.placement_group == made
    assert groups() - before == {made.id.hex()}
    ray.util.remove_placement_group(made)

    callback = native([hook("on_before_engine_init")(fail)], make_config).get_or_create_callback()
    with pytest.raises(HookError, match="disk"):
        asyncio.run(callback.run_callback("on_before_node_init"))
    assert groups() == before


def test_native_use_tells_who_was_waited_for_before_rays_own_limit_ends_it(
    make_config: Callable[..., Any], three_nodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_llm_hooks.ray import internals

    async def hangs(ctx: NodeCtx) -> None:
        if not ctx.is_local:
            await asyncio.Event().wait()

    failed: list[str] = []

    def failure(ctx: CallbackCtx) -> None:
        failed.append(str(ctx.error))

    monkeypatch.setattr(internals, "ENGINE_START_TIMEOUT_S", 15)
    callback = native(
        [hook("on_after_node_download")(hangs), hook("on_failure")(failure)], make_config
    ).get_or_create_callback()
    with pytest.raises(NodeInitializationError, match="did not answer within") as caught:
        asyncio.run(callback.run_callback("on_before_node_init"))
    assert "Raise Ray's limit" in caught.value.__notes__[0]
    assert len(failed) == 1


def test_a_copy_shares_what_hooks_are_given_and_keep(three_nodes: list[str]) -> None:
    """Ray copies the config for the connectors between prefill and decode, when hooks have run."""
    import copy

    from serve_llm_hooks.ray import LLMConfig

    class Keeps(RayServeLLMCallback):
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def on_before_init(self, ctx: CallbackCtx) -> None: ...

    keeps, module = Keeps(), importlib.import_module("tests.integration.hooks.every_point")
    config = LLMConfig(model_id="m", hooks=[module, keeps], engine_kwargs={"seed": {"a": 1}}, **CPU)
    copied = copy.deepcopy(config)
    assert copied.hooks == [module, keeps]
    assert copied.hooks is not config.hooks
    copied.engine_kwargs["seed"]["a"] = 2
    assert config.engine_kwargs["seed"] == {"a": 1}


@pytest.fixture
def waits_for(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], bool]]:
    """Wait until the log says that model ``m`` waits for something; whether it has, within a minute."""
    monkeypatch.setattr(progress_module, "PROGRESS_S", 0.01)
    caplog.set_level(logging.INFO, "serve_llm_hooks")
    lines: set[str] = set()
    another = threading.Condition()

    def listen(record: logging.LogRecord) -> bool:
        with another:
            lines.add(record.getMessage())
            another.notify_all()
        return True

    def waits_for(what: str) -> bool:
        with another:
            said = f"model 'm': waiting for {what} ("
            return another.wait_for(lambda: any(said in line for line in lines), timeout=60)

    caplog.handler.addFilter(listen)
    try:
        yield waits_for
    finally:
        caplog.handler.removeFilter(listen)


def test_native_use_says_that_the_engine_starts_until_its_start_is_over(
    make_config: Callable[..., Any], waits_for: Callable[[str], bool]
) -> None:
    async def start() -> None:
        await native([], make_config).get_or_create_callback().run_callback("on_before_node_init")
        assert await asyncio.to_thread(waits_for, "its engine to start")  # here Ray's engine starts

    asyncio.run(start())
    assert "serve-llm-hooks progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("point", [row.name for row in HOOK_POINTS.values() if row.needs_server])
def test_native_use_refuses_hooks_that_ray_never_reaches(point: Any, make_config: Callable[..., Any]) -> None:
    @hook(point)
    def late(ctx: Any) -> None: ...

    with pytest.raises(HookLoadError) as caught:
        native([late], make_config).get_or_create_callback()
    assert f"late at {point} can never run" in str(caught.value)
    assert "import_path: serve_llm_hooks.ray:build_openai_app" in str(caught.value)


def loading(source: str) -> dict[str, str]:
    return {"model_id": "m", "model_source": source}


SGLANG = "ray.llm._internal.serve.engines.sglang.SGLangServer"


def test_nobody_waits_for_the_background_in_the_workers_of_another_engine(make_config: Callable[..., Any]) -> None:
    @hook("on_before_node_download", until="on_engine_process_start")
    def fetch(ctx: Any) -> None: ...

    with pytest.raises(
        HookLoadError, match=r"fetch at on_before_node_download, with until='on_engine_process_start', is"
    ):
        make_config(fetch, server_cls=SGLANG)
    with pytest.raises(HookLoadError, match=r"fetch at on_before_node_download lasts until on_engine_process_start"):
        native([fetch], make_config).get_or_create_callback()


@pytest.mark.parametrize(
    ("source", "fields", "says"),
    [
        ("s3://models/m", {"server_cls": SGLANG}, "Leave out weights=, or leave out server_cls="),
        ("org/model", {}, "give the bucket"),
        ("s3://models/m", {"engine_kwargs": {"load_format": "runai_streamer"}}, "or leave out load_format="),
    ],
)
def test_weights_are_late_only_where_somebody_waits_for_them(
    source: str, fields: dict[str, Any], says: str, make_config: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=says):
        make_config(weights="late", model_loading_config=loading(source), **fields)


def test_weights_are_not_late_behind_a_server_that_is_not_ours(make_config: Callable[..., Any]) -> None:
    config = make_config(weights="late", model_loading_config=loading("s3://models/m"))
    with pytest.raises(HookLoadError, match=r"weights='late' of model 'm': Ray's callback_config ends before"):
        config.get_or_create_callback()


def test_native_use_refuses_no_hook_that_is_turned_off(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "too_late")
    native([too_late], make_config).get_or_create_callback()


def test_a_config_that_is_sent_or_copied_before_hooks_have_run_has_them_there(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    """Whoever asks a config for its callback, to see that the hooks can be loaded, has one made."""
    import copy

    import ray.cloudpickle

    from serve_llm_hooks.ray import HooksCallback, LLMConfig

    def sent(config: Any) -> Any:
        return ray.cloudpickle.loads(ray.cloudpickle.dumps(config))

    for config in (native([refuses], make_config), LLMConfig(model_id="m", hooks=[refuses], **CPU)):
        config.get_or_create_callback()
        for there in (sent(config), sent(sent(config)), copy.deepcopy(config), sent(copy.deepcopy(config))):
            callback = there.get_or_create_callback()
            assert type(callback).__name__ == HooksCallback.__name__
            assert callback.llm_config is there
            with pytest.raises(HookError, match="not on this machine"):
                asyncio.run(callback.run_callback("on_before_node_init"))


SLOW_TO_IMPORT = """
import builtins
from serve_llm_hooks import hook

assert builtins.waits_for("its hooks to be imported")

@hook("on_before_init")
def seen(ctx):
    raise OSError("enough")
"""


@pytest.mark.parametrize("by", ["the callback", "a server"])
def test_native_use_says_that_hooks_are_imported(
    by: str,
    make_config: Callable[..., Any],
    tmp_path: Path,
    waits_for: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from serve_llm_hooks.ray import hooked_server
    from tests.integration.servers import Plain

    async def make(config: Any) -> None:
        cls: Any = hooked_server(Plain)
        server = cls.__new__(cls)
        await server.__init__(config)

    (tmp_path / "slow_behind_ray.py").write_text(SLOW_TO_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.waits_for", waits_for, raising=False)
    config = native(["slow_behind_ray"], make_config)
    try:
        if by == "the callback":
            config.get_or_create_callback()
        else:
            with pytest.raises(HookError, match="enough"):
                asyncio.run(make(config))
    finally:
        sys.modules.pop("slow_behind_ray", None)


@pytest.mark.parametrize("assigned", [None, "ray.serve.llm.deployment.LLMServer"])
def test_a_server_class_that_is_assigned_and_is_none_is_told(assigned: Any, three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    config = LLMConfig(model_id="m", hooks=[setup], **CPU)
    config.server_cls = assigned
    with pytest.raises(HookLoadError, match=r"server_cls was set to .* after the config was made"):
        pickle.dumps(config)
    if assigned is None:  # the builders put ours there
        build_openai_app({"llm_configs": [config]})
        pickle.dumps(config)


def test_native_use_that_names_no_hooks_says_which_line_to_write(
    make_config: Callable[..., Any], hook_registry: HookRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.serve.llm import LLMConfig as RayLLMConfig

    from serve_llm_hooks.ray import LLMConfig
    from serve_llm_hooks.ray.native_config import hooks_of_native_config

    def config(**kwargs: Any) -> Any:
        chosen = {"callback_class": "serve_llm_hooks.ray.HooksCallback", "callback_kwargs": kwargs}
        return make_config(cls=RayLLMConfig, callback_config=chosen)

    registry.clear()  # as in a replica, where nobody has imported anything
    for refused in (lambda: config().get_or_create_callback(), lambda: hooks_of_native_config(config())):
        with pytest.raises(HookLoadError, match="HooksCallback in callback_config is given no hooks") as caught:
            refused()
        assert "Write callback_kwargs: {hooks: [my_company.llm_hooks]}, or {hooks: []} for none." in str(caught.value)
    with pytest.raises(HookLoadError, match="HooksCallback in callback_config is given no hooks"):
        LLMConfig(model_id="m", callback_config={"callback_class": "serve_llm_hooks.ray.HooksCallback"}, **CPU)
    config(hooks=[]).get_or_create_callback()
    assert hooks_of_native_config(config(hooks=[])) is not None
    assert warnings_of(caplog) == []

    # Without HooksCallback, behind hooked_server(): no hooks may be meant.
    assert list(hooks_of_native_config(make_config(cls=RayLLMConfig)) or ()) == []
    (message,) = warnings_of(caplog)
    assert message.startswith("model 'm': no hook will run: its config, which is Ray's, names none")
    assert "or with hooks=[] for none" in message

    hook("on_before_init", model_id="m")(lambda ctx: None)
    config().get_or_create_callback()  # all that is registered for the model
    assert len(hooks_of_native_config(make_config(cls=RayLLMConfig)) or ()) == 1


def test_a_hooks_callback_of_ones_own_runs_no_initialization_inside_ours(
    three_nodes: list[str], hidden_module: Callable[[str, str], str]
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    name = hidden_module("ones", "from serve_llm_hooks.ray import HooksCallback\nclass Own(HooksCallback): ...")
    for named in (f"{name}.Own", importlib.import_module(name).Own):
        with pytest.raises(HookLoadError, match=r"Own, which is a HooksCallback: it would run an initialization of"):
            LLMConfig(model_id="m", callback_config={"callback_class": named}, **CPU)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"hook": ["x"]}, r"the key 'hooks' and no other, so not 'hook'.*hooks"),
        ({"hooks": "my_company.llm_hooks"}, r"is a list, as in hooks: \[my_company.llm_hooks\], not 'my_company"),
    ],
)
def test_a_slip_in_callback_kwargs_does_not_make_hooks_absent(
    kwargs: dict[str, Any], says: str, make_config: Callable[..., Any]
) -> None:
    from ray.serve.llm import LLMConfig as RayLLMConfig

    from serve_llm_hooks.ray import LLMConfig

    chosen = {"callback_class": "serve_llm_hooks.ray.HooksCallback", "callback_kwargs": kwargs}
    with pytest.raises(HookLoadError, match=says):
        make_config(cls=RayLLMConfig, callback_config=chosen).get_or_create_callback()
    with pytest.raises(HookLoadError, match=says):
        LLMConfig(model_id="m", callback_config=chosen, **CPU)


def test_native_use_lets_our_errors_through(make_config: Callable[..., Any]) -> None:
    def broken(ctx: NodeCtx) -> None:
        raise OSError("disk")

    callback = native([hook("on_before_node_download")(broken)], make_config).get_or_create_callback()
    with pytest.raises(NodeInitializationError, match="3 nodes of model 'm' could not be initialized") as caught:
        asyncio.run(callback.run_callback("on_before_node_init"))
    assert not hasattr(caught.value, "__notes__")  # Ray's limit has nothing to do with it


@pytest.mark.parametrize(
    "fields",
    [
        {"hooks": ["vendor_hooks"]},
        {"callback": "vendor_hooks:Style"},
        {"callbacks": ["vendor_hooks.phase"]},
        {"initialization_class": "vendor_hooks.Initialization"},
        {"callback_config": {"callback_class": "vendor_hooks.OfRays"}},
        {
            "callback_config": {
                "callback_class": "serve_llm_hooks.ray.HooksCallback",
                "callback_kwargs": {"hooks": ["vendor_hooks"]},
            }
        },
    ],
    ids=["hooks", "callback", "callbacks", "initialization_class", "callback_config", "HooksCallback"],
)
def test_what_is_not_allowed_is_not_imported_whichever_field_names_it(
    fields: dict[str, Any],
    three_nodes: list[str],
    hidden_module: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    hidden_module("vendor_hooks", "raise AssertionError('it was imported')")
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "my_company.*")
    with pytest.raises(HookNotAllowedError, match="no pattern in it matches the module 'vendor_hooks'"):
        LLMConfig(model_id="m", **fields, **CPU)


def test_where_nothing_is_allowed_a_config_without_hooks_is(
    three_nodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "")
    config = pickle.loads(cloudpickle.dumps(LLMConfig(model_id="m", **CPU)))
    assert config.callback_hooks() == []


def test_what_travels_by_value_travels_with_the_config(three_nodes: list[str], tmp_path: Path) -> None:
    """Serve pickles with Ray's own cloudpickle, which does not know our hooks files, nor what is cached there."""
    import subprocess

    from ray import cloudpickle

    from serve_llm_hooks import load_hooks
    from serve_llm_hooks.ray import LLMConfig

    file = tmp_path / "by_value.py"
    file.write_text(
        "import functools\nfrom serve_llm_hooks import hook\n\n@functools.cache\ndef cached(): return 'cached'\n\n"
        "@hook('on_before_init')\ndef ask(ctx): return cached()\n\n"
        "class Asks:\n    def on_before_init(self, ctx): return cached()\n\nasks = Asks()\n"
    )
    given = load_hooks(str(file))
    fn = next(iter(given)).fn
    asks = fn.__globals__["asks"]
    config = LLMConfig(model_id="m", hooks=[given, fn, asks], callback=asks, **CPU)
    there = (
        "import pickle, sys\nconfig = pickle.loads(sys.stdin.buffer.read())\nregistry, fn, asks = config.hooks\n"
        "print(fn(None), asks.on_before_init(None), asks is config.callback, next(iter(registry)).fn is fn)\n"
    )
    data = cloudpickle.dumps(config)
    told = subprocess.run([sys.executable, "-c", there], input=data, capture_output=True, check=True).stdout
    assert told.decode().splitlines()[-1] == "cached cached True True"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("fields", "message"), ODD.values(), ids=ODD)
def test_an_odd_field(fields: dict[str, Any], message: str) -> None:
    """As ``FakeLLMConfig`` refuses it."""
    from serve_llm_hooks.ray import LLMConfig

    refuse(lambda **given: LLMConfig(model_id="m", **CPU, **given), fields, message)


def test_what_ray_refuses_shows_no_value() -> None:
    from serve_llm_hooks.ray import LLMConfig

    for field in ("engine_kwargs", "runtime_env", "callback_kwargs", "deployment_config"):
        refuse(lambda **given: LLMConfig(model_id="m", **CPU, **given), {field: [SECRET]}, field)


@pytest.mark.parametrize("given", ["org/model", "", SECRET, ["org/model"], [], 0, False, SECRET.encode()])
def test_anything_else_in_place_of_a_models_loading_config(given: Any) -> None:
    from serve_llm_hooks.ray import LLMConfig

    message = rf"model_loading_config= is a mapping, as in .*, not {re.escape(without_value(given))}"
    refuse(lambda **fields: LLMConfig(model_id="m", **CPU, **fields), {"model_loading_config": given}, message)
    refuse(lambda **fields: LLMConfig(**CPU, **fields), {"model_loading_config": given}, message)


def test_a_models_loading_config_that_is_left_out() -> None:
    from serve_llm_hooks.ray import LLMConfig

    assert LLMConfig(model_id="m", model_loading_config=None, **CPU).model_id == "m"


@pytest.mark.parametrize(
    ("brings", "module", "file"),
    [
        ({"working_dir": "https://example.com/x.zip"}, True, True),
        ({"image_uri": "acme/llm"}, True, True),
        ({"py_modules": ["https://example.com/x.zip"]}, True, False),
        ({"pip": ["acme-llm"]}, True, False),
        ({"pip": {"packages": []}}, False, False),
        ({"py_modules": [""]}, False, False),
        ({"working_dir": " "}, False, False),
        ({"env_vars": {"A": "1"}}, False, False),
        (None, False, False),
    ],
)
def test_what_the_replica_may_have_is_let_through(brings: dict[str, Any] | None, module: bool, file: bool) -> None:
    from serve_llm_hooks.ray import LLMConfig

    for name, passes in (("acme_llm_elsewhere.hooks", module), ("hooks/elsewhere.py", file)):
        if passes:
            LLMConfig(model_id="m", hooks=[name], runtime_env=brings, **CPU)
        else:
            with pytest.raises(HookLoadError, match=r"cannot be found|is not there"):
                LLMConfig(model_id="m", hooks=[name], runtime_env=brings, **CPU)


NONSENSE = [float("nan"), float("inf"), -1, "5", [], True, 10**400]


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", ["node_timeout_s", "node_grace_s", "placement_group_timeout_s"])
def test_limits_are_numbers_of_seconds(name: str, value: Any) -> None:
    from serve_llm_hooks.ray import RayCluster

    with pytest.raises(ValueError, match=f"{name} is a (positive )?number of seconds"):
        RayCluster(**{name: value})


@pytest.mark.parametrize(("value", "shown"), [(float("inf"), "inf"), (1e300, "1e\\+300"), (10**400, "a larger one")])
@pytest.mark.parametrize("name", ["node_timeout_s", "node_grace_s", "placement_group_timeout_s"])
def test_a_limit_that_is_too_large_is_told_how_large_it_may_be(name: str, value: float, shown: str) -> None:
    from serve_llm_hooks.ray import RayCluster

    with pytest.raises(ValueError, match=f"{name} is a .*, at most 1e12, as in 600, not {shown}$"):
        RayCluster(**{name: value})


def test_a_grace_may_be_none_at_all_but_not_nothing() -> None:
    from serve_llm_hooks.ray import RayCluster

    assert RayCluster(node_grace_s=0).node_grace_s == 0
    grace: Any = None
    with pytest.raises(ValueError, match="node_grace_s is a number of seconds, 0 or more, as in 600, not None"):
        RayCluster(node_grace_s=grace)
    with pytest.raises(ValueError, match="node_timeout_s is a positive number of seconds, as in 600, not 0"):
        RayCluster(node_timeout_s=0)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "an hour", "", "1e13"])
@pytest.mark.parametrize("name", ["NODE_TIMEOUT_S", "PLACEMENT_GROUP_TIMEOUT_S"])
def test_limits_of_the_environment(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_llm_hooks.ray import RayCluster

    monkeypatch.setenv(f"SERVE_LLM_HOOKS_{name}", value)
    message = f"SERVE_LLM_HOOKS_{name} is a positive number of seconds, (at most 1e12, )?as in 600, not {value!r}"
    with pytest.raises(ValueError, match=message):
        RayCluster()
    monkeypatch.setenv(f"SERVE_LLM_HOOKS_{name}", "12.5")
    assert RayCluster().node_grace_s == 10


def test_a_config_whose_hooks_are_for_another_model_says_so(
    three_nodes: list[str], hook_registry: HookRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    @hook_registry.hook("on_before_init", model_id="qwen/*")
    def of_qwen(ctx: CallbackCtx) -> None: ...

    config = LLMConfig(model_id="Qwen/Qwen3-8B", hooks=[hook_registry], **CPU)
    (message,) = warnings_of(caplog)
    assert "of_qwen at on_before_init (model_id='qwen/*', which differs from 'Qwen/Qwen3-8B'" in message
    caplog.clear()
    LLMConfig(model_id="qwen/qwen3", hooks=[hook_registry], **CPU)
    cloudpickle.dumps(config)
    assert warnings_of(caplog) == []  # once for each config, and not each time that it travels
