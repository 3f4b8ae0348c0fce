"""The hooked server, with a stopwatch: where a cold start's time goes, and how much of it is this library's own.

It is the real one, with what Ray does in it timed apart. Importing this module is a part of what is measured.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import timed_node
from .marks import mark, part, process_start_s, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterator, Sequence

    from serve_llm_hooks._node.task import NodeReport, NodeTask

mark("replica: process", process_start_s())
mark("replica: imports")
_begun_s = time.perf_counter()
import_module("serve_llm_hooks.ray.prewarmed")  # first, as the server does: what it begins goes on beside
part("replica: imports", time.perf_counter() - _begun_s)
RayLLMServer: Any = import_module("ray.serve.llm.deployment").LLMServer  # and with it all that Ray alone imports
mark("replica: our imports")
_begun_s = time.perf_counter()
import_module("serve_llm_hooks.ray.server")
ours: Any = import_module("serve_llm_hooks.ray.hooked")
OurLLMConfig: Any = import_module("serve_llm_hooks.ray.config").LLMConfig
part("replica: imports", time.perf_counter() - _begun_s)
mark("replica: imported")


class Steps:
    """Awaits, and adds up the time in which what is awaited is itself at work."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self.worked_s = 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        """Pass on what it waits for, and what comes of that."""
        steps: Any = self._awaitable.__await__()
        error: BaseException | None = None
        while True:
            begun_s = time.perf_counter()
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as done:
                return done.value
            finally:
                self.worked_s += time.perf_counter() - begun_s
            error = None
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown


class TimedTask:
    """Ray's remote function, whose node's side has a stopwatch, and whose own work is added up."""

    rays_s = 0.0

    def __init__(self, call: Any) -> None:
        self._call = call

    def options(self, **options: Any) -> TimedTask:
        """As Ray's."""
        begun_s = time.perf_counter()
        made = TimedTask(self._call.options(**options))
        TimedTask.rays_s += time.perf_counter() - begun_s
        return made

    def remote(self, *args: Any) -> Any:
        """As Ray's."""
        begun_s = time.perf_counter()
        ref = self._call.remote(*args)
        TimedTask.rays_s += time.perf_counter() - begun_s
        return ref


def timed_cluster(base: Any) -> Any:
    """Return a class of clusters with a stopwatch."""

    class TimedCluster(base):  # type: ignore[misc]  # a base that is computed: no checker follows it
        """Adds up the time that Ray takes for what it is asked; of calls at the same time, what passes counts once."""

        newest: TimedCluster

        def __init__(self) -> None:
            super().__init__()
            TimedCluster.newest = self
            self.rays_s = 0.0
            self.worked_s = 0.0
            self._asked = 0
            self._since_s = 0.0

        @contextmanager
        def _ray(self) -> Iterator[None]:
            if not self._asked:
                self._since_s = time.perf_counter()
            self._asked += 1
            try:
                yield
            finally:
                self._asked -= 1
                if not self._asked:
                    self.rays_s += time.perf_counter() - self._since_s

        async def acquire_placement_group(self, llm_config: Any) -> Any:
            """As it is, timed."""
            with self._ray():
                return await super().acquire_placement_group(llm_config)

        async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> list[str]:
            """As it is, timed."""
            with self._ray():
                nodes: list[str] = await super().node_ids(placement_group, own_bundles)
                return nodes

        async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
            """As it is, timed; what it does itself (pickling, above all) is counted as ours again."""
            mark("node: asked")
            with self._ray():
                steps = Steps(super().run_on_node(task, runtime_env=runtime_env))
                report: NodeReport = await steps
            self.worked_s += steps.worked_s
            mark("node: answered")
            return report

    return TimedCluster


class Engine(RayLLMServer):  # type: ignore[misc]  # imported by name, after the first mark
    """Ray's server, whose start, the engine's, is timed apart."""

    engine_s = 0.0

    async def start(self) -> None:
        """Start the engine."""
        mark("engine: begins")
        begun_s = time.perf_counter()
        await super().start()
        self.engine_s = time.perf_counter() - begun_s
        mark("engine: ends")


class LLMServer(ours.hooked_server(Engine)):  # type: ignore[misc]  # a class made by a function
    """`serve_llm_hooks.ray.LLMServer` around that."""

    async def start(self) -> None:
        """Start, and note how long what took."""
        begun_s = time.perf_counter()
        ours_start: Any = import_module("serve_llm_hooks.ray.hooked_start")  # there already, if Serve has left time
        part("replica: imports", time.perf_counter() - begun_s)
        ours_cluster: Any = import_module("serve_llm_hooks.ray.cluster")
        ours_start.RayCluster = TimedCluster = timed_cluster(ours_cluster.RayCluster)
        # Ray's own work, which it does later itself. Asked for early, in a thread, it would hold up what is measured.
        ours_start.telemetry.ask_for_actor = lambda: None
        remote = import_module("ray").remote(num_cpus=0, max_retries=0, max_calls=1)
        ours_cluster._run_packed_task = TimedTask(remote(timed_node.run_packed_task))
        mark("replica: start")
        begun_s = time.perf_counter()
        await super().start()
        total_s = time.perf_counter() - begun_s
        mark("replica: started")
        cluster = TimedCluster.newest
        hooks_s = sum(event.duration_s for event in self._hook_trace if event.process_id == os.getpid())
        part("replica: start", total_s - self.engine_s - cluster.rays_s - hooks_s)
        part("replica: sending the node's task", cluster.worked_s - TimedTask.rays_s)


setattr(LLMServer, ours._HOOKED, "start")  # the stopwatch is around the hooks; wrapped once more it would be inside

if os.environ.get("BENCH_ACCELERATOR") == "gpu":
    # For a GPU's engine Ray pickles the config once more, in its own time. (Ours, for the nodes, then counts twice.)
    timed(OurLLMConfig, "__getstate__", lambda took_s: part("replica: pickling for the engine", took_s))
