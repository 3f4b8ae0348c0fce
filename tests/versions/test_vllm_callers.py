"""Who calls vLLM's plugins is known, and each of them is where hooks expect it, in the vLLM that is installed.

Its sources are read and not imported. The wheels of other versions have 300 MB each and are not downloaded for this;
those that somebody has put into the cache folder are read too (CONTRIBUTING.md says how).
"""

from __future__ import annotations

import ast
import re
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from serve_llm_hooks.ray.engine_process import CALLERS
from serve_llm_hooks_engine.steps import MARKS
from tests.conftest import IN_CI
from tests.contract import vllm_processes

from .skeleton import differences
from .sources import Sources
from .wheels import CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping

WHEELS = sorted((CACHE.parent / "vllm").glob("vllm-*.whl"))

RELIED_ON = {
    "vllm.plugins": """
def load_plugins_by_group(group):  # one that does not load is only logged: _replica/processes.py sees that
    allowed_plugins = envs.VLLM_PLUGINS  # _process/payload.py: check_plugins()
    discovered_plugins = entry_points(group=group)
    for plugin in discovered_plugins:
        if allowed_plugins is None or plugin.name in allowed_plugins:
            try:
                func = plugin.load()
            except Exception:
                logger.exception("Failed to load plugin %s", plugin.name)

def load_general_plugins():
    global plugins_loaded  # ray/engine_process.py: arrive()
    if plugins_loaded:
        return
    plugins_loaded = True
    plugins = load_plugins_by_group(group=DEFAULT_PLUGINS_GROUP)
    for func in plugins.values():
        func()
""",
    "vllm.v1.engine.core": """
class EngineCore:
    def __init__(self, vllm_config, executor_class, *_):  # this_process() reads vllm_config
        load_general_plugins()
        self.model_executor = executor_class(vllm_config)  # which starts the workers
""",
    "vllm.v1.worker.worker_base": """
class WorkerWrapperBase:
    def __init__(self, rpc_rank=0, global_rank=None):
        self.global_rank: int = self.rpc_rank if global_rank is None else global_rank  # this_process() reads it

    def init_worker(self, all_kwargs):
        load_general_plugins()
        worker_class: type[WorkerBase] = resolve_obj_by_qualname(parallel_config.worker_cls)
""",
    # ray/early_core.py knows the process whose place it takes by its name; it is spawned, in a Ray actor.
    "vllm.v1.engine.utils": """
class CoreEngineProcManager:
    def __init__(self, *_):
        context = get_mp_context()
        context.Process(..., name=f"EngineCore_DP{global_index}" if is_dp else "EngineCore")
        proc.start()
""",
    "vllm.utils.system_utils": """
def _maybe_force_spawn():
    if is_in_ray_actor():
        reasons.append("In a Ray actor and can only be spawned")
    if reasons:
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"

def get_mp_context():
    _maybe_force_spawn()
    mp_method = envs.VLLM_WORKER_MULTIPROC_METHOD
    return multiprocessing.get_context(mp_method)
""",
    # Of workers on other nodes: the hooks are in the environment before the worker begins.
    "vllm.v1.executor.ray_executor_v2": """
class RayWorkerProc(WorkerProc):
    def initialize_worker(self, local_rank, env_vars, *_, driver_env_vars=None):
        for key, value in driver_env_vars.items():
            os.environ.setdefault(key, value)
        super().__init__(..., local_rank=local_rank, **self._init_kwargs)

class RayExecutorV2(MultiprocExecutor):
    def _init_executor(self):
        self.driver_env_vars = get_driver_env_vars(worker_specific_vars=WORKER_SPECIFIC_ENV_VARS)
""",
    "vllm.v1.executor.ray_env_utils": """
def get_driver_env_vars(worker_specific_vars):
    return {key: value for key, value in os.environ.items() if key not in exclude_vars}
""",
}


class Installed(Sources):
    """The Python modules of an installed package, by their files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._parent = folder.parent

    def _file(self, module: str) -> str | None:
        base = self._parent / module.replace(".", "/")
        return next((str(file) for file in (base / "__init__.py", base.with_suffix(".py")) if file.is_file()), None)

    def module(self, name: str) -> ast.Module | None:
        """A module's syntax tree; ``None`` where there is no such module."""
        file = self._file(name)
        return None if file is None else ast.parse(Path(file).read_text(encoding="utf-8"))


