"""``RegisterToolParser``: a tool parser of your own, known in every process of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _named
from ._parser import RegistersParser

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, EngineProcessCtx


class RegisterToolParser(RegistersParser):
    """Register a tool parser with vLLM where each process of the engine begins, and use it.

    Args:
        path: the class, as ``"my_company.parsers:MyToolParser"``, a subclass of vLLM's ``ToolParser``.
        name: what it is called in the engine's arguments; left out, like its class.
        use: whether this deployment uses it; with ``False`` it is only known.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = [{"hook": RegisterToolParser, "kwargs": {"path": "no_such_module:MyParser"}}]
        >>> FakeCluster().run(FakeLLMConfig("m", hooks=hooks), check=False).error.process
        'frontend'
    """

    argument = "tool_call_parser"

    def chosen(self) -> dict[str, Any]:
        """Return the engine's arguments with which it uses the parser."""
        return super().chosen() | ({"enable_auto_tool_choice": True} if self.use else {})

    def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        """Choose it: the frontend answers tool calls with it."""
        ctx.extra_init_kwargs.update(self.chosen())

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Register it in this process.

        Raises:
            ModuleNotFoundError, AttributeError: it is not here.
            TypeError: it is no ``ToolParser`` of vLLM's.
        """
        _named.check_is_there(_named.split(self.path)[0])
        from vllm.tool_parsers import ToolParser, ToolParserManager

        ToolParserManager.register_module(self.name, True, self.load(ToolParser))
