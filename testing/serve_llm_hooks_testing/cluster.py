"""``FakeCluster``: a Ray cluster for tests, without Ray and without waiting."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from ._simulation.fault_kinds import NodeProcessDiesFault
from ._simulation.replica import run_replica
from ._simulation.settings import ClusterSettings
from ._virtual_time.loop import is_loop_running
from .errors import HarnessError, is_mistake, warn_and_raise
from .run import never_struck, recent

if TYPE_CHECKING:
    from .run import FakeRun


class FakeCluster(ClusterSettings):
    """A cluster for tests, without Ray, GPUs, downloads or waiting. It can run several replicas, also at once.

    Args:
        nodes: the number of nodes, or what each has: ``[{"CPU": 8, "GPU": 1}, ...]``. They are called ``"node-0"``
            (the replica's own), ``"node-1"``, …, and have the addresses ``"10.0.0.1"``, ``"10.0.0.2"``, …
        group_nodes: the number of nodes that the default placement group spans, from ``"node-0"`` on. Default: all.
            Where the config has a ``placement_group_config``, or the nodes' resources are given, its bundles are placed
            as Ray places them.
        in_group: whether the replica is in its placement group from the beginning, as Serve starts it. If not, the
            group is acquired after ``on_before_init``, as where you call ``initialize_node`` yourself.
        own_bundles: the replica's own bundles, one on each of its nodes, where it is one of several data-parallel
            ranks that share the group. Default: all bundles.
        download_s: virtual seconds that a download takes.
        engine_start_s: virtual seconds that the engine takes to start.
        engine_import_s: how many of these pass until its processes run their hooks at ``on_engine_process_start``, and
            its workers wait for what works until then.
        placement_group_s: virtual seconds until the default placement group is scheduled.
        node_timeout_s: limit for the work on a node, its download included, as in production.
        node_grace_s: seconds that the other nodes are given once a node has failed, as in production.
        faults: what fails (``failing_download("node-1")``, …).
        more_engine_args: engine arguments that your vLLM knows and this harness does not (``engine_args.json`` beside
            this file names the version it knows). Others are refused, as in production.
        processes: ``True``: the replica, each restart of it and each node's work is a real process. ``"nodes"``: only
            each node's work is. Linux only.
        setup: a function that is called in each process before its work, where ``monkeypatch.setattr`` does not reach.
        hang_s: seconds of real time after which a process that hangs is killed.
        engine_check: builds the engine's arguments with Ray's and vLLM's own code, where they are installed:
            ``serve_llm_hooks.ray.check_engine_args``. Default: names are checked, and values are not.
        real_sleep_limit_s: seconds of real time after which a hook that blocks is reported. What is really at work is
            waited for ten times as long, before the clock goes on.
        time_limit_s: virtual seconds after which a start ends with a ``DeadlockError``, because something goes on for
            ever, such as a heartbeat.

    Raises:
        HarnessError: no nodes, a negative time, or a fault on a node that does not exist.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(nodes=3, download_s=20, engine_start_s=30).run(FakeLLMConfig("llama-2-7b"))
        >>> run.elapsed_s
        50.0
        >>> run.nodes["node-2"].downloaded
        [<DownloadMode.MODEL_AND_TOKENIZER: 'MODEL_AND_TOKENIZER'>]
    """

    def run(self, config: Any, *, check: bool = True) -> FakeRun:
        """Start a replica, from ``on_before_init`` to ``on_after_init``.

        Args:
            config: a :class:`FakeLLMConfig` or a real ``LLMConfig``.
            check: raise the error of a start that fails; otherwise it is in ``run.error``.

        Raises:
            HarnessError: called inside a running event loop (use :meth:`arun` there), or a mistake in the test that
                shows only in the run, such as a fault on a hook that it does not know; also with ``check=False``.
            Exception: what production would raise, unless ``check=False``.

        Example:
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, engine_fails
            >>> run = FakeCluster(faults=[engine_fails("out of memory")]).run(FakeLLMConfig("m"), check=False)
            >>> run.error
            RuntimeError('out of memory')
        """
        if is_loop_running():
            raise HarnessError(
                "FakeCluster.run() was called inside a running event loop, which it would block: "
                "write `await cluster.arun(config)` there"
            )
        return _report(_run(self, config), check)

    async def arun(self, config: Any, *, check: bool = True) -> FakeRun:
        """Async form of :meth:`run`. The replica runs in another thread, in an event loop with a clock of its own.

        Example:
            >>> import asyncio
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
            >>> asyncio.run(FakeCluster().arun(FakeLLMConfig("m"))).elapsed_s
            50.0
        """
        return _report(await asyncio.to_thread(_run, self, config), check)

    def next_rollout(self) -> None:
        """Let the runs from now on be of a new rollout, as after a redeploy.

        Until then, all runs of the cluster are replicas, and starts of replicas, of one rollout: a hook with
        ``once_per_node=True`` runs once on each node.

        Example:
            >>> from serve_llm_hooks import HookRegistry
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
            >>> hooks = HookRegistry()
            >>> @hooks.hook("on_before_node_download", once_per_node=True)
            ... def fetch(ctx): ...
            >>> cluster, config = FakeCluster(nodes=1), FakeLLMConfig("m", hooks=[hooks])
            >>> [[event.outcome for event in cluster.run(config).trace] for _ in range(2)]
            [['ok'], ['replayed']]
            >>> cluster.next_rollout()
            >>> [event.outcome for event in cluster.run(config).trace]
            ['ok']
        """
        settings: ClusterSettings = self  # whose attribute it is
        settings.rollouts += 1


def _run(settings: ClusterSettings, config: Any) -> FakeRun:
    """Start a replica in the calling thread, without the faults that have happened and do so once."""
    own = settings
    if settings.spent:
        own = copy.copy(settings)
        own.faults = tuple(fault for fault in settings.faults if fault not in settings.spent)
    run = _run_once(own, config)
    if run.ctx is not None:  # else it could not be sent to a replica
        struck = (fault for fault in own.faults if fault not in run.unstruck)
        settings.spent += tuple(fault for fault in struck if isinstance(fault, NodeProcessDiesFault))
    return run


def _run_once(settings: ClusterSettings, config: Any) -> FakeRun:
    """Start a replica where the settings say."""
    if not settings.processes:
        return run_replica(settings, config)
    if settings.processes == "nodes":
        from ._processes.local_replica import run_with_node_processes

        return run_with_node_processes(settings, config)
    from ._processes.remote_replica import run_in_processes

    return run_in_processes(settings, config)


def _report(run: FakeRun, check: bool) -> FakeRun:
    """Keep a run for the pytest plugin, and emit its warnings and its error in the test's own thread."""
    recent.append(run)
    warn_and_raise((*run.notes, *never_struck(run.unstruck)), run.error, check=check or is_mistake(run.error))
    return run
