"""Turn the failure of a node's work into an error that reaches the replica whole, and into words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._core.errors import DownloadError, HookError, NodeLostError, ServeLLMHooksError
from .._core.messages import one_line, own, traceback_of

if TYPE_CHECKING:
    from .task import NodeTask


def why_ended(error: BaseException) -> str:
    """Return why a node's work ended, where that was by no error of its own."""
    if isinstance(error, asyncio.CancelledError):
        return "the work there was cancelled: another node has failed, the start has ended, or the time was over"
    return f"the work there was ended by {one_line(error)}"


def download_error(task: NodeTask, cause: str) -> DownloadError:
    """Return the error for a download that failed."""
    return DownloadError(
        f"model {task.model_id!r} could not be downloaded to {task.node} from {task.download_source}: {cause}",
        node_id=task.node_id,
    )


def reported(error: BaseException, node_id: str) -> Exception:
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
            process=error.process,
            remote_traceback=text,
        )
    if isinstance(error, NodeLostError):
        return type(error)(str(error), node_id=node_id, remote_traceback=text)
    copy = type(error)(str(error))
    copy.node_id = node_id  # type: ignore[attr-defined]  # as the other two have it
    return copy
