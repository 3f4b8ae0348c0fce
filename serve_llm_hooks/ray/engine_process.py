"""Run hooks in a process of vLLM's, which has just begun, and tell the replica what they did.

vLLM calls its plugins in every process, and says to none which process that is: it is told by the caller.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError
from .._core.node import Node
from .._process.payload import from_text
from .._process.task import Process
from .._process.work import run_task
from .engine_channel import VARIABLE, Channel
from .engine_gate import wait_at
from .log import show_log

if TYPE_CHECKING:
    from types import FrameType

# Who calls vLLM's load_general_plugins(), and where. tests/versions holds that these are all.
CALLERS = {
    "EngineArgs.__post_init__": "config",
    "AsyncEngineArgs.add_cli_args": "config",
    "EngineCore.__init__": "core",
    "WorkerWrapperBase.init_worker": "worker",
    "_run": "inspection",
}

_IN_CORE = ("uni", "external_launcher")  # vLLM's executors whose worker is in the core's process

_done: set[str] = set()  # the channels of starts whose hooks this process has run
_arrived = False  # whether the variable here has come with a config


def run(text: str, process: Process | None = None) -> None:
    """Run the hooks of this process, once for each start.

    Args:
        text: the hooks, as the environment holds them.
        process: which process this is; left out, vLLM's caller tells.

    Raises:
        ServeLLMHooksError: a hook has failed.
    """
    task, parts = from_text(text)
    channel = Channel(*parts)
    if channel.key in _done:
        return
    _done.add(channel.key)
    process = process or this_process()
    if process.role == "inspection" and not any(process.runs(hook) for hook in task.hooks):
        return  # it may run before anything else, and tells nothing that anybody waits for
    show_log()
    report = run_task(task, process, node=_node(task.node), tell=channel.tell, wait=partial(wait_at, channel))
    if report.failure is not None:
        raise report.failure


def is_mine(channel: Channel) -> None:
    """Leave the hooks of a start to whoever runs them in this process: the replica runs its own."""
    _done.add(channel.key)


def arrive(text: str) -> None:
    """Take the hooks that have come with a config to the task that builds the engine's config on a GPU.

    Ray reuses the process of such a task. Where vLLM has loaded its plugins already, it does not do so again.
    """
    global _arrived
    if not text:
        if _arrived:
            os.environ.pop(VARIABLE, None)
        return
    if os.environ.get(VARIABLE) == text:
        return
    os.environ[VARIABLE] = text
    _arrived = True
    plugins = sys.modules.get("vllm.plugins")
    if plugins is not None and plugins.plugins_loaded:
        run(text, Process("config"))


def this_process() -> Process:
    """Return which process of the engine this is, by who has called vLLM's ``load_general_plugins``.

    Raises:
        HookLoadError: somebody that is not known.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != "load_general_plugins":
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    name = "nobody" if caller is None else caller.f_code.co_qualname
    role = CALLERS.get(name)
    if role is None or caller is None:
        raise HookLoadError(
            f"hooks at on_engine_process_start cannot run: vLLM's plugins are loaded by {name}, and this version of "
            f"serve-llm-hooks does not know which process of the engine that is. It knows {', '.join(CALLERS)}."
        )
    if role == "worker":
        return Process("worker", getattr(caller.f_locals.get("self"), "global_rank", 0))
    if role == "core":
        return Process("core", is_worker_too=_backend(caller.f_locals.get("vllm_config")) in _IN_CORE)
    return Process("inspection" if role == "inspection" else "config")


def _backend(vllm_config: Any) -> object:
    return getattr(getattr(vllm_config, "parallel_config", None), "distributed_executor_backend", None)


def _node(of_replica: Node) -> Node:
    """Return the node that this process runs on: the replica's, unless Ray has started it elsewhere."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return of_replica
    node_id = ray.get_runtime_context().get_node_id()
    if node_id == of_replica.node_id:
        return of_replica
    return Node(node_id, ray.util.get_node_ip_address(), socket.gethostname())
