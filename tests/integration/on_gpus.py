"""Prewarms on a Ray of two nodes with made-up GPUs, and what becomes of them; ``test_prewarm`` looks at what this says.

A program, since the tests' other Ray has no GPUs: ``python -m tests.integration.on_gpus FOLDER``. ``alone`` makes
prewarms in this process, without Serve; ``served`` are replicas, whose engine is a stub that lets Ray's own engine
submit its config task, with all of Ray's options.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import ray

from serve_llm_hooks import CallbackCtx, hook
from serve_llm_hooks.ray import LLMConfig, build_dp_openai_app, prewarm, telemetry, unused
from tests import stub_engine

from .servers import Greeting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GPU: dict[str, float] = {"CPU": 1, "GPU": 1}
WITHIN_S = 60.0
LIMIT_S = 2.0  # of the prewarm, where there is no Serve

logger = logging.getLogger("serve_llm_hooks")


def main(folder: Path) -> dict[str, Any]:
    """Run everything; return what was seen."""
    from ray import serve
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "num_gpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, num_gpus=1, resources={"small": 1})
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes(timeout=120)
        telemetry.ask_for_actor()
        actor = {"namespace": "llm_serve_telemetry", "name": "llm_serve_telemetry"}
        asked = wait_until(lambda: actor in ray.util.list_named_actors(all_namespaces=True))
        return {"telemetry": asked, "alone": alone(folder), "places": places(), "served": served(folder)}
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def group_of(bundles: list[dict[str, float]], name: str = "") -> Iterator[Any]:
    """A placement group, and its end."""
    group = ray.util.placement_group(bundles, strategy="STRICT_SPREAD" if len(bundles) > 1 else "PACK", name=name)
    assert group.wait(WITHIN_S)
    try:
        yield group
    finally:
        ray.util.remove_placement_group(group)


def wait_until(what: Callable[[], object]) -> bool:
    """Ask again and again; return False when the time is over."""
    deadline = time.monotonic() + WITHIN_S
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# -- without Serve -----------------------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def alone(folder: Path) -> dict[str, Any]:
    """Prewarms that do something else than import vLLM, each finished as a start does."""
    prewarm._LIMIT_S = LIMIT_S

    def ends() -> None:
        pass

    def hangs() -> None:
        threading.Event().wait()

    def fails() -> None:
        raise ImportError("vLLM is not what it was")

    def dies() -> None:
        os._exit(3)

    other: dict[str, Any] = {"env_vars": {"OTHER": "1"}}
    return {
        "it ends": _start(folder / "1", ends, long=True, used=True),
        "it hangs": _start(folder / "2", hangs),
        "it fails": _start(folder / "3", fails, used=True),
        "its process dies": _start(folder / "4", dies),
        "a hook changes the environment while it works": _start(folder / "5", hangs, given=other),
        "a hook changes the environment after it": _start(folder / "6", ends, given=other),
        "the replica has another environment": _start(folder / "7", ends, given=other, default=other),
        "no start asks for it": _start(folder / "8", ends, asked=False),
    }


def _start(
    says: Path,
    does: Callable[[], None],
    *,
    given: dict[str, Any] | None = None,
    default: dict[str, Any] | None = None,
    asked: bool = True,
    long: bool = False,
    used: bool = False,
) -> dict[str, Any]:
    """Begin a prewarm on the node with one CPU, finish it, and say what is left of it."""
    lines = Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)

    def work() -> Iterator[None]:
        part = says.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.replace(says)  # whole, when it is there
        does()
        yield

    try:
        with group_of([{**GPU, "small": 1}]) as group:
            prewarm._import_engine = work
            prewarm._begun = prewarm.Prewarm(group, [0])
            assert wait_until(says.exists)
            pid = int(says.read_text())
            hooks_own = _task(group, {"env_vars": {"SOME": "hook's"}})
            defaults: Any = SimpleNamespace(runtime_env=default or {"env_vars": {}})
            ctx: Any = SimpleNamespace(model_id="m", placement_group=group, runtime_env=given or {"env_vars": {}})
            seen: dict[str, Any] = {"Ray ends idle processes here": long and is_gone(hooks_own)}
            if not asked:  # as when its time is over
                unused._end()
            else:
                begun_s = time.monotonic()
                seen["decided"] = asyncio.run(prewarm.finish(defaults, ctx))
                seen["seconds"] = time.monotonic() - begun_s
                seen["it is given the next task"] = _task(group, seen["decided"]) == pid
                seen["another start decides"] = asyncio.run(prewarm.finish(defaults, ctx))
            return {**seen, "it is gone": not used and is_gone(pid), "lines": lines.lines}
    finally:
        logger.removeHandler(lines)


def is_gone(pid: int) -> bool:
    """Wait until a process is gone; return whether it is."""
    return wait_until(lambda: not Path(f"/proc/{pid}").exists())


def _task(group: Any, runtime_env: Any) -> int:
    """Return the process of a task that asks for all of a GPU, with this environment as Ray's config task has one."""
    strategy = import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy(placement_group=group)
    task = ray.remote(num_cpus=0)(lambda: os.getpid())
    pid: int = ray.get(
        task.options(num_gpus=1, runtime_env=runtime_env, scheduling_strategy=strategy).remote(), timeout=WITHIN_S
    )
    return pid


