"""Faults of a fake cluster, which a test declares.

>>> from serve_llm_hooks_testing import FakeCluster, failing_download, slow_download
>>> cluster = FakeCluster(nodes=3, faults=[failing_download("node-1"), slow_download("node-2", 300)])

A fault that happens at a hook point (``at=``) happens right after that point's hooks have run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks._core.messages import describe
from serve_llm_hooks._core.points import HOOK_POINTS, hook_point

from ._simulation.arguments import (
    check_count,
    check_error,
    check_flag,
    check_node_id,
    check_optional_seconds,
    check_path,
    check_seconds,
    check_text,
)
from ._simulation.fault_kinds import (
    DownloadFault as DownloadFault,
    EngineAnswersErrorFault as EngineAnswersErrorFault,
    EngineFailsFault as EngineFailsFault,
    EngineProcessDiesFault as EngineProcessDiesFault,
    Fault as Fault,
    HookFailsFault as HookFailsFault,
    LostNodeFault as LostNodeFault,
    MissingModuleFault as MissingModuleFault,
    MissingPluginFault as MissingPluginFault,
    NodeProcessDiesFault as NodeProcessDiesFault,
    ReplicaDiesFault as ReplicaDiesFault,
    UnschedulableFault as UnschedulableFault,
)
from .errors import HarnessError

if TYPE_CHECKING:
    import os

    from serve_llm_hooks import HookName


_PROCESSES_FAULT = "engine_process_dies() is the fault for them"


def failing_download(
    node_id: str,
    error: Exception | str | None = "An error occurred (403): Forbidden",
    *,
    after_s: float | None = None,
    quietly: bool = False,
) -> Fault:
    """Make the download on a node fail.

    Args:
        node_id: the node; ``"node-0"`` is the replica's own.
        error: the downloader's exception, or its message; an empty one, and ``None``, is one that says nothing.
        after_s: seconds after which it fails. Default: when the download would have ended.
        quietly: nothing is downloaded and nothing is raised, as by Ray's downloader.

    Raises:
        HarnessError: an argument of the wrong kind.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[failing_download("node-1")]).run(FakeLLMConfig("m"), check=False)
        >>> list(run.error.node_ids)
        ['node-1']
    """
    if error is not None and not isinstance(error, str):
        error = check_error("failing_download", error)
    return DownloadFault(
        check_node_id("failing_download", node_id),
        check_optional_seconds("after_s", after_s),
        error or "",
        check_flag("quietly", quietly),
    )


def slow_download(node_id: str, seconds: float) -> Fault:
    """Make the download on a node take this long instead of the cluster's ``download_s``.

    Raises:
        HarnessError: an argument of the wrong kind.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(engine_start_s=0, faults=[slow_download("node-2", 300)]).run(FakeLLMConfig("m")).elapsed_s
        300.0
    """
    return DownloadFault(check_node_id("slow_download", node_id), check_seconds("slow_download", seconds))


def different_path(node_id: str, path: str | os.PathLike[str]) -> Fault:
    """Make the download on a node go to another path than elsewhere.

    Raises:
        HarnessError: an argument of the wrong kind, or an empty path.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[different_path("node-2", "/scratch/m")]).run(FakeLLMConfig("m"))
        >>> run.nodes["node-2"].path
        '/scratch/m'
    """
    return DownloadFault(check_node_id("different_path", node_id), path=check_path("different_path", path))


def lost_node(node_id: str, at: HookName | None = None, *, noticed_after_s: float | None = 5.0) -> Fault:
    """Make a node disappear.

    Args:
        node_id: the node.
        at: the per-node hook point after which it disappears. Default: before anything runs there.
        noticed_after_s: seconds until Ray notices. ``None``: it never does, as with a stopped raylet; then
            ``FakeCluster(node_timeout_s=...)`` is the limit.

    Raises:
        HarnessError: the node is the replica's own, or the point runs in the replica.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[lost_node("node-2")]).run(FakeLLMConfig("m"), check=False)
        >>> run.error.exceptions[0].node_id
        'node-2'
    """
    if check_node_id("lost_node", node_id) == "node-0":
        raise HarnessError("the replica itself lives on node-0: replica_dies(at=...) is the fault for its end")
    if at is not None and hook_point(at).in_process:
        raise HarnessError(f"lost_node(at={at!r}): that point runs in the engine's processes: {_PROCESSES_FAULT}")
    if at is not None and not hook_point(at).on_node:
        points = ", ".join(name for name, point in HOOK_POINTS.items() if point.on_node)
        raise HarnessError(f"lost_node(at={at!r}): that point runs in the replica. On a node run {points}.")
    return LostNodeFault(node_id, at, check_optional_seconds("noticed_after_s", noticed_after_s))


def node_process_dies(node_id: str, *, in_hook: str) -> Fault:
    """Kill the process on a node while a hook runs there, in the first run of the cluster that comes to it.

    Args:
        node_id: the node.
        in_hook: the per-node hook, by its name or its path. It does nothing before that.

    Raises:
        HarnessError: an argument of the wrong kind.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_node_download", once_per_node=True)
        ... def fetch(ctx):
        ...     ctx.custom_data["resumes"] = ctx.unfinished
        >>> config = FakeLLMConfig("m", hooks=[hooks])
        >>> cluster = FakeCluster(nodes=1, faults=[node_process_dies("node-0", in_hook="fetch")])
        >>> list(cluster.run(config, check=False).error.node_ids)
        ['node-0']
        >>> cluster.run(config).ctx.nodes["node-0"].custom_data
        {'resumes': True}
    """
    return NodeProcessDiesFault(
        check_node_id("node_process_dies", node_id), check_text("node_process_dies", "a hook's name", in_hook)
    )


def missing_module(node_id: str, module: str) -> Fault:
    """Make a module of hooks unavailable on a node.

    Raises:
        HarnessError: it is not a module's name.

    Example:
        >>> missing_module("node-2", "my_company.llm_hooks").module
        'my_company.llm_hooks'
    """
    if not all(part.isidentifier() for part in check_text("missing_module", "a module's name", module).split(".")):
        raise HarnessError(f"missing_module takes a module's name ('my_company.llm_hooks'), not {describe(module)}")
    return MissingModuleFault(check_node_id("missing_module", node_id), module)


def hook_fails(hook: str, error: Exception | str = "it fails (hook_fails)", *, node: str | None = None) -> Fault:
    """Make a hook fail instead of doing its work.

    Args:
        hook: the hook's name, ``"Class.method"``, or ``"module:qualname"``, as in the assertions; ``"Class"``, or
            ``"module:Class"``, for a class with but one hook.
        error: the exception that it raises; a text stands for a ``RuntimeError``.
        node: the node on which a per-node hook fails. Default: wherever it runs.

    Raises:
        HarnessError: an argument of the wrong kind. A run raises it for a hook that it does not know.

    Example:
        >>> from serve_llm_hooks import HookRegistry
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_before_node_download")
        ... def check_gpu(ctx): ...
        >>> cluster = FakeCluster(faults=[hook_fails("check_gpu", "no GPU found", node="node-1")])
        >>> list(cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False).error.node_ids)
        ['node-1']
    """
    if check_text("hook_fails", "a hook's name", hook) in HOOK_POINTS:
        raise HarnessError(
            f"hook_fails takes a hook by its name ('check_gpu') or path ('my_company.llm_hooks:check_gpu'), not "
            f"{describe(hook)}"
        )
    node_id = None if node is None else check_node_id("hook_fails", node)
    return HookFailsFault(hook, node_id, check_error("hook_fails", error))


def unschedulable(after_s: float = 1800.0) -> Fault:
    """Make the default placement group unschedulable.

    Args:
        after_s: seconds after which the start gives up.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[unschedulable()]).run(FakeLLMConfig("m"), check=False).elapsed_s
        1800.0
    """
    return UnschedulableFault(check_seconds("after_s", after_s))


def engine_fails(error: Exception | str = "CUDA out of memory", *, after_s: float | None = None) -> Fault:
    """Make the start of the engine fail.

    Args:
        error: the exception that it raises; a text stands for a ``RuntimeError``.
        after_s: seconds after which it fails. Default: the cluster's ``engine_start_s``.

    Raises:
        HarnessError: ``error`` is neither an exception nor a text.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[engine_fails()]).run(FakeLLMConfig("m"), check=False).error
        RuntimeError('CUDA out of memory')
    """
    return EngineFailsFault(check_error("engine_fails", error), check_optional_seconds("after_s", after_s))


def engine_answers_error(message: str = "the prompt is longer than the model's context", *, code: int = 400) -> Fault:
    """Make the engine start, and answer everything with an error: as Ray's, it yields it, and raises nothing.

    Args:
        message: what the error says.
        code: its HTTP status.

    Raises:
        HarnessError: an argument of the wrong kind.

    Example:
        >>> from serve_llm_hooks import HookRegistry, ask
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = HookRegistry()
        >>> @hooks.hook("on_after_engine_init")
        ... async def warm_up(ctx):
        ...     await ask(ctx, "Hello!")
        >>> cluster = FakeCluster(faults=[engine_answers_error()])
        >>> cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False).error.__cause__.code
        400
    """
    if not 400 <= check_count("code", code) <= 599:
        raise HarnessError(f"code= is the HTTP status of an error, 400 to 599, not {code}")
    return EngineAnswersErrorFault(check_text("engine_answers_error", "the error's message", message), code)


def replica_dies(at: HookName, *, times: int = 1, restart_s: float = 0.0) -> Fault:
    """Kill the replica's process after a hook point, so that Serve starts it again from the beginning.

    Args:
        at: the hook point; one that runs in the replica.
        times: how many starts die.
        restart_s: seconds that Serve takes to start it again.

    Raises:
        HarnessError: the point runs on nodes, or after the start.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[replica_dies(at="on_before_engine_init")]).run(FakeLLMConfig("m"))
        >>> len(run.earlier_starts)
        1
    """
    if hook_point(at).on_node:
        raise HarnessError(f"replica_dies(at={at!r}): that point runs on nodes; lost_node() is the fault for them")
    if hook_point(at).in_process:
        raise HarnessError(f"replica_dies(at={at!r}): that point runs in the engine's processes: {_PROCESSES_FAULT}")
    if hook_point(at).during == "shutdown":
        raise HarnessError(f"replica_dies(at={at!r}): the start is over by then, and nothing starts it again")
    return ReplicaDiesFault(at, check_count("times", times), check_seconds("restart_s", restart_s))
