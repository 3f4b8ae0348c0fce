"""Classes for a real engine, which recipes register by their names; importing this imports vLLM."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_llama: Any = import_module("vllm.model_executor.models.llama").LlamaForCausalLM
_tool_parser: Any = import_module("vllm.tool_parsers").ToolParser


class OwnForCausalLM(_llama):  # type: ignore[misc]  # imported by name
    """vLLM's Llama, under a name of our own."""


class OwnTools(_tool_parser):  # type: ignore[misc]  # imported by name
    """A parser that finds no calls."""
