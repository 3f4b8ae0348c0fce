"""``CallbackRunner``: phase callbacks without a deployment."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from .._core.messages import readable, text_of
from .phase_data import merge
from .phase_style import phase_callbacks


class CallbackRunner:
    """Run phase callbacks for any phases, as ``callbacks=[...]`` does, without a deployment.

    Args:
        callbacks: as in the config: functions, objects, classes, paths; ``None`` means none. One that is given twice
            runs twice.

    Attributes:
        data: the values that the callbacks have left so far.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: not a list, or not called like that.

    Example:
        >>> import asyncio
        >>> def count(phase, config, data):
        ...     return {"calls": data.get("calls", 0) + 1}
        >>> runner = CallbackRunner([count])
        >>> asyncio.run(runner.run("warm_up", config=None))
        {'calls': 1}
        >>> runner.get("calls")
        1
    """

    def __init__(self, callbacks: Iterable[Any] | None = None) -> None:
        self._callbacks = phase_callbacks(callbacks, once=False)
        self.data: dict[str, Any] = {}

    async def run(self, phase: str, config: Any) -> dict[str, Any]:
        """Call every callback, in order, and merge what each returns.

        Raises:
            RuntimeError: a callback failed, or returned no dict; it names the phase, and chains the cause.
        """
        for callback in self._callbacks:
            try:
                result = callback.get()(phase, config, self.data)
                problem = merge(self.data, await result if isinstance(result, Awaitable) else result)
                if problem is not None:
                    raise TypeError(problem)
            except Exception as error:
                message = f"callback {callback.path} failed at phase {phase!r}: {text_of(error)}"
                raise RuntimeError(message) from readable(error)
        return self.data

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value that a callback left, or the default."""
        return self.data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Set a value for the callbacks to read."""
        self.data[key] = value