class VLLM(NamedTuple):
    """The sources of a vLLM: to look names up in, and as texts by their files."""

    sources: Sources
    texts: Mapping[str, str]


@cache
def read(wheel: Path | None) -> VLLM:
    """Return the sources in a wheel, or those that are installed: where there are none, skip, and in CI fail."""
    if wheel is not None:
        with zipfile.ZipFile(wheel) as files:
            names = [name for name in files.namelist() if name.startswith("vllm/") and name.endswith(".py")]
            return VLLM(Sources(wheel), {name: files.read(name).decode() for name in names})
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        if IN_CI:
            pytest.fail("vLLM is not installed, and in CI it must be")
        pytest.skip("vLLM is not installed; `make .venv/.engine` installs it")
    folder = Path(spec.origin).parent
    return VLLM(Installed(folder), {str(file): file.read_text(encoding="utf-8") for file in folder.rglob("*.py")})


@pytest.fixture(params=[None, *WHEELS], ids=lambda wheel: wheel.name.split("-")[1] if wheel else "installed")
def vllm(request: pytest.FixtureRequest) -> VLLM:
    """Each vLLM that there is to read."""
    return read(request.param)


def callers_in(text: str, function: str = "load_general_plugins") -> set[str]:
    """Return the functions in a module that call a function, as Python names them."""
    found: set[str] = set()

    def look(node: ast.AST, inside: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and ast.unparse(child.func).endswith(function):
                found.add(".".join(inside))
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                look(child, (*inside, child.name))
            else:
                look(child, inside)

    look(ast.parse(text), ())
    return found


def test_all_callers_are_known(vllm: VLLM) -> None:
    callers = {name for text in vllm.texts.values() if "load_general_plugins" in text for name in callers_in(text)}
    assert callers == set(CALLERS)


def test_who_looks_into_the_weights_for_the_engines_config_is_known(vllm: VLLM) -> None:
    """``_node/late_weights.py`` has models wait for their weights in front for which vLLM would come to one of them."""
    reads = "get_safetensors_params_metadata"
    assert {name for text in vllm.texts.values() if reads in text for name in callers_in(text, reads)} <= {
        "MistralConfigParser.parse",  # without a dtype; a model in Mistral's format has no config.json
        "ModelArchConfigConvertorBase.get_torch_dtype",  # without a dtype
        "AutoAWQConfig.maybe_update_config",
        "AutoGPTQConfig.maybe_update_config",
        "checkpoint_has_lm_head",  # where the config ties the word embeddings; not yet in 0.26
    }


@pytest.mark.parametrize("module", RELIED_ON)
def test_they_do_what_is_relied_on(vllm: VLLM, module: str) -> None:
    assert differences(RELIED_ON[module], module, vllm.sources) == []


# What vLLM logs at the end of a step, up to where texts of versions differ.
LOGGED = re.compile(
    r"Loading weights took %|Model loading took %|torch\.compile.* in total|Initial profiling/warmup run took %"
    r"|Directly load the compiled graph|Graph capturing finished in %|^init engine \(.*took %"
)


def test_what_it_logs_of_its_steps_is_known(vllm: VLLM) -> None:
    named: dict[str, set[str]] = {}
    for text in vllm.texts.values():
        if "torch.compile" not in text and "took %" not in text and "finished in %" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and LOGGED.search(node.value):
                line = re.sub(r"%\.\df", "1.50", re.sub("^%s", "[vision] ", node.value)).replace("%s", "2.5")
                named[line] = {
                    name
                    for mark, name in MARKS
                    if (found := mark.match(line)) and found[found.lastindex or 0] == "1.50"
                }
    assert [line for line, names in named.items() if len(names) != 1] == []
    assert set.union(*named.values()) == {name for _, name in MARKS}


def test_the_contracts_stand_ins_are_called_like_them() -> None:
    names = callers_in(Path(vllm_processes.__file__).read_text(encoding="utf-8"))
    assert names == {"EngineArgs.__post_init__", "EngineCore.__init__", "WorkerWrapperBase.init_worker"} < set(CALLERS)
