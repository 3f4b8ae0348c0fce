"""What we take from Ray's internals is in every supported Ray.

Ray's wheels are taken from the package index and read, not imported: no engine is needed, and two versions of Ray
cannot be imported in one process anyway. What can be told from our own sources (which names, which calls) is derived
from them, so that what is new there is checked at once. The rest is the table below: for each of Ray's modules, a
skeleton of what we rely on there, and who of us does. `skeleton.py` says how it is read.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import DownloadMode
from serve_llm_hooks.cli.serve_config import ARGUMENTS, BUILDERS, ENGINES, LOADING_FIELDS, RAYS_FIELDS

from . import ours
from .skeleton import default_values, differences
from .sources import Found, Sources, fields, members_of_enum, own_names
from .wheels import VERSIONS, ray_wheel

if TYPE_CHECKING:
    from .ours import Call, Name

pytestmark = pytest.mark.wheels

RELIED_ON = {
    # -- the config ---------------------------------------------------------------------------------------------------
    "ray.llm._internal.serve.core.configs.llm_config": """
class LLMConfig:  # ray/config.py: ours is a subclass; ray/hand_over.py, ray/cluster.py, ray/hooked.py use it
    runtime_env: ...
    model_loading_config: ...
    engine_kwargs: ...
    server_cls: ...
    callback_config: CallbackConfig
    _engine_config = PrivateAttr(None)  # where get_engine_config() keeps what it has made
    _callback_instance = PrivateAttr(None)

    @property
    def model_id(self):
        return self.model_loading_config.model_id

    def get_or_create_callback(self):  # ray/hand_over.py: hand_over() puts ours where this finds it
        if self._callback_instance is not None:
            return self._callback_instance
        # ray/rays_callbacks.py: HooksCallback and _RaysInstance are made, and make, in the same way
        self._callback_instance = callback_class(
            raise_error_on_callback=self.callback_config.raise_error_on_callback,
            llm_config=self,
            ctx_kwargs={"worker_node_download_model": ..., "placement_group": ..., "runtime_env": ...},
            **self.callback_config.callback_kwargs,
        )
        return self._callback_instance

    def get_engine_config(self):  # ray/cluster.py: what configure_engine() writes there is found there
        if self._engine_config:
            return self._engine_config
        self._engine_config = VLLMEngineConfig.from_llm_config(self)

    def update_engine_kwargs(self, **kwargs):  # and what Ray adds later does not replace it
        self.engine_kwargs.update(kwargs)
        if self._engine_config:
            self._engine_config.engine_kwargs.update(kwargs)
""",
    "ray.llm._internal.common.base_pydantic": """
class BaseModelExtended:
    @classmethod
    def from_file(cls, path): ...  # ray/app.py
""",
    # -- callbacks: ray/hand_over.py ----------------------------------------------------------------------------------
    "ray.llm._internal.common.callbacks.base": """
class CallbackCtx:
    worker_node_download_model: ... = None
    placement_group: ... = None
    runtime_env: ... = None
    custom_data: ...
    run_init_node: ... = True

class CallbackConfig:
    callback_class: ... = CallbackBase
    callback_kwargs: ...
    raise_error_on_callback: ... = True

class CallbackBase:
    def __init__(self, *, llm_config, raise_error_on_callback=True, ctx_kwargs=None, **kwargs):
        self.llm_config = llm_config
        self.ctx = CallbackCtx(**ctx_kwargs)

    async def on_before_node_init(self): pass
    async def on_after_node_init(self): pass
    def on_before_download_model_files_distributed(self): pass

    async def run_callback(self, method_name):
        try:
            await method()
            method()
        except Exception:
            self._handle_callback_error(method_name, e)

    def _handle_callback_error(self, method_name, e): ...  # HandedOver lets our errors through unwrapped
""",
    # -- the engine: what it asks of the config, and when -------------------------------------------------------------
    "ray.llm._internal.serve.engines.vllm.vllm_engine": """
