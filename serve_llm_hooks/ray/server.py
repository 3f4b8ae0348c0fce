"""The server class whose start is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ray.serve.llm import LLMServer as _RayLLMServer

from ..initialize import initialization
from .callback import hand_over, native_hooks
from .cluster import RayCluster
from .log import show_log

if TYPE_CHECKING:
    from ..trace import HookEvent

__all__ = ["LLMServer", "hooked_server"]

ServerT = TypeVar("ServerT")

_HOOKED = "__serve_llm_hooks_server__"


def hooked_server(base: type[ServerT]) -> type[ServerT]:
    """A server class whose start runs hooks; for your own subclass of Ray's ``LLMServer``.

    Args:
        base: a class with Ray's ``async start()``, ``_llm_config`` and ``engine``. A hooked one comes back as it is.

    Example:
        >>> LLMConfig(..., server_cls=hooked_server(MyServer))  # doctest: +SKIP
    """
    if getattr(base, _HOOKED, False):
        return base

    parent: Any = base  # a base class that is a variable: no checker follows it

    class Hooked(parent):  # type: ignore[misc]  # so this is a subclass of Any
        async def start(self) -> None:
            """Start the replica: hooks around placement group, downloads and engine."""
            show_log()
            config = self._llm_config
            # None for our own config, whose hooks= decides.
            async with initialization(config, cluster=RayCluster(), hooks=native_hooks(config)) as run:
                self._hook_trace = run.trace
                hand_over(config, run.ctx)
                await super().start()
                run.engine = self.engine

        async def hook_trace(self) -> tuple[HookEvent, ...]:
            """What ran at this replica's start: ``await handle.hook_trace.remote()``."""
            return tuple(self._hook_trace)

    Hooked.__name__ = base.__name__  # Ray names deployments after it: `LLMServer:<model>` stays what it was
    Hooked.__qualname__ = base.__qualname__
    Hooked.__doc__ = base.__doc__
    setattr(Hooked, _HOOKED, True)
    hooked: type[Any] = Hooked
    return hooked


LLMServer: type[_RayLLMServer] = hooked_server(_RayLLMServer)
LLMServer.__module__ = __name__  # so that it travels by reference
