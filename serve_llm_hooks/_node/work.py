"""``run_task``: run a node's hooks and its download, from a ``NodeTask`` to a ``NodeReport``.

This module is imported in a fresh process on every node, so it stays light: neither torch nor vLLM.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .._core.context import NodeCtx
from .._core.dispatch import Dispatcher
from .._core.errors import (
    DownloadError,
    HookError,
    HookLoadError,
    HookPickleError,
    NodeLostError,
    ServeLLMHooksError,
    reraise_if_not_a_failure,
)
from .._core.hook import with_fresh_instances
from .._core.messages import one_line, own, readable, traceback_of
from .._core.origin import file_module_name
from .._core.trace import Trace
from .._observe.announce import tell_files, warn_of_files
from .._sources.allow import check_source
from .._sources.shipped import how_to_ship
from .packing import pack_custom_data, unpack_custom_data, unpickle_failure
from .task import NodeReport, NodeTask, PackedHook, has_bucket, wants_download

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .._core.download_mode import DownloadMode
    from .._core.hook import Hook
    from .._core.veto import Skip
    from .._observe.progress import Progress

    Download = Callable[[NodeTask, DownloadMode], Awaitable[str | None]]


async def run_task(
    task: NodeTask,
    download: Download,
    *,
    clock: Callable[[], float] = time.perf_counter,
    epoch_s: float | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> NodeReport:
    """Do a node's work. Never raises, except when cancelled: a failure is part of the report.

    Args:
        task: the work.
        download: downloads the files of a mode, and returns the path.
        clock: seconds from any starting point.
        epoch_s: the time to add to the clock for seconds since the epoch; left out, the system's clock tells.
        environ: the environment whose ``SERVE_LLM_HOOKS_ALLOW`` decides; left out, this process's.
        progress: logs what is waited for; left out, nothing does.
    """
    trace = Trace(**task.node._asdict(), clock=clock, epoch_s=epoch_s)
    work = _Work(task, download, trace, environ)
    start_s = clock()
    with nullcontext() if progress is None else progress.waiting_for(work.waits_for):
        failure = await work.failure()
    packed: tuple[tuple[str, bytes], ...] = ()
    try:
        packed = pack_custom_data(work.ctx.custom_data, where=str(task.node))
    except BaseException as error:
        reraise_if_not_a_failure(error)
        failure = failure or _reported(error, task.node_id)
    return NodeReport(
        node_id=task.node_id,
        is_local=task.is_local,
        events=trace.events,
        custom_data=packed,
        path=work.ctx.model_path,
        download_model=work.ctx.download_model,
        skipped=work.skipped,
        start_s=trace.epoch_s + start_s,
        end_s=trace.epoch_s + clock(),
        download_s=work.download_s,
        failure=failure,
    )


class _Work:
    """One node's work, step by step."""

    def __init__(self, task: NodeTask, download: Download, trace: Trace, environ: Mapping[str, str] | None) -> None:
        self.task = task
        self.download = download
        self.trace = trace
        self.environ = environ
        self.skipped: str | None = None
        self.downloading = False
        self.download_s = 0.0
        self.ctx = NodeCtx(
            model_id=task.model_id,
            node_id=task.node_id,
            address=task.address,
            hostname=task.hostname,
            is_local=task.is_local,
            download_model=task.download_model,
            load_llm_config=self._load_llm_config,
        )

    def waits_for(self) -> str:
        """Return what takes so long, for the log."""
        if self.downloading:
            return f"the download from {self.task.download_source}"
        return self.trace.running or "its hooks to be imported"

    async def failure(self) -> Exception | None:
        """Run it all; return the error to report, if it failed.

        In a task of its own, so that a module that cancels the task which imports it does not cancel the report.
        """
        running = asyncio.ensure_future(self._run_and_catch())
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError as error:
                cancelled = error
                running.cancel()
        if not running.cancelled():
            return running.result()
        if cancelled is not None:
            raise cancelled
        lost = NodeLostError(
            f"{self.task.node}: something that runs there cancelled its work", node_id=self.task.node_id
        )
        return _reported(lost, self.task.node_id)

    async def _run_and_catch(self) -> Exception | None:
        try:
            await self.run()
        except GeneratorExit:  # those of hooks and downloads are errors of ours by now
            raise
        except BaseException as error:  # raised, it would end the process, and the node would count as lost
            reraise_if_not_a_failure(error, asyncio.current_task())
            return _reported(error, self.task.node_id)
        return None

    async def run(self) -> None:
        """Run the hooks before the download, the download, and the hooks after it."""
        ctx, task = self.ctx, self.task
        for packed in task.hooks:  # all of them, before anything is unpickled
            self._check(packed.source, f"hook {packed.ref}")
        ctx.custom_data = unpack_custom_data(task.custom_data, where=f"on {task.node}")
        hooks = with_fresh_instances(self._unpack_hooks())
        before = [hook for hook in hooks if hook.point == "on_before_node_download"]
        after = [hook for hook in hooks if hook.point == "on_after_node_download"]
        async with Dispatcher(task.model_id, trace=self.trace, node=task.node, on_error=task.on_error) as dispatcher:
            veto = await dispatcher.run_point(before, ctx)
            chosen = veto is None and ctx.download_model is not task.download_model
            told: tuple[str, str] = (task.model_id, ctx.download_model.name)
            if chosen and has_bucket(task.mirror):
                tell_files(*told, task.download_source, f"{task.node} downloads")
            await self._download(veto)
            await dispatcher.run_point(after, ctx)
        if chosen and not has_bucket(task.mirror) and ctx.model_path == task.source_id:
            warn_of_files(*told, task.source_id, f"{task.node} downloads")

    async def _download(self, veto: Skip | None) -> None:
        ctx, task = self.ctx, self.task
        path: str | None = task.source_id
        if veto is not None:
            self.skipped = veto.reason
            path = None  # only the hook that vetoed knows where the model is
        elif wants_download(task.mirror, ctx.download_model):
            start_s = self.trace.clock()
            running_in = asyncio.current_task()
            self.downloading = True
            try:
                path = await self.download(task, ctx.download_model)
            except BaseException as error:
                reraise_if_not_a_failure(error, running_in)
                raise _download_error(task, one_line(error)) from readable(error)
            finally:
                self.downloading = False
                self.download_s = self.trace.clock() - start_s
            if task.mirror and task.mirror.get("bucket_uri") and ctx.download_model and path == task.source_id:
                raise _download_error(task, "nothing arrived, and the downloader did not say why; its log may")
        if ctx.model_path is None:  # else a hook fetched the model itself, and has set it
            ctx.model_path = path

    def _unpack_hooks(self) -> list[Hook]:
        hooks = []
        for packed in self.task.hooks:
            try:
                hook: Hook = pickle.loads(packed.data)
            except ModuleNotFoundError as error:
                raise HookLoadError(self._missing(packed, str(own(error, ImportError, "name")))) from readable(error)
            except BaseException as error:
                reraise_if_not_a_failure(error)
                raise HookLoadError(
                    f"hook {packed.ref} cannot be unpacked on {self.task.node}: {unpickle_failure(error)}. "
                    "Is the same version of its module on every node?"
                ) from readable(error)
            if hook.path.partition(":")[0] != file_module_name(packed.source):
                self._check(hook.source, f"hook {hook.path}, which was sent as one from {packed.source},")
            hooks.append(hook)
        return hooks

    def _missing(self, packed: PackedHook, name: str) -> str:
        """Return what to say of a hook whose module, or one that its code uses, is not on this node."""
        what = f"hooks module {packed.ref.partition(':')[0]!r} cannot be imported"
        if packed.source == "__main__" or "/" in packed.source:  # its own code has arrived, by value
            what = f"a module that hook {packed.ref} uses cannot be imported"
        return (
            f"{what} on {self.task.node} (no module {name!r}), so hook {packed.ref} cannot run there. "
            f"{how_to_ship(name.replace('.', '/'))}"
        )

    def _load_llm_config(self) -> Any:
        if self.task.config_failure:
            raise HookPickleError(self.task.config_failure)
        for source in self.task.config_sources:
            self._check(source, f"the config of model {self.task.model_id!r}, which has hooks from there,")
        return None if self.task.llm_config is None else pickle.loads(self.task.llm_config)

    def _check(self, source: str, what: str) -> None:
        check_source(source, what, where=f"on {self.task.node}", environ=self.environ)