class VLLMEngine:
    async def start(self):
        callback = self.llm_config.get_or_create_callback()
        await callback.run_callback("on_before_node_init")
        if callback.ctx.run_init_node:
            await initialize_node(self.llm_config)
        await callback.run_callback("on_after_node_init")
        self._prepare_engine_config(callback.ctx)
        self._start_async_llm_engine(vllm_engine_args, vllm_engine_config, callback.ctx.placement_group)

    def _prepare_engine_config(self, callback_ctx):
        engine_config: ... = self.llm_config.get_engine_config()
        # for GPU engines the config is pickled, with our callback on it; ray/prewarm.py has a task with these options
        if engine_config.accelerator.requires_remote_initialization:
            remote_options = {
                "num_cpus": 0,
                "runtime_env": callback_ctx.runtime_env,
                "scheduling_strategy": PlacementGroupSchedulingStrategy(placement_group=callback_ctx.placement_group),
                **accelerator.get_remote_options(accelerator_type),
            }
            ray.remote(_get_vllm_engine_config).options(**remote_options).remote(self.llm_config)
        FrontendArgs(**engine_config.frontend_kwargs)

def _get_vllm_engine_config(llm_config):
    engine_config = llm_config.get_engine_config()
    engine_config.get_initialization_kwargs()
""",
    "ray.llm._internal.serve.engines.vllm.vllm_models": """
class VLLMEngineConfig:  # ray/cluster.py: defaults() reads it, configure_engine() writes it
    hf_model_id: ...
    mirror_config: ...
    runtime_env: ...
    engine_kwargs: ...
    frontend_kwargs: ...

    @property
    def actual_hf_model_id(self):
        return self.hf_model_id or self.model_id

    @property
    def num_devices(self): ...

    def get_initialization_kwargs(self):
        engine_kwargs = self.engine_kwargs.copy()
        engine_kwargs["model"] = self.actual_hf_model_id

    def get_runtime_env_with_local_env_vars(self):  # ray/prewarm.py adds the same variables
        for env_var in ENV_VARS_TO_PROPAGATE:
            env_vars[env_var] = os.getenv(env_var)
        if "VLLM_RAY_PER_WORKER_GPUS" not in env_vars:
            env_vars["VLLM_RAY_PER_WORKER_GPUS"] = str(fractional_gpu)

    def get_or_create_pg(self):
        pg = get_current_placement_group()
        if pg: ...
        return pg
""",
    "ray.llm._internal.serve.core.configs.accelerators": """
class GPUAccelerator:  # ray/prewarm.py
    @property
    def requires_remote_initialization(self):
        return True

    def get_remote_options(self, accelerator_type_str=None):
        options = {"num_gpus": 0.001}
""",
    # -- downloads: ray/download.py -----------------------------------------------------------------------------------
    "ray.llm._internal.common.utils.cloud_utils": """
class CloudMirrorConfig:
    bucket_uri: ... = None
    extra_files: ...

class ExtraFiles:
    bucket_uri: ...

class CloudFileSystem:
    def download_files(path, bucket_uri, substrings_to_include=None, suffixes_to_exclude=None): ...
""",
    "ray.llm._internal.common.utils.download_utils": """
logger = get_logger(__name__)

def download_model_files(*, model_id, mirror_config, download_model, download_extra_files, callback=None):
    model_path_or_id = model_id
    return model_path_or_id

class CloudModelDownloader:
    def get_model(self, tokenizer_only, exclude_safetensors=False):
        try: ...
        except RuntimeError:
            logger.exception(...)  # swallowed: download.py listens for it
        return get_model_location_on_disk(self.model_id)
""",
    "ray.llm._internal.common.utils.cloud_filesystem.s3_filesystem": """
logger = get_logger(__name__)

class S3FileSystem:
    def _download_single_file(s3_client, bucket, key, local_file_path):
        try: ...
        except Exception:
            logger.error(f"Failed to download {key}: {e}")  # and no more: download.py listens for these words
            return key, False
""",
    "ray.llm._internal.common.observability.logging": """
def get_logger(name=None):
    logger_name = f"ray.llm.{name}"
    return logging.getLogger(logger_name)
