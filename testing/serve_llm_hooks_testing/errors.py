"""How the harness itself complains: about a test, or about what production would do to a hook."""

from __future__ import annotations

from serve_llm_hooks import ServeLLMHooksError

__all__ = ["DeadlockError", "HarnessError", "HarnessWarning", "RayInFakeRunError"]


class HarnessError(ServeLLMHooksError):
    """The harness cannot do what the test asks of it; the message says what to write instead."""


class DeadlockError(HarnessError):
    """Nothing is scheduled, nothing is at work, and the run is not over: in production it would hang for ever."""


class RayInFakeRunError(HarnessError):
    """Something called ``ray.init`` inside a fake run."""


class HarnessWarning(UserWarning):
    """Something that a fake run got away with and that a test's author will want to know.

    A pytest suite makes it an error with ``filterwarnings = ["error::serve_llm_hooks_testing.HarnessWarning"]``.
    """
