"""The smallest cluster that the core can be started on, and a loop whose hours take no time.

Not the harness: the core's own tests must be able to tell the core's faults from the harness's.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import selectors
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from serve_llm_hooks import (
    HOOK_POINTS,
    CallbackCtx,
    DownloadMode,
    HookLoadError,
    HookRegistry,
    InitializeNodeOutput,
    NodeResult,
    hook,
    initialize_node,
)
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._node.packing import pack_custom_data, pack_hooks
from serve_llm_hooks._node.task import NodeTask, Rollout
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks._process.task import Process
from serve_llm_hooks._process.work import run_task as run_process
from serve_llm_hooks._replica.cluster import ReplicaDefaults
from serve_llm_hooks._sources.fields import hooks_of_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from concurrent.futures import Executor

    from serve_llm_hooks import Hook
    from serve_llm_hooks._core.options import OnError
    from serve_llm_hooks._node.task import NodeReport
    from serve_llm_hooks._process.task import ProcessReport, ProcessTask

T = TypeVar("T")


def public_names(package: Any) -> list[str]:
    """Return the names that a package offers. It finds them at run time, so checkers know no ``__all__`` of it."""
    return list(package.__all__)


MIRROR = {"bucket_uri": "s3://models/m"}


# A decorator of somebody's own, as source: what it makes is called like what it wraps.
LOGGED = """
import functools

def logged(fn):
    @functools.wraps(fn)
    def wrapper(ctx):
        return fn(ctx)
    return wrapper
"""


# A module's, with a hook for every model, one for some, and a function that is no hook.
SHOP = """
@hook("on_before_init")
def first(ctx):
    pass

@hook("on_before_download", model_id="llama-*")
def second(ctx):
    pass

@hook("on_before_init")
def third(ctx, *, bucket="b"):
    pass

def no_hook(ctx):
    pass
"""


GOOD_POINTS = [row for row in HOOK_POINTS.values() if row.during == "start" and row.name != "on_custom_init"]
"""The points that a good start runs, in its order."""

IN_REPLICA = [row.name for row in GOOD_POINTS if row.where == "replica"]
ON_NODES = [row.name for row in GOOD_POINTS if row.on_node]
IN_FIRST_TASK = [row.name for row in GOOD_POINTS if row.on_node and not row.after_engine]
BEFORE_SECOND_TASK = [  # in the replica
    row.name
    for row in GOOD_POINTS[: [each.on_node and each.after_engine for each in GOOD_POINTS].index(True)]
    if row.where == "replica"
]
IN_SECOND_TASK = [row.name for row in GOOD_POINTS if row.on_node and row.after_engine]


@dataclass
class Config:
    """The part of our ``LLMConfig`` that the core reads."""

    model_id: str = "m"
    hooks: Sequence[Any] | None = ()


@dataclass
class FullConfig(Config):
    """The same with the other ways to write a hook."""

    callback: Any = None
    callback_kwargs: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Any] | None = None
    initialization_class: Any = None
    initialization_kwargs: dict[str, Any] = field(default_factory=dict)

    def callback_hooks(self) -> list[Hook]:
        return hooks_of_fields(self)


@dataclass
class RayConfig:
    """Ray's own config has no such field as ``hooks``."""

    model_id: str = "m"


@dataclass
class StubCluster:
    """Nodes that are functions. A placement group is a tuple of node ids."""

    nodes: tuple[str, ...] = ("n0", "n1", "n2")
    mirror: dict[str, Any] | None = field(default_factory=lambda: dict(MIRROR))
    placement_group: tuple[str, ...] | None = None
    engine_workers: int = 1
    own_bundles: tuple[int, ...] | None = None
    on_error: OnError = "raise"
    local_node_id: str = "n0"
    nodes_known: dict[str, Node] = field(default_factory=dict)
    node_timeout_s: float = 1800.0
    node_grace_s: float = 10.0
    epoch_s: float | None = None
    # In place of what a node does, or of the download there.
    answers: dict[str, Callable[[NodeTask], Awaitable[NodeReport]]] = field(default_factory=dict)
    download: Callable[[NodeTask, DownloadMode], Awaitable[str | None]] | None = None
    acquire: Callable[[], Awaitable[Any]] | None = None
    write_metrics: Callable[..., Any] | None = None
    # What happened.
    calls: list[str] = field(default_factory=list)
    runtime_envs: list[dict[str, Any] | None] = field(default_factory=list)
    # The processes of the engine that have told what their hooks did, each with a change of it.
    processes: dict[Process, Callable[[ProcessReport], ProcessReport]] | None = None
    process_task: ProcessTask | None = None
    told_by_nodes: tuple[str, ...] = ()

    def clock(self) -> float:
        return time.perf_counter()

    def replica_names(self) -> tuple[str, ...]:
        return ("app", "LLMServer:m", "r1")

    def metrics_writer(self) -> Any:
        return self.write_metrics

    def node(self, node_id: str) -> Node:
        """Return a node of the cluster; a test that needs its address gives it."""
        return self.nodes_known.get(node_id, Node(node_id))

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        return ReplicaDefaults(
            source_id=f"org/{llm_config.model_id}",
            mirror=self.mirror,
            placement_group=self.placement_group,
            engine_workers=self.engine_workers,
            own_bundles=self.own_bundles,
            on_error=self.on_error,
        )

    def rollout(self) -> Rollout:
        return Rollout("stub", "1")

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        self.calls.append("acquire")
        return self.nodes if self.acquire is None else await self.acquire()

    async def remove_placement_group(self, placement_group: Any) -> None:
        self.calls.append("remove")

    async def node_ids(
        self, placement_group: tuple[str, ...], own_bundles: Sequence[int] | None = None
    ) -> Sequence[str]:
        return placement_group if own_bundles is None else [placement_group[index] for index in own_bundles]

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        self.calls.append(f"run {task.node_id}")
        self.runtime_envs.append(runtime_env)
        answer = self.answers.get(task.node_id, self.work)
        report: NodeReport = pickle.loads(pickle.dumps(await answer(pickle.loads(pickle.dumps(task)))))
        return report

    def news(self) -> Sequence[str]:
        return self.told_by_nodes

    async def work(self, task: NodeTask) -> NodeReport:
        """Do a node's work."""

        async def download(task: NodeTask, mode: DownloadMode) -> str | None:
            self.calls.append(f"download {task.node_id} {mode}")
            return "/models/m" if self.download is None else await self.download(task, mode)

        return await run_task(task, download)

    def open_processes(self, task: ProcessTask) -> None:
        self.process_task = task

    def release_processes(self, failure: str) -> None:
        self.calls.append(f"release {failure}".strip())

    def close_processes(self) -> Sequence[ProcessReport]:
        """Return what a core and its workers tell."""
        assert self.process_task is not None
        started = self.processes
        if started is None:
            workers = [Process("worker", rank) for rank in range(self.engine_workers)]
            started = dict.fromkeys([Process("core"), *workers], lambda report: report)
        there = pickle.loads(pickle.dumps(self.process_task))
        self.process_task = None
        return [change(run_process(there, process, node=there.node)) for process, change in started.items()]

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        self.calls.append(f"configure {ctx.model_path}{' by a hook' if path_by_hook else ''}")


