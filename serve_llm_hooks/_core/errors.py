"""The errors: one base class, and one class for each way to fail.

Every message says what was wrong, where, and what to write instead. Errors cross process boundaries (from a node
to the replica, from the replica to Serve's controller), so every class here survives pickling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from .node import Node

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence


KindT = TypeVar("KindT")


class ServeLLMHooksError(RuntimeError):
    """Base class of all errors of this library."""


class UnknownHookError(ServeLLMHooksError):
    """A name that is no hook point. The message suggests the nearest one and lists them all."""


class HookLoadError(ServeLLMHooksError):
    """A reference in ``hooks=[...]`` that leads to no hook: a missing module, a failing import, no such name."""


class HookImportError(HookLoadError, ImportError):
    """A module of hooks or callbacks that cannot be found, or fails while it is imported."""


class HookNotAllowedError(HookLoadError):
    """A hook from a module or file that ``SERVE_LLM_HOOKS_ALLOW`` does not list. It was not imported."""


class HookSignatureError(HookLoadError):
    """A function that cannot be called as a hook, or whose parameters do not fit the ``kwargs`` given for it."""


class HookPickleError(ServeLLMHooksError):
    """A hook, or a value in ``custom_data``, that cannot travel between the replica and a node."""


class HookOrderError(ServeLLMHooksError):
    """``before`` / ``after`` constraints in a circle, or a name in them that means more than one hook."""


class EngineArgumentError(ServeLLMHooksError):
    """An argument that the engine cannot be given, or that a hook wrote where the engine does not look for it."""


class EngineAnswerError(ServeLLMHooksError):
    """The engine answered with an error; ``code`` is its HTTP status, as 400 for a prompt that is too long."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code: int | None = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_answer_error, (str(self), self.code))


class PlacementGroupError(ServeLLMHooksError):
    """A placement group that the cluster cannot hold. The message says what was asked for and what there is."""


class TraceFormatError(ServeLLMHooksError, ValueError):
    """Saved traces that cannot be read: cut off, of a later version, or something else."""


class HookTraceError(ServeLLMHooksError):
    """A running application whose traces cannot be had: it is not there, or nothing in it runs hooks."""


