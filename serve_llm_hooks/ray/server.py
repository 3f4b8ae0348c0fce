"""The server class whose start is ours."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ray.serve.llm.deployment import LLMServer as _RayLLMServer

from ..errors import HookLoadError
from ..initialize import initialization
from ..progress import Progress
from . import internals
from .callback import hand_over, native_hooks
from .cluster import RayCluster
from .log import show_log
from .other_engine import OtherEngineCluster

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ..initialize import Initialization
    from ..trace import HookEvent

__all__ = ["LLMServer", "hooked_server"]

ServerT = TypeVar("ServerT")

_HOOKED = "__serve_llm_hooks_server__"  # what of it starts the engine; the subclasses of a hooked class inherit it


def hooked_server(base: type[ServerT]) -> type[ServerT]:
    """A server class whose start runs hooks; for your own server, or for Ray's ``SGLangServer``.

    Args:
        base: a class that starts its engine in ``async start()``, with ``_llm_config`` and ``engine``, as Ray's
            ``LLMServer`` does; or one that starts it in a constructor that is not async, whose first argument is the
            config, as Ray's ``SGLangServer`` does. A hooked one comes back as it is.

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


@cache  # Ray's own class comes by often: one subclass of it is enough
def _hooked(base: type[Any]) -> Any:
    if not callable(getattr(base, "start", None)):
        raise TypeError(
            "hooked_server() takes a server class with `async start()`, as Ray's LLMServer and SGLangServer have it, "
            f"not {base!r}"
        )
    # Not by the constructor alone: what Ray has deprecated (2.58: `ray.serve.llm.LLMServer`) has a plain one around it.
    by_start = issubclass(base, internals.LLMServer) or inspect.iscoroutinefunction(base.__init__)
    starts = getattr(base, _HOOKED, "start" if by_start else "constructor")
    parent: Any = base  # a base class that is a variable: no checker follows it

    class Traced(parent):  # type: ignore[misc]  # so this is a subclass of Any
        async def hook_trace(self) -> tuple[HookEvent, ...]:
            """What ran at this replica's start: ``await handle.hook_trace.remote()``."""
            return tuple(self._hook_trace)

    class StartedByStart(Traced):
        async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            """As it is, which calls ``start()``."""
            made = super().__init__(*args, **kwargs)
            if inspect.isawaitable(made):  # else it is plain, as in Ray 2.58, around an async one
                await made
            if not hasattr(self, "_hook_trace"):
                raise HookLoadError(
                    f"{base!r} starts its engine in its constructor and never calls start(), so no hook has run. Start "
                    "it in `async def start(self)`, and let the constructor `await self.start()`, as Ray's LLMServer "
                    "does."
                )

        async def start(self) -> None:
            """Start the replica: hooks around placement group, downloads and engine."""
            if hasattr(self, "_hook_trace"):  # inside that of a class which is based on this one
                await super().start()
                return
            config = self._llm_config
            async with _initialization(config, RayCluster()) as run:
                self._hook_trace = run.trace
                hand_over(config, run.ctx)
                await super().start()
                run.engine = self.engine

    class StartedByConstructor(Traced):
        async def __init__(self, llm_config: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            """Start the replica: hooks around placement group, downloads and engine."""
            async with AsyncExitStack() as start:
                run = None
                if not hasattr(self, "_hook_trace"):  # else: as above
                    run = await start.enter_async_context(_initialization(llm_config, OtherEngineCluster()))
                    self._hook_trace = run.trace
                made = super().__init__(llm_config, *args, **kwargs)
                if inspect.isawaitable(made):  # an async constructor, perhaps in a wrapper that is not
                    await made
                if run is not None:
                    run.engine = self.engine

    hooked: type[Any] = StartedByStart if starts == "start" else StartedByConstructor
    hooked.__name__ = base.__name__  # Ray names deployments after it: `LLMServer:<model>` stays what it was
    hooked.__qualname__ = base.__qualname__
    hooked.__doc__ = base.__doc__
    setattr(hooked, _HOOKED, starts)
    return hooked


def is_hooked(server_cls: Any) -> bool:
    """Whether a server class's start runs hooks; a class that is based on such a one may have a start of its own."""
    return _HOOKED in getattr(server_cls, "__dict__", ())  # it may have been set to anything since


def _initialization(llm_config: Any, cluster: RayCluster) -> AbstractAsyncContextManager[Initialization]:
    show_log()
    with Progress(str(llm_config.model_id)) as progress, progress.of("its hooks to be imported"):
        hooks = native_hooks(llm_config)  # none for our own config, whose hooks= decides
    return initialization(llm_config, cluster=cluster, hooks=hooks)


if TYPE_CHECKING:

    class LLMServer(_RayLLMServer):
        """Ray's server, hooked; a class, so that one can be based on it."""

        async def hook_trace(self) -> tuple[HookEvent, ...]: ...

else:
    LLMServer = hooked_server(_RayLLMServer)
    LLMServer.__module__ = __name__  # so that it travels by reference