def places() -> dict[str, Any]:
    """Where prewarms would run."""
    here = ray.get_runtime_context().get_node_id()
    with group_of([GPU, GPU], name="own") as group:
        nodes = ray.util.placement_group_table(group)["bundles_to_node_id"]
        own, shared = prewarm._places(group, "own"), prewarm._places(group, "other")
    with group_of([{"CPU": 1}], name="own") as group:
        no_gpu = prewarm._places(group, "own")
    return {
        "two nodes": sorted(own),
        "begins here": nodes[own[0]] == here,
        "shared": [nodes[index] == here for index in shared],
        "no GPU": no_gpu,
    }


# -- replicas ----------------------------------------------------------------------------------------------------------


@hook("on_before_init")
def other_environment(ctx: CallbackCtx) -> None:
    assert ctx.runtime_env is not None
    ctx.runtime_env["env_vars"]["OTHER"] = "1"


def served(folder: Path) -> dict[str, Any]:
    """Replicas, one after the other: where Ray's config task ran."""
    shipped = folder / "shipped.zip"
    with zipfile.ZipFile(shipped, "w") as file:
        file.writestr("top/some.txt", "")
    native = {
        "callback_class": "serve_llm_hooks.ray.HooksCallback",
        "callback_kwargs": {"hooks": []},
    }
    half = {"bundles": [{"CPU": 1, "GPU": 0.5}]}
    spread = {"bundles": [GPU, GPU], "strategy": "STRICT_SPREAD"}
    return {
        "as it is": _serve(folder, "a", HF_TOKEN="made-up"),
        "switched off": _serve(folder, "b", SERVE_LLM_HOOKS_PREWARM="0"),
        "a hook changes the environment": _serve(folder, "c", {"hooks": [other_environment]}),
        "half a GPU": _serve(folder, "d", {"placement_group_config": half}),
        "two nodes": _serve(
            folder, "e", {"placement_group_config": spread, "engine_kwargs": {"tensor_parallel_size": 2}}
        ),
        "HooksCallback": _serve(folder, "f", {"callback_config": native}),
        "a server of one's own": _serve(folder, "g", {"server_cls": Greeting}),
        "data parallel": _serve(folder, "h", {"engine_kwargs": {"data_parallel_size": 2}}),
        "code that is shipped": _serve(folder, "i", {"runtime_env": {"working_dir": f"file://{shipped}"}}),
    }


def _serve(folder: Path, name: str, fields: dict[str, Any] | None = None, **variables: str) -> list[dict[str, Any]]:
    """Deploy, and delete again; return what each replica's config task says of its process."""
    from ray import serve

    says = folder / name
    env = {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH, "STUB_ENGINE_SAYS": str(says), "STUB_ENGINE_CONFIG_TASK": "1"}
    given: dict[str, Any] = {
        "model_loading_config": {"model_id": name, "model_source": "/nowhere"},
        "log_engine_metrics": False,
        "placement_group_config": {"bundles": [GPU]},
        "deployment_config": {"max_constructor_retry_count": 1},
        **(fields or {}),
    }
    given["runtime_env"] = {**given.get("runtime_env", {}), "env_vars": {**env, **variables}}
    llm: Any = import_module("ray.serve.llm")
    if "callback_config" in given:  # a config of Ray's own
        app = llm.build_llm_deployment(llm.LLMConfig(**given))
    elif "data_parallel_size" in given.get("engine_kwargs", {}):
        app = build_dp_openai_app({"llm_config": LLMConfig(**{"hooks": [], **given})})
    else:  # without an ingress, which imports Ray Serve LLM as well
        app = llm.build_llm_deployment(LLMConfig(**{"hooks": [], **given}))
    serve.run(app, name="app")
    serve.delete("app")
    started = [json.loads(line) for line in says.read_text().splitlines()]
    return [
        {"is the replica": row["pid"] == row["config_task"]["pid"], "collector": row["collector"], **row["config_task"]}
        for row in started
    ]


if __name__ == "__main__":
    print("told " + json.dumps(main(Path(sys.argv[1]))))
