"""``LLMServer``: Ray's server, hooked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import prewarmed  # noqa: F401  # first: it begins on import, and Ray Serve LLM takes seconds to import

# isort: split

from ray.serve.llm.deployment import LLMServer as _RayLLMServer

from .hooked import hooked_server

if TYPE_CHECKING:
    from .._core.trace import Trace

    class LLMServer(_RayLLMServer):
        """Ray's server, hooked."""

        async def hook_trace(self) -> Trace:
            """Return the trace of this replica's start: ``await handle.hook_trace.remote()``."""
            ...

else:
    LLMServer = hooked_server(_RayLLMServer)
    LLMServer.__module__ = __name__  # so that it travels by reference