""",
    # -- servers: ray/hooked.py, hooked_server() ----------------------------------------------------------------------
    "ray.llm._internal.serve.core.server.llm_server": """
class LLMServer:
    async def __init__(self, llm_config, *, engine_cls=None, model_downloader=None):
        self._init_shared(llm_config, engine_cls, model_downloader)
        await self.start()

    def _init_shared(self, llm_config, engine_cls=None, model_downloader=None):
        self._llm_config = llm_config
        self._engine_cls = engine_cls or self._get_default_engine_class()
        self.engine: ... = None

    async def start(self):
        self.engine = self._engine_cls(self._llm_config)
        await asyncio.wait_for(self._start_engine(), timeout=...)

    async def _start_engine(self):
        await self.engine.start()

    async def __del__(self):  # ray/hooked.py: called after on_shutdown
        await engine.shutdown()

    def _get_default_engine_class(self):  # tests/stub_engine.py
        engine_cls_path = os.environ.get(RAYLLM_VLLM_ENGINE_CLS_ENV)
        if engine_cls_path:
            return import_attr(engine_cls_path)
""",
    "ray.llm._internal.serve.constants": """
RAYLLM_VLLM_ENGINE_CLS_ENV = "RAYLLM_VLLM_ENGINE_CLS"
""",
    "ray.llm._internal.serve.serving_patterns.data_parallel.dp_server": """
class DPServer(LLMServer):
    async def __init__(self, llm_config, *, engine_cls=None, model_downloader=None):
        llm_config.update_engine_kwargs(..., data_parallel_rank=self.dp_rank)
        # ray/cluster.py: defaults() finds there which bundles of the shared group are the rank's own
        os.environ["VLLM_RAY_BUNDLE_INDICES"] = self._compute_bundle_indices(...)
        await super().__init__(..., engine_cls=engine_cls)

    @staticmethod
    def _compute_bundle_indices(dp_rank, bundles_per_replica, sorted_indices):
        return ",".join(...)
""",
    "ray.llm._internal.serve.serving_patterns.prefill_decode.pd_server": """
class PDPrefillServer(LLMServer):
    async def __init__(self, llm_config): ...
    async def start(self): ...

class PDDecodeServer(LLMServer):
    async def __init__(self, llm_config, *, prefill_server):
        await super().__init__(llm_config, engine_cls=engine_cls, model_downloader=model_downloader)

class DPPDPrefillServer(PDPrefillServer, DPServer): ...
class DPPDDecodeServer(PDDecodeServer, DPServer): ...
""",
    "ray.llm._internal.serve.engines.sglang.sglang_engine": """
class SGLangServer:  # ray/sglang.py
    def __init__(self, llm_config):  # not async: so hooked_server() knows that the engine starts in here
        self._llm_config = llm_config
        self.engine_kwargs = llm_config.engine_kwargs
        self.engine = Engine(**self.engine_kwargs)

    async def start(self): pass

    @classmethod
    def get_deployment_options(cls, llm_config):
        tp_size = llm_config.engine_kwargs.get("tp_size", 1)
        pp_size = llm_config.engine_kwargs.get("pp_size", 1)
""",
    # -- builders: ray/app.py -----------------------------------------------------------------------------------------
    "ray.serve.llm": """
class LLMConfig(_LLMConfig): ...
def build_openai_app(llm_serving_args): ...
def build_dp_openai_app(dp_serving_args): ...
def build_pd_openai_app(pd_serving_args): ...

def build_llm_deployment(
    llm_config, *, name_prefix=None, bind_kwargs=None, override_serve_options=None, deployment_cls=None
): ...
""",
    "ray.llm._internal.serve.core.server.builder": """
def build_llm_deployment(llm_config, *, bind_kwargs=None, deployment_cls=None):
    deployment_cls = deployment_cls or llm_config.server_cls or LLMServer
    name_prefix = name_prefix or f"{deployment_cls.__name__}:"  # so a hooked class keeps its base's name
    serve.deployment(deployment_cls, **deployment_options).bind(llm_config=llm_config, **bind_kwargs)
