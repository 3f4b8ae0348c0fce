"""``run_task``: run the hooks of one process of the engine, from a ``ProcessTask`` to a ``ProcessReport``.

There is no event loop: vLLM calls this in the main thread of a process that has just begun. So no dispatcher either;
what a result or a failure means is the same.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from .._core.errors import HookError, HookResultError, ServeLLMHooksError, reraise_if_not_a_failure
from .._core.hook import with_fresh_instances
from .._core.messages import is_small, one_line, readable
from .._core.process_context import EngineProcessCtx
from .._core.trace import Trace
from .._core.veto import InvalidResult, decide
from .._node.failures import reported
from .._node.packing import unpack_custom_data
from .._node.unpacking import check_packed, unpack_hooks
from .task import ProcessReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._core.event import HookEvent
    from .._core.hook import Hook
    from .._core.node import Node
    from .task import Process, ProcessTask


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


def run_task(
    task: ProcessTask,
    process: Process,
    *,
    node: Node,
    hooks: Sequence[Hook] | None = None,
    tell: Callable[[ProcessReport], object] = lambda _: None,
    wait: Callable[[], str] = lambda: "",
    clock: Callable[[], float] = time.perf_counter,
    epoch_s: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> ProcessReport:
    """Run the hooks of a process. Never raises: a failure is part of the report.

    Args:
        task: the work.
        process: which process this is.
        node: the node that it runs on.
        hooks: the hooks, where they need not be unpacked: in the replica. Those for other roles are left out.
        tell: is given the report so far before each hook, and the whole one at the end.
        wait: waits, in a worker, for what the task says; returns why that has failed, or an empty text.
        clock: seconds from any starting point.
        epoch_s: the time to add to the clock for seconds since the epoch; left out, the system's clock tells.
        environ: the environment whose ``SERVE_LLM_HOOKS_ALLOW`` decides; left out, this process's.
    """
    work = _Work(task, process, node, Trace(**node._asdict(), clock=clock, epoch_s=epoch_s), tell)
    failure: Exception | None = None
    try:
        work.wait(wait)
        if hooks is None:
            hooks = work.unpack(environ)
        ours = [hook for hook, packed in zip(hooks, task.hooks, strict=True) if process.runs(packed)]
        work.call_each(ours)
    except Exception as error:
        failure = reported(error, node.node_id)
    report = work.report(failure=failure)
    tell(report)
    return report


class _Work:
    """The hooks of one process, one after another."""

    def __init__(
        self, task: ProcessTask, process: Process, node: Node, trace: Trace, tell: Callable[[ProcessReport], object]
    ) -> None:
        self.task = task
        self.process = process
        self.node = node
        self.trace = trace
        self.tell = tell

    def wait(self, wait: Callable[[], str]) -> None:
        """Wait for what works in the background, if this process does.

        Raises:
            ServeLLMHooksError: it has failed.
        """
        task, process = self.task, self.process
        if not (task.waits_for and process.reads_weights):
            return
        begun_s = self.trace.clock()
        logger.info("model %r: %s waits for %s, in the background", task.model_id, process.name, task.waits_for)
        failure = wait()
        if failure:
            raise ServeLLMHooksError(
                f"model {task.model_id!r}: {process.name} on {self.node} waited for {task.waits_for}, in the "
                f"background: {failure}"
            )
        waited_s = self.trace.clock() - begun_s
        logger.info("model %r: %s goes on after waiting for %.1f s", task.model_id, process.name, waited_s)

    def unpack(self, environ: Mapping[str, str] | None) -> list[Any]:
        """Return the hooks, unpacked, as far as they run here; ``None`` in the place of others."""
        where = f"in {self.process.name} on {self.node}"
        ours = [packed for packed in self.task.hooks if self.process.runs(packed)]
        check_packed(ours, where=where, environ=environ)
        unpacked = iter(with_fresh_instances(unpack_hooks(ours, where=where, environ=environ)))
        return [next(unpacked) if self.process.runs(packed) else None for packed in self.task.hooks]

    def call_each(self, hooks: Sequence[Hook]) -> None:
        """Call hooks in this thread.

        Raises:
            HookError: one has failed.
            HookPickleError: ``custom_data`` cannot be unpacked here.
        """
        task, process = self.task, self.process
        ctx = EngineProcessCtx(
            model_id=task.model_id,
            node_id=self.node.node_id,
            role=process.role,
            rank=process.rank,
            custom_data=unpack_custom_data(task.custom_data, where=f"in {process.name} on {self.node}"),
        )
        for hook in hooks:
            self.tell(self.report(running=hook.ref))
            batch = self.trace.batch([hook])
            batch.times.append(self.trace.clock())
            error = self._failure_of(hook, ctx)
            warns = (hook.options.on_error or task.on_error) == "warn"
            if error is not None:
                why = str(error).removeprefix(f"{self._failed(hook)}: ")
                batch.outcomes[0] = ("warned" if warns else "failed", why)
            batch.times.append(self.trace.clock())
            if error is not None and not warns:
                raise error
            if error is not None:
                with contextlib.suppress(Exception):  # a log handler that fails ends no process
                    logger.warning("%s (on_error='warn': going on)", error, exc_info=error if is_small(error) else None)

    def report(self, *, running: str = "", failure: Exception | None = None) -> ProcessReport:
        """Return the report so far."""
        return ProcessReport(self.process, os.getpid(), self.node, self._events(), running, failure)

    def _events(self) -> tuple[HookEvent, ...]:
        return tuple(event._replace(process=self.process.name) for event in self.trace)

    def _failed(self, hook: Hook) -> str:
        where = f"in {self.process.name} on {self.node}"
        return f"hook {hook.ref} failed at {hook.where} for model {self.task.model_id!r} {where}"

    def _failure_of(self, hook: Hook, ctx: EngineProcessCtx) -> HookError | None:
        """Call a hook; return its failure, if it has failed."""
        kind, cause = HookError, None
        try:
            why = _problem(hook.call(ctx), hook)
            kind = HookResultError
        except BaseException as error:  # as everywhere: sys.exit is a failure too
            reraise_if_not_a_failure(error)
            cause, why = readable(error), one_line(error)
        if not why:
            return None
        failure = kind(
            f"{self._failed(hook)}: {why}",
            hook=hook.ref,
            point=hook.point,
            model_id=self.task.model_id,
            node_id=self.node.node_id,
            process=self.process.name,
        )
        failure.__cause__ = cause
        return failure


def _problem(result: object, hook: Hook) -> str:
    """Return what is wrong with a hook's result; empty if nothing is."""
    if inspect.iscoroutine(result):
        result.close()  # else Python complains of it somewhere else
        return "it returned a coroutine, and nothing awaits it there: a process of the engine has no event loop yet"
    decision = decide(result, hook.point)
    return decision.problem if isinstance(decision, InvalidResult) else ""
