"""The work of a process of a fake engine: hooks in its main thread, as in one that vLLM has started."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .._monitor.session import monitored_loop
from .._simulation.engine_processes import work_of
from .._simulation.vllm_stand_in import stand_in_for_vllm
from .channel import Done, Post
from .node_work import ProcessLoop
from .timeline import RemoteTimeline

if TYPE_CHECKING:
    from serve_llm_hooks._core.node import Node
    from serve_llm_hooks._process.task import Process, ProcessReport, ProcessTask

    from .._virtual_time.clock import Beginning
    from .channel import Channel


@dataclass(frozen=True)
class EngineOutcome:
    """The result of a process of the engine.

    Attributes:
        notes: problems that did not make it fail.
    """

    notes: tuple[str, ...]


@dataclass(frozen=True)
class EngineWork:
    """A process of an engine that runs its hooks.

    Attributes:
        task: what production sends to it, with the faults that happen in its hooks.
        process: which process it is.
        node: the node that it runs on.
        dies: the hook in which it dies, as for ``work_of``.
        limit_s: seconds of real time for which a hook may block.
        now_s: the virtual time at which it begins.
        beginning: the system's clocks when the run began.
    """

    task: ProcessTask
    process: Process
    node: Node
    dies: str | None
    limit_s: float
    now_s: float
    beginning: Beginning

    def run(self, channel: Channel) -> None:
        """Run the hooks in this process, in its main thread."""
        with monitored_loop(self.limit_s, make_loop=partial(self._make_loop, RemoteTimeline(channel))) as monitor:
            loop = monitor.loop
            last: list[ProcessReport] = []

            def tell(report: ProcessReport) -> None:
                last[:] = [report]
                channel.send(Post(pickle.dumps(report)))

            async def work() -> None:
                asyncio._set_running_loop(None)  # a process of vLLM's has none while its hooks run
                try:
                    with stand_in_for_vllm():
                        work_of(self.task, self.process, self.node, self.dies, tell=tell, clock=loop.time)
                finally:
                    asyncio._set_running_loop(loop)

            loop.run_until_complete(work())
            loop.finish()
            monitor.note_skipped_waits()
            channel.send(Done(EngineOutcome(tuple(monitor.notes))))
            if last[-1].running:
                os.kill(os.getpid(), signal.SIGKILL)

    def _make_loop(self, timeline: RemoteTimeline, **arguments: Any) -> ProcessLoop:
        """Make a loop that lets hooks sleep in its thread: nothing else waits there."""
        return ProcessLoop(timeline, self.now_s, self.beginning, **{**arguments, "on_sleep": None})