class HookError(ServeLLMHooksError):
    """A hook failed. The hook's own exception is the ``__cause__``.

    Attributes:
        hook: the hook's name, as ``module:qualname``.
        point: the hook point it ran at.
        model_id: the model whose start-up it was part of.
        node_id: the node it ran on; ``None`` in the replica.
        process: the process of the engine that it ran in, as ``"worker-1"``; ``None`` elsewhere.
        remote_traceback: the traceback as text, when the hook ran in another process (exceptions lose theirs
            on the way).
    """

    def __init__(
        self,
        message: str,
        *,
        hook: str,
        point: str,
        model_id: str,
        node_id: str | None = None,
        process: str | None = None,
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(message)
        self.hook = hook
        self.point = point
        self.model_id = model_id
        self.node_id = node_id
        self.process = process
        self.remote_traceback = remote_traceback
        if remote_traceback:
            where = f"in {process} on {Node(node_id or '')}" if process else f"on {Node(node_id or '')}"
            self.add_note(f"Traceback {where}:\n{remote_traceback.rstrip()}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_hook_error, (type(self), str(self), self._fields()), self._state())

    def _fields(self) -> dict[str, Any]:
        return {
            "hook": self.hook,
            "point": self.point,
            "model_id": self.model_id,
            "node_id": self.node_id,
            "process": self.process,
            "remote_traceback": self.remote_traceback,
        }

    def _state(self) -> dict[str, Any]:
        # Only plain data travels: notes do, other attributes that somebody set do not.
        return {"__notes__": list(getattr(self, "__notes__", ()))}


class HookTimeoutError(HookError):
    """A hook ran longer than its ``timeout_s``."""


class HookResultError(HookError):
    """A hook returned a value that its point cannot use."""


class NodeLostError(ServeLLMHooksError):
    """A node, or the worker process on it, went away or did not answer while it was being initialized.

    Attributes:
        node_id: the node.
    """

    def __init__(self, message: str, *, node_id: str, remote_traceback: str | None = None) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.remote_traceback = remote_traceback
        if remote_traceback:
            self.add_note(f"Traceback on {Node(node_id)}:\n{remote_traceback.rstrip()}")

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (type(self), str(self), self.node_id, self.remote_traceback)
        return (_rebuild_node_error, arguments, {"__notes__": list(getattr(self, "__notes__", ()))})


class DownloadError(NodeLostError):
    """A download on a node failed; the message names the source and the cause."""


class NodeInitializationError(ExceptionGroup[Exception], ServeLLMHooksError):
    """One or more nodes could not be initialized.

    An ``ExceptionGroup`` that holds each failed node's own error, with that node's traceback; ``str()`` of it is
    one readable line per node. ``except* HookTimeoutError`` picks a kind out of it.

    Attributes:
        node_ids: the failed nodes, in the order of the placement group's bundles.
    """

    node_ids: tuple[str, ...]

    def __new__(
        cls, message: str, errors: Sequence[Exception], node_ids: Sequence[str] | None = None
    ) -> NodeInitializationError:
        self = super().__new__(cls, message, list(errors))
        # Left out, the errors know their nodes; one of a task that could not be sent does not.
        known = (str(getattr(error, "node_id", "?")) for error in errors)
        self.node_ids = tuple(known if node_ids is None else node_ids)
        return self

    def __init__(self, message: str, errors: Sequence[Exception], node_ids: Sequence[str] | None = None) -> None:
        # BaseExceptionGroup takes its arguments in __new__; without this, RuntimeError's __init__ gets node_ids too.
        super().__init__(message, list(errors))

    def derive(self, errors: Sequence[Exception]) -> NodeInitializationError:  # type: ignore[override]
        # typeshed lets derive() return any group of any exceptions; ours holds Exceptions only.
        nodes = {id(error): node_id for error, node_id in zip(self.exceptions, self.node_ids, strict=True)}
        node_ids = [nodes.get(id(error), str(getattr(error, "node_id", "?"))) for error in errors]
        return NodeInitializationError(self.message, errors, node_ids)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (NodeInitializationError, (self.message, list(self.exceptions), self.node_ids))


def _rebuild_answer_error(message: str, code: int | None) -> EngineAnswerError:
    return EngineAnswerError(message, code=code)


def _rebuild_hook_error(cls: type[HookError], message: str, fields: dict[str, Any]) -> HookError:
    return cls(message, **fields)


def _rebuild_node_error(
    cls: type[NodeLostError], message: str, node_id: str, remote_traceback: str | None
) -> NodeLostError:
    return cls(message, node_id=node_id, remote_traceback=remote_traceback)


for _cls in list(globals().values()):
    if isinstance(_cls, type) and issubclass(_cls, ServeLLMHooksError):
        # Tracebacks and pickles show the path that users import, whichever file it is in.
        _cls.__module__ = "serve_llm_hooks"


def is_a(obj: object, kind: type[KindT]) -> TypeGuard[KindT]:
    """Return True if an object is of a kind. ``isinstance`` asks the object too, which may raise, or lie."""
    return issubclass(type(obj), kind)


_interrupts_are_real = True


def expect_no_interrupt() -> None:
    """Take each ``KeyboardInterrupt`` in this process for a hook's own: interrupts reach its event loop instead."""
    global _interrupts_are_real
    _interrupts_are_real = False


def reraise_if_not_a_failure(error: BaseException, awaited_in: asyncio.Task[Any] | None = None) -> None:
    """Raise ``error`` again if it ends this code too, and is no failure of the code that was called.

    That is: an interrupt of the program, which only the main thread is told of, and where something was awaited,
    that our task is being cancelled, or closed from outside. Everything else is the called code's own failure,
    whatever its kind: ``sys.exit``, a panic in Rust code, a ``CancelledError`` that nobody asked for.

    Args:
        error: what the called code raised.
        awaited_in: the task that awaited it; left out for a call without ``await``, which nothing cancels or closes.
    """
    import asyncio  # only a failure pays for these imports
    import threading

    ends_us = False
    if is_a(error, KeyboardInterrupt):
        ends_us = _interrupts_are_real and threading.current_thread() is threading.main_thread()
    elif awaited_in is not None and is_a(error, asyncio.CancelledError):
        ends_us = awaited_in.cancelling() > 0
    elif awaited_in is not None and is_a(error, GeneratorExit):
        try:
            ends_us = asyncio.current_task() is not awaited_in
        except RuntimeError:  # the event loop is gone
            ends_us = True
    if ends_us:
        raise error