""",
    "ray.llm._internal.serve.core.ingress.builder": """
class LLMServingArgs:
    llm_configs: ...

    def _validate_llm_configs(cls, value):
        if isinstance(config, LLMConfig):  # our config stays ours
            llm_configs.append(config)

def build_openai_app(builder_config):
    LLMServingArgs.model_validate(builder_config)
    {c.model_id: build_llm_deployment(c) for c in llm_configs}
""",
    "ray.llm._internal.serve.serving_patterns.data_parallel.builder": """
class DPOpenAiServingArgs:
    llm_config: ...

    def _validate_llm_config(cls, value):
        if isinstance(value, LLMConfig):
            return value

def build_dp_openai_app(builder_config):
    dp_deployment = build_dp_deployment(llm_config)
    serve.deployment(ingress_cls, **ingress_options).bind(..., llm_deployments={model_id: dp_deployment})
""",
    "ray.llm._internal.serve.serving_patterns.prefill_decode.builder": """
class PDServingArgs:
    prefill_config: ...
    decode_config: ...

    def _validate_llm_config(cls, value):
        if isinstance(value, LLMConfig):
            return value

def build_pd_openai_app(pd_serving_args):
    prefill_deployment = prefill_builder(..., deployment_cls=prefill_cls)
    decode_deployment = decode_builder(
        ..., bind_kwargs={"prefill_server": prefill_deployment}, deployment_cls=decode_cls
    )
    serve.deployment(ingress_cls, **ingress_options).bind(..., llm_deployments={model_id: decode_deployment})
""",
    "ray.serve.deployment": """
class Application:  # ray/app.py puts a hooked class in the place of each server's
    def __init__(self, bound_deployment):
        self._bound_deployment = bound_deployment

class Deployment:
    def __init__(self, name, deployment_config, replica_config, version=None):
        self._deployment_config = deployment_config
        self._replica_config = replica_config

    @property
    def name(self): ...

    @property
    def func_or_class(self):
        return self._replica_config.deployment_def

    @property
    def init_args(self): ...

    @property
    def init_kwargs(self): ...

    def options(self, func_or_class=None):
        if func_or_class is None:
            func_or_class = self._replica_config.deployment_def
        ReplicaConfig.create(..., func_or_class, init_args=_init_args, init_kwargs=_init_kwargs)
""",
    "ray.serve._private.build_app": """
def _build_app_recursive(app, *_):
    scanner.find_nodes((app._bound_deployment.init_args, app._bound_deployment.init_kwargs))
    final_deployment = app._bound_deployment.options(...)
""",
    "ray.serve._private.config": """
class ReplicaConfig:
    def __init__(self, *_, placement_group_bundles=None, placement_group_strategy=None):
        self.placement_group_bundles = placement_group_bundles
        self.placement_group_strategy = placement_group_strategy

class DeploymentConfig:
    gang_scheduling_config: ...
    graceful_shutdown_wait_loop_s: ... = Field(default=DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S, update_type=...)
    graceful_shutdown_timeout_s: ... = Field(default=DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S, update_type=...)
""",
    "ray.serve._private.constants": """
DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S = 20  # ray/shutdown.py
DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S = 2
""",
    "ray.serve.context": """
class ReplicaContext:
    _deployment_config: ...  # ray/shutdown.py
    code_version: ...  # ray/rollout.py
    @property
    def app_name(self): ...
    @property
    def deployment(self): ...
    @property
    def replica_tag(self): ...
""",
    "ray.serve.config": """
class GangSchedulingConfig:
    gang_size: ...
""",
    "ray.serve._private.deployment_scheduler": """
class DeploymentScheduler:  # ray/prewarm.py: a group with the name of its replica is that replica's alone
    def _schedule_replica(self, scheduling_request, *_):
        CreatePlacementGroupRequest(..., name=scheduling_request.actor_options["name"])
""",
    "ray.serve._private.replica": """