def _download_error(task: NodeTask, cause: str) -> DownloadError:
    return DownloadError(
        f"model {task.model_id!r} could not be downloaded to {task.node} from {task.download_source}: {cause}",
        node_id=task.node_id,
    )


def _reported(error: BaseException, node_id: str) -> Exception:
    """Return an error that survives pickling: one of ours, with its traceback as text.

    Exceptions lose their cause and traceback on the way to another process, or cannot be pickled at all.
    """
    # For a hook's failure, the hook's own traceback: the dispatcher's frames do not help its author.
    cause = own(error, BaseException, "__cause__")
    text = traceback_of(error if cause is None else cause)
    if type(error).__module__ != ServeLLMHooksError.__module__ or not isinstance(error, ServeLLMHooksError):
        return NodeLostError(one_line(error), node_id=node_id, remote_traceback=text)
    if isinstance(error, HookError):
        return type(error)(
            str(error),
            hook=error.hook,
            point=error.point,
            model_id=error.model_id,
            node_id=error.node_id,
            remote_traceback=text,
        )
    if isinstance(error, NodeLostError):
        return type(error)(str(error), node_id=node_id, remote_traceback=text)
    copy = type(error)(str(error))
    copy.node_id = node_id  # type: ignore[attr-defined]  # as the other two have it
    return copy
