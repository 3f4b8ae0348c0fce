"""Faults of the processes of a fake engine, in which hooks at ``on_engine_process_start`` run.

>>> from serve_llm_hooks_testing import FakeCluster, engine_process_dies, missing_plugin
>>> cluster = FakeCluster(faults=[engine_process_dies("worker-1"), missing_plugin("core")])
"""

from __future__ import annotations

from serve_llm_hooks._core.messages import describe

from ._simulation.arguments import check_text
from ._simulation.fault_kinds import EngineProcessDiesFault, Fault, MissingPluginFault
from .errors import HarnessError


def engine_process_dies(process: str, *, in_hook: str | None = None) -> Fault:
    """Kill a process of the engine while a hook at ``on_engine_process_start`` runs in it.

    Args:
        process: ``"core"``, ``"config"``, or ``"worker-1"``. The frontend is the replica: :func:`replica_dies`.
        in_hook: the hook, by its name or its path. Default: the first that runs there.

    Raises:
        HarnessError: an argument of the wrong kind. A run raises it for a hook that it does not know at that point.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_engine_process_start")
        ... def register(ctx): ...
        >>> config = FakeLLMConfig("m", hooks=[hooks], engine_kwargs={"tensor_parallel_size": 2})
        >>> run = FakeCluster(faults=[engine_process_dies("worker-1")]).run(config, check=False)
        >>> run.error.process
        'worker-1'
    """
    if in_hook is not None:
        check_text("engine_process_dies", "a hook's name", in_hook)
    return EngineProcessDiesFault(_process("engine_process_dies", process), in_hook)


def missing_plugin(process: str) -> Fault:
    """Let vLLM not load the plugin of this library in a process of the engine; it only logs that, and goes on.

    Args:
        process: ``"core"``, or ``"worker-1"``.

    Raises:
        HarnessError: an argument of the wrong kind.

    Example:
        >>> missing_plugin("worker-1").process
        'worker-1'
    """
    return MissingPluginFault(_process("missing_plugin", process))


def _process(what: str, process: object) -> str:
    name = check_text(what, "a process of the engine", process)
    role, _, rank = name.partition("-")
    if name in ("core", "config") or (role == "worker" and rank.isdigit()):
        return name
    raise HarnessError(f"{what} takes a process of the engine, 'core', 'config' or 'worker-1', not {describe(process)}")