class ReplicaActor:  # ray/prewarmed.py: the server's class comes first, and Ray is connected by then
    async def __init__(self, *_):
        deployment_def = cloudpickle.loads(serialized_deployment_def)
        create_replica_impl(..., init_args=cloudpickle.loads(serialized_init_args))

class UserCallableWrapper:
    async def initialize_callable(self):  # an async constructor is awaited, whatever its class's was
        self._callable = self._deployment_def.__new__(self._deployment_def)
        await self._call_func_or_gen(..., self._callable.__init__)

    async def _call_func_or_gen(self, callable):
        result = callable(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = await result

    async def call_destructor(self):  # ray/shutdown.py: on_shutdown runs in there
        if hasattr(self._callable, "__del__"):
            await self._call_func_or_gen(..., self._callable.__del__)
""",
    # -- the cluster: ray/cluster.py, ray/capacity.py -----------------------------------------------------------------
    "ray._private.state": """
class GlobalState:
    def _gen_placement_group_info(self, placement_group_info):
        return {
            "placement_group_id": ...,
            "name": ...,  # ray/prewarm.py
            "bundles": ...,
            "bundles_to_node_id": ...,
            "strategy": ...,
            "state": ...,
            "stats": {"scheduling_state": ..., ...: ...},
            ...: ...,
        }
""",
    "ray._common.ray_option_utils": """
_task_only_options = {"_generator_backpressure_num_objects": ..., ...: ...}  # ray/prewarm.py
""",
    "ray._private.ray_constants": """
DEBUG_AUTOSCALING_STATUS = "__autoscaling_status"
""",
}

# Who in Ray Serve LLM uses what we put our own in the place of. Somebody new: is it still right that it is ours?
USERS = {
    "get_or_create_callback": {
        "engines.vllm.vllm_engine: VLLMEngine.start",
        "utils.node_initialization_utils: initialize_node",
        "utils.node_initialization_utils: initialize_remote_node",
    },
    "run_callback": {"engines.vllm.vllm_engine: VLLMEngine.start"},
    "_callback_instance": {"core.configs.llm_config: LLMConfig.get_or_create_callback"},
    "run_init_node": {"engines.vllm.vllm_engine: VLLMEngine.start"},
    "get_or_create_pg": {"core.configs.llm_config: LLMConfig.get_or_create_callback"},
    "server_cls": {
        "core.configs.llm_config: LLMConfig.validate_server_cls",  # the same word, as a string
        "core.ingress.builder: _build_direct_streaming_llm_deployment",
        "core.server.builder: build_llm_deployment",
    },
    "VLLM_RAY_BUNDLE_INDICES": {"serving_patterns.data_parallel.dp_server: DPServer.__init__"},
}

BASES = "ray.llm._internal.serve"
SERVERS = [
    "ray.serve.llm.deployment.LLMServer",
    f"{BASES}.serving_patterns.data_parallel.dp_server.DPServer",
    f"{BASES}.serving_patterns.prefill_decode.pd_server.PDPrefillServer",
    f"{BASES}.serving_patterns.prefill_decode.pd_server.DPPDDecodeServer",
]
SGLANG = f"{BASES}.engines.sglang.sglang_engine.SGLangServer"

# Our classes, Ray's that they are put on top of, and what of Ray's they are meant to replace or to set. Anything else
# would be hidden by accident, in whichever version has it.
OVERRIDDEN: list[tuple[tuple[str, str], list[str], set[str]]] = [
    (
        ("ray/config.py", "LLMConfig"),
        ["ray.serve.llm.LLMConfig"],
        {"get_or_create_callback", "_callback_instance", "server_cls", "callback_config", "model_config"},  # merged
    ),
    (
        ("ray/hand_over.py", "HandedOver"),
        ["ray.llm._internal.common.callbacks.base.CallbackBase"],
        {"_handle_callback_error", "ctx"},
    ),
    (
        ("ray/hooks_callback.py", "HooksCallback"),
        ["ray.llm._internal.common.callbacks.base.CallbackBase"],
        {"__init__", "on_before_node_init"},
    ),
    (("ray/hooked.py", "Traced"), [*SERVERS, SGLANG], set()),
    (("ray/hooked.py", "StartedByStart"), SERVERS, {"__init__", "start"}),
    (("ray/hooked.py", "StartedByConstructor"), [SGLANG], {"__init__"}),
]


@cache
def sources(version: str) -> Sources:
    """A version's sources; skips where they cannot be had."""
    return Sources(ray_wheel(version))


def class_of(ray: Sources, path: str) -> Found:
    """A class of Ray's, by its path."""
    module, _, name = path.rpartition(".")
    found = ray.find(module, name)
    assert found is not None, f"Ray has no {path}"
    assert isinstance(found.node, ast.ClassDef), f"{path} is no class"
    return found


def fields_of(ray: Sources, path: str) -> set[str]:
    """The fields of a class of Ray's."""
    return {name for _, cls in ray.linear(class_of(ray, path)) for name in fields(cls)}


each_version = pytest.mark.parametrize("version", VERSIONS)


@each_version
@pytest.mark.parametrize("name", ours.internal_names())
def test_every_name_in_internals_is_there(version: str, name: str) -> None:
    module = ours.internal_names()[name]
    assert sources(version).find(module, name), f"Ray {version} has no {name} in {module}"


@each_version
@pytest.mark.parametrize("name", ours.names(), ids=lambda name: f"{name.file}: {name}")
def test_whatever_else_we_import_is_there_and_here_to_stay(version: str, name: Name) -> None:
    found = sources(version).find(name.module, name.name)
    assert found, f"Ray {version} has no {name}, which serve_llm_hooks/{name.file} uses"
    decorators = [] if found.node is None else getattr(found.node, "decorator_list", [])
    # It also puts a plain function in the place of a class's async constructor.
    deprecated = [ast.unparse(each) for each in decorators if ast.unparse(each).startswith("Deprecated")]
    assert not deprecated, f"serve_llm_hooks/{name.file} uses {name}, in Ray {version}: @{deprecated[0]}"


@each_version
@pytest.mark.parametrize("call", ours.calls(), ids=str)
def test_what_we_call_takes_what_we_pass(version: str, call: Call) -> None:
    ray = sources(version)
    found = ray.find(call.of.module, call.of.name)
    assert found, f"Ray {version} has no {call.of}"
    function = found.node
    bound = 0
    if isinstance(function, ast.ClassDef):
        constructor = ray.member(found, "__init__")
        if constructor is None:  # a dataclass, or a model
            assert set(call.keywords) <= fields_of(ray, str(call.of))
            return
        function, bound = constructor, 1
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return  # compiled, or made by a call
    args = function.args
    positional = [each.arg for each in (*args.posonlyargs, *args.args)][bound:]
    given = [*positional[: call.positional], *call.keywords]
    accepted = {*positional, *(each.arg for each in args.kwonlyargs)}
    assert args.vararg or call.positional <= len(positional), f"{call} gives more than Ray {version} takes"
    assert args.kwarg or set(call.keywords) <= accepted, f"{call} passes what Ray {version} does not take"
    missing = accepted - {*given, *default_values(function)}
    assert call.starred or not missing, f"{call} does not pass {missing}, which Ray {version} needs"


@each_version
@pytest.mark.parametrize("module", RELIED_ON)
def test_ray_does_what_we_rely_on(version: str, module: str) -> None:
    told = differences(RELIED_ON[module], module, sources(version))
    assert not told, f"Ray {version}:\n" + "\n".join(told)


@each_version
@pytest.mark.parametrize("name", USERS)
def test_nobody_else_uses_what_we_put_ours_in_the_place_of(version: str, name: str) -> None:
    users = {
        f"{module.removeprefix(f'{BASES}.')}: {user}"
        for module, tree in sources(version).modules(BASES)
        for user in users_of(name, tree)
    }
    assert users == USERS[name]


@each_version
def test_the_download_modes_are_rays(version: str) -> None:
    found = class_of(sources(version), "ray.llm._internal.common.utils.download_utils.NodeModelDownloadable")
    assert isinstance(found.node, ast.ClassDef)
    assert members_of_enum(found.node) == [mode.name for mode in DownloadMode]


@each_version
@pytest.mark.parametrize(
    ("path", "handed_over"),
    [
        # _rays_values() and _take_rays_values() go through all of them.
        (
            "CallbackCtx",
            {"worker_node_download_model", "placement_group", "runtime_env", "custom_data", "run_init_node"},
        ),
        # _take_over_native_hooks() and ray_callback_hooks() read all of them.
        ("CallbackConfig", {"callback_class", "callback_kwargs", "raise_error_on_callback"}),
    ],
)
def test_no_field_of_rays_is_left_behind(version: str, path: str, handed_over: set[str]) -> None:
    assert fields_of(sources(version), f"ray.llm._internal.common.callbacks.base.{path}") == handed_over


@each_version
@pytest.mark.parametrize(("name", "known"), [("LLMConfig", RAYS_FIELDS), ("ModelLoadingConfig", LOADING_FIELDS)])
def test_the_command_line_refuses_the_fields_that_ray_refuses(version: str, name: str, known: tuple[str, ...]) -> None:
    there = fields_of(sources(version), f"ray.llm._internal.serve.core.configs.llm_config.{name}")
    assert {each for each in there if not each.startswith("_")} == set(known)


@each_version
@pytest.mark.parametrize(
    ("path", "builder"),
    [
        ("core.ingress.builder.LLMServingArgs", "build_openai_app"),
        ("serving_patterns.data_parallel.builder.DPOpenAiServingArgs", "build_dp_openai_app"),
        ("serving_patterns.prefill_decode.builder.PDServingArgs", "build_pd_openai_app"),
    ],
)
def test_the_command_line_knows_the_arguments_of_rays_builders(version: str, path: str, builder: str) -> None:
    there = fields_of(sources(version), f"ray.llm._internal.serve.{path}")
    of_the_proxy = {name for name in ARGUMENTS[builder] if name.startswith("proxy_")}
    assert there == {*BUILDERS[builder], *ARGUMENTS[builder]} - (set() if version.startswith("2.58") else of_the_proxy)


@each_version
def test_the_command_line_refuses_the_engines_that_ray_refuses(version: str) -> None:
    engines = class_of(sources(version), "ray.llm._internal.serve.core.configs.llm_config.LLMEngine")
    assert isinstance(engines.node, ast.ClassDef)
    assert set(members_of_enum(engines.node)) == set(ENGINES)


@each_version
def test_each_callback_of_rays_has_its_hook_point(version: str) -> None:
    found = class_of(sources(version), "ray.llm._internal.common.callbacks.base.CallbackBase")
    assert isinstance(found.node, ast.ClassDef)
    at_points = set(ast.literal_eval(ours.value_in("ray/rays_callbacks.py", "_POINTS")))
    assert {name for name in own_names(found.node) if name.startswith("on_")} == at_points


@each_version
@pytest.mark.parametrize(("cls", "paths", "meant"), OVERRIDDEN, ids=[cls for (_, cls), _, _ in OVERRIDDEN])
def test_nothing_of_ours_hides_something_of_rays(
    version: str, cls: tuple[str, str], paths: list[str], meant: set[str]
) -> None:
    ray = sources(version)
    for path in paths:
        theirs = {name for _, base in ray.linear(class_of(ray, path)) for name in own_names(base)}
        assert own_names(ours.class_in(*cls)) & theirs == meant, path


def users_of(name: str, tree: ast.Module) -> set[str]:
    """The functions that use an attribute of a name, or a string that is one."""
    found = set()

    def look(node: ast.AST, inside: str) -> None:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = f"{inside}.{node.name}" if inside else node.name
        used = isinstance(node, ast.Attribute) and node.attr == name
        if inside and (used or (isinstance(node, ast.Constant) and node.value == name)):
            found.add(inside)
        for child in ast.iter_child_nodes(node):
            look(child, inside)

    look(tree, "")
    return found
