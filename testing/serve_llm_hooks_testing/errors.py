"""Errors and warnings of the test harness."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from serve_llm_hooks import ServeLLMHooksError

if TYPE_CHECKING:
    from collections.abc import Iterable


class HarnessError(ServeLLMHooksError):
    """The harness cannot do what the test asks for; the message says what to write instead."""


class ReplicaProcessError(HarnessError):
    """The replica's process ended without an answer, as Serve would see it too."""


class DeadlockError(HarnessError):
    """The run never ends: nothing is scheduled and nothing is at work, or only something that goes on for ever."""


class RayInFakeRunError(HarnessError):
    """``ray.init`` was called inside a fake run."""


class HarnessWarning(UserWarning):
    """A problem that did not make a fake run fail, such as a hook that blocks or a fault that never happened.

    A pytest suite makes it an error with ``filterwarnings = ["error::serve_llm_hooks_testing.HarnessWarning"]``.
    """


def not_ended_within(limit_s: float) -> str:
    """Return the message about a start that goes on and on."""
    return (
        f"the start has not ended within {limit_s:g} virtual seconds, although something goes on, such as a heartbeat. "
        "If it may take longer, say FakeCluster(time_limit_s=...). If a hook waits for datetime.now(): that does not "
        "go with virtual time, and time.time() does."
    )


def is_mistake(error: BaseException | None) -> bool:
    """Return whether an error, or one of a group, is a mistake in the test, and not how the run has ended."""
    # By its type: an exception of somebody else may raise where its attributes are read.
    parts = getattr(error, "exceptions", ()) if issubclass(type(error), BaseExceptionGroup) else ()
    return type(error) is HarnessError or any(map(is_mistake, parts))


def warn_and_raise(notes: Iterable[str], error: Exception | None, *, check: bool = True) -> None:
    """Emit a warning for each note, at the line of the test that called the caller's caller, and raise the error.

    Args:
        notes: the texts of the warnings.
        error: the error.
        check: raise the error; otherwise it only becomes the cause of a warning that a filter makes an error of.

    Raises:
        Exception: ``error``, even where a filter makes an error of a warning.
    """
    try:
        for note in notes:
            warnings.warn(note, HarnessWarning, stacklevel=4)
    except HarnessWarning as warning:
        if error is None or check:
            raise
        raise warning from error
    finally:
        if error is not None and check:
            raise error
