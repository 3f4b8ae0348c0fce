"""``hooked_server``: server classes whose start runs hooks."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from . import internals

if TYPE_CHECKING:
    from .._core.trace import Trace


ServerT = TypeVar("ServerT")

internals.warn_if_untested()  # in the process that makes a config, too

_HOOKED = "__serve_llm_hooks_server__"  # "start" or "constructor", which of them starts the engine; inherited


def hooked_server(base: type[ServerT]) -> type[ServerT]:
    """Return a server class whose start runs hooks; for your own server, or for Ray's ``SGLangServer``.

    Args:
        base: a class that starts its engine in ``async start()``, with ``_llm_config`` and ``engine``, as Ray's
            ``LLMServer`` does; or one that starts it in a constructor that is not async, whose first argument is the
            config, as Ray's ``SGLangServer`` does. A hooked class is returned unchanged.

    Raises:
        TypeError: it is neither.

    Example:
        >>> LLMConfig(..., server_cls=hooked_server(MyServer))  # doctest: +SKIP
    """
    if is_hooked(base):
        return base
    given: Any = base  # for a checker, a type variable cannot be hashed
    hooked: type[ServerT] = _hooked(given)
    return hooked


@cache  # one subclass of Ray's own class is enough
def _hooked(base: type[Any]) -> Any:
    if not callable(getattr(base, "start", None)):
        from .._core.messages import describe

        raise TypeError(
            "hooked_server() takes a server class with `async start()`, as Ray's LLMServer and SGLangServer have it, "
            f"not {describe(base)}"
        )
    # Not by the constructor alone: Ray 2.58 puts a plain one around that of its deprecated `ray.serve.llm.LLMServer`.
    by_start = issubclass(base, internals.LLMServer) or inspect.iscoroutinefunction(base.__init__)
    starts = getattr(base, _HOOKED, "start" if by_start else "constructor")
    traced = _traced(base, starts)
    hooked = _started_by_start(traced, base) if starts == "start" else _started_by_constructor(traced)
    hooked.__name__ = base.__name__  # Ray names deployments after it, as in `LLMServer:<model>`
    hooked.__qualname__ = base.__qualname__
    hooked.__doc__ = base.__doc__
    setattr(hooked, _HOOKED, starts)
    return hooked


def _traced(base: type[Any], starts: str) -> Any:
    """Return a subclass that tells its hook calls, and runs ``on_shutdown`` when Serve stops the replica.

    The driver makes such classes too, and starts none: what a start needs is imported by it.
    """

    class Traced(*_bases(base, starts)):  # type: ignore[misc]  # bases that are computed: no checker follows them
        async def hook_trace(self) -> Trace:
            """Return the trace of this replica's start: ``await handle.hook_trace.remote()``."""
            trace: Trace = self._hook_trace
            return trace

    def end(self: Any) -> Any:
        """Run ``on_shutdown``, and the base's own end. Serve calls this when it stops the replica, and awaits it."""
        from . import shutdown

        return shutdown.stop(self.__dict__.pop("_hook_run", None), getattr(super(Traced, self), "__del__", None))

    async def end_and_wait(self: Any) -> None:
        """Run ``on_shutdown``, and the base's own end. Serve awaits it when it stops the replica."""
        ended = end(self)
        if inspect.isawaitable(ended):
            await ended

    # Async where the base's is: a wrapper of Serve's looks at that before it awaits it. Elsewhere a coroutine that
    # nobody awaits would be complained of whenever an object is thrown away.
    is_async = inspect.iscoroutinefunction(getattr(base, "__del__", None))
    Traced.__del__ = end_and_wait if is_async else end
    return Traced


def _started_by_start(traced: Any, base: type[Any]) -> Any:
    """Return a subclass of a class that starts its engine in ``start()``."""

    class StartedByStart(traced):  # type: ignore[misc]  # a base that is computed: no checker follows it
        async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            """Run the base's constructor, which calls ``start()``."""
            made = super().__init__(*args, **kwargs)
            if inspect.isawaitable(made):  # else it is Ray 2.58's plain one
                await made
            if not hasattr(self, "_hook_trace"):
                from .._core.errors import HookLoadError
                from .._core.messages import describe

                raise HookLoadError(
                    f"{describe(base)} starts its engine in its constructor and never calls start(), so no hook has "
                    "run. Start it in `async def start(self)`, and let the constructor `await self.start()`, as Ray's "
                    "LLMServer does."
                )

        async def start(self) -> None:
            """Start the replica: hooks around placement group, downloads and engine."""
            if hasattr(self, "_hook_trace"):  # a subclass's start runs the hooks already
                await super().start()
                return
            from .hooked_start import around_start

            async with around_start(self):
                await super().start()

    return StartedByStart


def _started_by_constructor(traced: Any) -> Any:
    """Return a subclass of a class that starts its engine in its constructor."""

    class StartedByConstructor(traced):  # type: ignore[misc]  # a base that is computed: no checker follows it
        async def __init__(self, llm_config: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            """Start the replica: hooks around placement group, downloads and engine."""
            from .hooked_start import around_constructor

            async with around_constructor(self, llm_config):
                made = super().__init__(llm_config, *args, **kwargs)
                if inspect.isawaitable(made):  # an async constructor inside a plain one
                    await made

    return StartedByConstructor


def _bases(base: type[Any], starts: str) -> tuple[Any, ...]:
    """Return the bases of a hooked class; the first begins the prewarm, where Ray will build the engine's config."""
    if starts != "start":
        return (base,)
    from .prewarmed import Prewarmed  # here, because importing it begins

    return (base,) if issubclass(base, Prewarmed) else (Prewarmed, base)


def is_hooked(server_cls: Any) -> bool:
    """Return True if a server class's start runs hooks. A subclass of such a class may have a start of its own."""
    return _HOOKED in getattr(server_cls, "__dict__", ())  # may be anything: fields can be assigned later


def starts_in_constructor(server_cls: Any) -> bool:
    """Return True if a hooked server starts its engine in its constructor, as SGLang's does."""
    return getattr(server_cls, _HOOKED, "start") == "constructor"
