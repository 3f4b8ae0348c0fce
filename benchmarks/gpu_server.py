"""The servers of `benchmarks.gpu_path`, with marks: Ray's own, and the hooked one. Importing this begins the clock."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from tests.stub_engine import StubEngine

from .marks import mark

mark("server module")
Base: Any
if os.environ.get("BENCH_SIDE") == "theirs":
    Base = import_module("ray.serve.llm.deployment").LLMServer
else:
    Base = import_module("serve_llm_hooks.ray.server").LLMServer


class LLMServer(Base):  # type: ignore[misc]  # a class that is chosen at run time
    """A server that notes when its start begins."""

    async def start(self) -> None:
        """Start."""
        mark("start begins")
        await super().start()


if Base.__module__.startswith("serve_llm_hooks"):
    setattr(LLMServer, import_module("serve_llm_hooks.ray.hooked")._HOOKED, "start")  # its base runs the hooks


class ConfigOnly(StubEngine):
    """An engine that starts as Ray's does on a GPU until its config is there, and no further."""

    async def start(self) -> None:
        """Initialize nodes if the callback says so, prepare the config in Ray's own task, and note it."""
        await super().start()
        mark("config is there")
        if self.config_task is not None and self.config_task["is warm"]:
            mark("the process was warm")
