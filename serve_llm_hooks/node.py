"""What happens on a node: its hooks and its download, from plain data to plain data.

This module is imported in a fresh process on every node, so it stays light: neither torch nor vLLM.
"""

from __future__ import annotations

import pickle
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import policy
from .callbacks import HeldCall, own_instances
from .context import DownloadMode, NodeCtx, NodeResult
from .dispatch import Dispatcher, one_line
from .errors import (
    DownloadError,
    HookError,
    HookLoadError,
    HookNotAllowedError,
    HookPickleError,
    HookResultError,
    HookTimeoutError,
    NodeLostError,
    let_through,
)
from .trace import HookEvent, Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from .context import Skip
    from .points import HookName
    from .progress import Progress
    from .registry import Hook, OnError

    Download = Callable[["NodeTask", DownloadMode], Awaitable[str | None]]

__all__ = ["NodeReport", "NodeTask", "pack_custom_data", "pack_hooks", "run_task"]


@dataclass(frozen=True, slots=True)
class PackedHook:
    """A hook on its way: in the clear, what a node must know before it unpacks it, which imports its module.

    Attributes:
        ref: its name, for messages.
        point: where it runs.
        source: what the node's ``SERVE_LLM_HOOKS_ALLOW`` has to allow.
        data: the hook.
    """

    ref: str
    point: HookName
    source: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NodeTask:
    """All that a node is told. Never Ray's config objects: unpickling them imports vLLM."""

    node_id: str
    is_local: bool
    model_id: str
    source_id: str
    mirror: dict[str, Any] | None
    download_model: DownloadMode
    hooks: tuple[PackedHook, ...]
    custom_data: tuple[tuple[str, bytes], ...]
    llm_config: bytes | None
    on_error: OnError
    config_sources: tuple[str, ...] = ()  # of all hooks that the config brings: unpacking it may import them
    config_failure: str = ""  # why it could not be packed; told to whoever asks for it


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as text: exceptions lose their cause on the way, or do not survive the pickling at all."""

    kind: str
    message: str
    traceback: str
    fields: dict[str, Any]

    def revive(self, node_id: str) -> Exception:
        """The error, of our own class, with the traceback of the node in a note."""
        kind = _KINDS[self.kind]
        if issubclass(kind, HookError):
            return kind(self.message, remote_traceback=self.traceback, **self.fields)
        if issubclass(kind, NodeLostError):
            return kind(self.message, node_id=node_id, remote_traceback=self.traceback)
        error = kind(self.message)
        error.node_id = node_id  # type: ignore[attr-defined]  # as the other two have it
        return error


_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        DownloadError,
        HookError,
        HookLoadError,
        HookNotAllowedError,
        HookPickleError,
        HookResultError,
        HookTimeoutError,
        NodeLostError,
    )
}


@dataclass(frozen=True, slots=True)
class NodeReport:
    """All that comes back from a node."""

    node_id: str
    is_local: bool
    events: tuple[HookEvent, ...]
    custom_data: tuple[tuple[str, bytes], ...]
    path: str | None
    download_model: DownloadMode
    skipped: str | None
    start_s: float
    end_s: float
    download_s: float
    failure: Failure | None

    def result(self) -> NodeResult:
        """The report as hooks see it."""
        return NodeResult(
            node_id=self.node_id,
            is_local=self.is_local,
            path=self.path,
            custom_data=unpack_custom_data(self.custom_data, where=f"in the replica, from node {self.node_id}"),
            download_model=self.download_model,
            skipped=self.skipped,
            start_s=self.start_s,
            end_s=self.end_s,
            download_s=self.download_s,
            error=self.failure.message if self.failure else None,
        )


def wants_download(mirror: Mapping[str, Any] | None, mode: DownloadMode) -> bool:
    """Whether there is anything to download. Extra files come with any mode, as in Ray."""
    return bool(mirror and ((mirror.get("bucket_uri") and mode) or mirror.get("extra_files")))


def pack_hooks(hooks: Iterable[Hook]) -> tuple[PackedHook, ...]:
    """Hooks as bytes: by reference where another process can import them, by value from ``__main__``.

    Raises:
        HookNotAllowedError: one may not run here, and so not anywhere else on this process's word.
        HookPickleError: one cannot travel; the message names the variable that it captured.
    """
    import cloudpickle

    hooks = tuple(hooks)
    policy.check_hooks(hooks)
    packed = []
    for hook in hooks:
        try:
            data = cloudpickle.dumps(hook)
        except Exception as error:
            raise HookPickleError(
                f"hook {hook.ref} at {hook.point} cannot be sent to another process: {_culprit(hook)}"
                f"{one_line(error)}. {_advice(hook)}"
            ) from error
        packed.append(PackedHook(hook.ref, hook.point, policy.source_of(hook), data))
    return tuple(packed)


def _advice(hook: Hook) -> str:
    if isinstance(hook.fn, HeldCall):
        return (
            "Give the class and its arguments (callback=MyCallback, callback_kwargs={...}) instead of an object, and "
            "make what cannot be pickled in a method."
        )
    return "Make what it needs inside the hook, or pass plain data in ctx.custom_data."


def _culprit(hook: Hook) -> str:
    """Which captured variable, parameter, attribute or global of a hook is the one that cannot be pickled."""
    import inspect

    import cloudpickle

    candidates: dict[str, object] = {f"its parameter {name!r}": value for name, value in hook.kwargs.items()}
    if isinstance(hook.fn, HeldCall):
        candidates.update(hook.fn.parts)
    try:
        captured = inspect.getclosurevars(hook.fn)
    except TypeError:
        candidates.update((f"its attribute {name!r}", value) for name, value in vars(hook.fn).items())
    else:
        candidates.update((f"the variable {name!r} it captured", v) for name, v in captured.nonlocals.items())
        candidates.update((f"the global {name!r} it uses", value) for name, value in captured.globals.items())
    for what, value in candidates.items():
        try:
            cloudpickle.dumps(value)
        except Exception:
            return f"{what} ({type(value).__name__}) cannot be pickled: "
    return ""


def pack_custom_data(custom_data: Mapping[str, Any], *, where: str) -> tuple[tuple[str, bytes], ...]:
    """``custom_data`` as bytes, key by key.

    Raises:
        HookPickleError: a value cannot travel; the message names its key.
    """
    import cloudpickle

    packed = []
    for key, value in custom_data.items():
        try:
            packed.append((key, cloudpickle.dumps(value)))
        except Exception as error:
            raise HookPickleError(
                f"ctx.custom_data[{key!r}] ({type(value).__name__}) cannot leave {where}: {one_line(error)}. "
                "Between the replica and its nodes goes what can be pickled."
            ) from error
    return tuple(packed)


def unpack_custom_data(packed: Iterable[tuple[str, bytes]], *, where: str) -> dict[str, Any]:
    """``custom_data`` from bytes.

    Raises:
        HookPickleError: a value cannot be made again here; the message names its key.
    """
    custom_data = {}
    for key, data in packed:
        try:
            custom_data[key] = pickle.loads(data)
        except BaseException as error:
            let_through(error)
            raise HookPickleError(
                f"ctx.custom_data[{key!r}] cannot be unpacked {where}: {_why(error)}. "
                "Is the same version of its module on every node?"
            ) from error
    return custom_data


def _why(error: BaseException) -> str:
    """Why something cannot be unpacked, which may import its module."""
    return f"its module called sys.exit({error.code!r})" if isinstance(error, SystemExit) else one_line(error)


async def run_task(
    task: NodeTask,
    download: Download,
    *,
    clock: Callable[[], float] = time.perf_counter,
    epoch_s: float | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> NodeReport:
    """Do a node's work. Never raises (being cancelled aside): a failure is part of the report.

    Args:
        task: what to do.
        download: fetches what the mode says; gives the path.
        clock, epoch_s: as :class:`~serve_llm_hooks.trace.Trace`.
        environ: whose ``SERVE_LLM_HOOKS_ALLOW`` decides; left out, this process's environment.
        progress: says in this process's log what is waited for; left out, nothing does.
    """
    trace = Trace(node_id=task.node_id, clock=clock, epoch_s=epoch_s)
    work = _Work(task, download, trace, environ)
    start_s = clock()
    failure = None
    packed: tuple[tuple[str, bytes], ...] = ()
    try:
        with nullcontext() if progress is None else progress.of(work.what):
            await work.run()
    except BaseException as error:  # else it would end the process, and be a lost node
        let_through(error)
        failure = _as_text(error)
    try:
        packed = pack_custom_data(work.ctx.custom_data, where=f"node {task.node_id}")
    except HookPickleError as error:
        failure = failure or _as_text(error)
    offset_s = trace.epoch_s
    return NodeReport(
        node_id=task.node_id,
        is_local=task.is_local,
        events=trace.events,
        custom_data=packed,
        path=work.ctx.model_path,
        download_model=work.ctx.download_model,
        skipped=work.skipped,
        start_s=offset_s + start_s,
        end_s=offset_s + clock(),
        download_s=work.download_s,
        failure=failure,
    )


class _Work:
    """One node's work, step by step."""

    def __init__(
        self, task: NodeTask, download: Download, trace: Trace, environ: Mapping[str, str] | None = None
    ) -> None:
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
            is_local=task.is_local,
            download_model=task.download_model,
            load_llm_config=self._load_llm_config,
        )

    def what(self) -> str:
        """What takes so long, for the log."""
        if self.downloading:
            return f"the download from {_source(self.task)}"
        return self.trace.running or "its hooks to be imported"

    async def run(self) -> None:
        ctx, task = self.ctx, self.task
        for packed in task.hooks:  # all of them, before anything is unpacked
            self._check(packed.source, f"hook {packed.ref}")
        ctx.custom_data = unpack_custom_data(task.custom_data, where=f"on node {task.node_id}")
        hooks = own_instances(self._unpack())
        before = [hook for hook in hooks if hook.point == "on_before_node_download"]
        after = [hook for hook in hooks if hook.point == "on_after_node_download"]
        async with Dispatcher(
            task.model_id, trace=self.trace, node_id=task.node_id, on_error=task.on_error
        ) as dispatcher:
            veto = await dispatcher.run_point(before, ctx)
            await self._download(veto)
            await dispatcher.run_point(after, ctx)

    async def _download(self, veto: Skip | None) -> None:
        ctx, task = self.ctx, self.task
        path: str | None = task.source_id
        if veto is not None:
            self.skipped = veto.reason
            path = None  # whoever vetoed knows where the model is; we do not
        elif wants_download(task.mirror, ctx.download_model):
            start_s = self.trace.clock()
            self.downloading = True
            try:
                path = await self.download(task, ctx.download_model)
            except BaseException as error:
                let_through(error)
                raise _download_error(task, one_line(error)) from error
            finally:
                self.downloading = False
                self.download_s = self.trace.clock() - start_s
            if task.mirror and task.mirror.get("bucket_uri") and ctx.download_model and path == task.source_id:
                raise _download_error(task, "nothing arrived, and the downloader did not say why; its log may")
        if ctx.model_path is None:  # a hook that fetched the model itself has said where it is
            ctx.model_path = path

    def _unpack(self) -> list[Hook]:
        hooks = []
        for packed in self.task.hooks:
            try:
                hook: Hook = pickle.loads(packed.data)
            except ModuleNotFoundError as error:
                module = packed.ref.partition(":")[0]
                raise HookLoadError(
                    f"hooks module {module!r} cannot be imported on node {self.task.node_id} "
                    f"(no module {error.name!r}), so hook {packed.ref} cannot run there. Ship it with the "
                    "deployment: runtime_env={'working_dir': ...} or {'py_modules': [...]}, or install it on "
                    "every node."
                ) from error
            except BaseException as error:
                let_through(error)
                raise HookLoadError(
                    f"hook {packed.ref} cannot be unpacked on node {self.task.node_id}: {_why(error)}. "
                    "Is the same version of its module on every node?"
                ) from error
            if hook.path.partition(":")[0] != policy.module_of(packed.source):
                self._check(policy.source_of(hook), f"hook {hook.path}, which was sent as one from {packed.source},")
            hooks.append(hook)
        return hooks

    def _load_llm_config(self) -> Any:
        if self.task.config_failure:
            raise HookPickleError(self.task.config_failure)
        for source in self.task.config_sources:
            self._check(source, f"the config of model {self.task.model_id!r}, which has hooks from there,")
        return None if self.task.llm_config is None else pickle.loads(self.task.llm_config)

    def _check(self, source: str, what: str) -> None:
        policy.check(source, what, where=f"on node {self.task.node_id}", environ=self.environ)


def _source(task: NodeTask) -> str:
    mirror = task.mirror or {}
    sources = [
        mirror.get("bucket_uri"),
        *(file.get("bucket_uri") for file in mirror.get("extra_files") or ()),
    ]
    return ", ".join(str(source) for source in sources if source)


def _download_error(task: NodeTask, cause: str) -> DownloadError:
    return DownloadError(
        f"model {task.model_id!r} could not be downloaded to node {task.node_id} from {_source(task)}: {cause}",
        node_id=task.node_id,
    )


def _as_text(error: BaseException) -> Failure:
    kind = type(error).__name__ if type(error).__name__ in _KINDS else "NodeLostError"
    message = str(error) if type(error).__name__ in _KINDS else one_line(error)
    fields = {}
    if isinstance(error, HookError):
        fields = {
            "hook": error.hook,
            "point": error.point,
            "model_id": error.model_id,
            "node_id": error.node_id,
        }
    # For a hook's failure, its own traceback: the dispatcher's frames say nothing to its author.
    return Failure(kind, message, "".join(traceback.format_exception(error.__cause__ or error)), fields)