class _Clock(selectors.DefaultSelector):
    """Where the loop would wait for its next timer, goes to it; where a thread is at work, waits for that."""

    now_s = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and self.threads):
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that sleeps through hours at once. A hook that blocks its thread for ever needs a real one."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s

    def run_in_executor(  # type: ignore[override]  # as typeshed has it, with its type variables
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self._clock.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: object) -> None:
        self._clock.threads -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class Started:
    """A replica that has started."""

    ctx: CallbackCtx
    output: InitializeNodeOutput
    cluster: StubCluster
    took_s: float

    @property
    def names(self) -> list[str]:
        """The hooks that ran, by name."""
        return [event.name for event in self.ctx.trace if event.ran]


def start(*hooks: Any, cluster: StubCluster | None = None, config: Any = None) -> Started:
    """Start a replica with these hooks."""
    stub = StubCluster() if cluster is None else cluster
    seen: list[CallbackCtx] = []

    async def start_engine(ctx: CallbackCtx) -> str:
        stub.calls.append("engine")
        seen.append(ctx)
        return "the engine"

    async def main() -> Started:
        loop = asyncio.get_running_loop()
        output = await initialize_node(
            Config(hooks=hooks) if config is None else config, start_engine=start_engine, cluster=stub
        )
        return Started(seen[0], output, stub, loop.time())

    return run(main())


def start_with(cluster: StubCluster | None = None, hooks: Any = (), **fields: Any) -> Started:
    """Start with these fields of the config."""
    return start(config=FullConfig(hooks=hooks, **fields), cluster=cluster)


def refusal(error: type[Exception] = HookLoadError, **fields: Any) -> str:
    """Return the message that wrong fields are refused with."""
    with pytest.raises(error) as caught:
        FullConfig(**fields).callback_hooks()
    return str(caught.value)


def fn_of(module: str, name: str = "fetch") -> Any:
    """Return a hook that says that it was defined in a module."""

    def fetch(ctx: CallbackCtx) -> None: ...

    fetch.__module__, fetch.__name__, fetch.__qualname__ = module, name, name
    return HookRegistry().hook("on_before_download")(fetch)


def node_task(hooks: Iterable[Hook], custom_data: dict[str, Any] | None = None, **fields: Any) -> NodeTask:
    """Return the task of node n0 with these hooks, which downloads nothing unless ``fields`` say so."""
    defaults: dict[str, Any] = {
        "node_id": "n0",
        "is_local": True,
        "model_id": "m",
        "source_id": "/models/m",
        "mirror": None,
        "download_model": DownloadMode.NONE,
        "hooks": pack_hooks(hooks),
        "custom_data": pack_custom_data(custom_data or {}, where="the test"),
        "llm_config": None,
        "on_error": "raise",
    }
    return NodeTask(**defaults | fields)


def names(found: HookRegistry) -> list[str]:
    """Return the names of a registry's hooks."""
    return [one.name for one in found]


class Failed:
    """``on_failure`` hooks that keep what they saw."""

    def __init__(self) -> None:
        self.ctx: CallbackCtx | None = None

    @property
    def error(self) -> Exception | None:
        assert self.ctx is not None
        return self.ctx.error

    @property
    def nodes(self) -> dict[str, NodeResult]:
        assert self.ctx is not None
        return dict(self.ctx.nodes)

    def hook(self) -> Any:
        @hook("on_failure")
        def keep(ctx: CallbackCtx) -> None:
            self.ctx = ctx

        return keep


def cancel(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a start be cancelled when it has come to wait for something."""

    async def main() -> None:
        task = asyncio.create_task(start())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    run(main())


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the log so far, and clear it."""
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def cancel_this_task() -> None:
    """Cancel the task that the caller runs in."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
