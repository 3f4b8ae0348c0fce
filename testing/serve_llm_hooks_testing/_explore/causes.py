"""Tell the errors of a start that its schedule causes itself from those that its hooks cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import DownloadError, HookError, HookLoadError, NodeLostError, PlacementGroupError
from serve_llm_hooks._core.called import is_called
from serve_llm_hooks._core.event import path_in
from serve_llm_hooks._core.messages import one_line

from .._simulation.timing import StartCancelledError
from ..faults import (
    DownloadFault,
    EngineAnswersErrorFault,
    EngineFailsFault,
    HookFailsFault,
    LostNodeFault,
    MissingModuleFault,
    UnschedulableFault,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..faults import Fault
    from .schedule import Schedule


def causes_of(schedule: Schedule) -> list[Callable[[Exception], bool]]:
    """Return functions that say of an error, or of a node's part of one, whether the schedule has caused it."""
    found = [_cause_of(fault) for fault in schedule.faults]
    if schedule.cancelled_after_s is not None:
        found.append(lambda error: isinstance(error, StartCancelledError))
    return found


def _cause_of(fault: Fault) -> Callable[[Exception], bool]:
    def caused(error: Exception) -> bool:
        match fault:
            case DownloadFault():
                return (
                    isinstance(error, DownloadError) and error.node_id == fault.node_id and _said(fault) in str(error)
                )
            case LostNodeFault():
                return isinstance(error, NodeLostError) and error.node_id == fault.node_id
            case MissingModuleFault():
                return isinstance(error, HookLoadError) and fault.module in str(error)
            case HookFailsFault():
                return (
                    isinstance(error, HookError)
                    and is_called(path_in(error.hook), fault.hook)
                    and str(fault.error) in str(error)
                )
            case UnschedulableFault():
                return isinstance(error, PlacementGroupError)
            case EngineFailsFault():
                return error is fault.error or str(error) == str(fault.error)
            case EngineAnswersErrorFault():
                return isinstance(error, HookError) and fault.message in _all_text(error)
            case _:
                return False

    return caused


def _said(fault: DownloadFault) -> str:
    """Return what a failing download is told to say; one that fails quietly says nothing."""
    if fault.quietly:
        return ""
    return one_line(fault.error) if isinstance(fault.error, Exception) else fault.error or ""


def _all_text(error: BaseException) -> str:
    """Return what an error says, and what has caused it."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 10:
        texts.append(str(seen))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)
