"""Hooks in each process of a real engine: one gives it a parser, others wait for weights."""

from __future__ import annotations

import os
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, EngineProcessCtx

ARCHITECTURE = "OwnForCausalLM"  # in the config of the model; a recipe registers it
PARSER = "own"


@hook("on_before_engine_init")
def choose(ctx: CallbackCtx) -> None:
    """Ask for the parser, and pass its name on."""
    ctx.extra_init_kwargs.update(reasoning_parser=PARSER)
    ctx.custom_data["parser"] = PARSER


@hook("on_engine_process_start", roles="core")
def core_begins(ctx: EngineProcessCtx) -> None:
    """Say so to the server of the weights, which gives none before."""
    with urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL_S3"] + "/begins", timeout=60):
        pass


@hook("on_engine_process_start", roles="worker")
def weights_are_there(ctx: EngineProcessCtx) -> None:
    """Look for them where Ray's downloader puts them."""
    snapshots = Path(os.environ["HF_HOME"], "hub", "models--late", "snapshots")
    assert list(snapshots.glob("*/model.safetensors")), sorted(snapshots.rglob("*"))


@hook("on_engine_process_start")
def register_parser(ctx: EngineProcessCtx) -> None:
    """Register a reasoning parser of the tests' own: all that the model says is reasoning, and "ours" the answer."""
    reasoning: Any = import_module("vllm.reasoning")

    class OwnParser(reasoning.ReasoningParser):  # type: ignore[misc]  # imported by name
        def is_reasoning_end(self, input_ids: Any) -> bool:
            return True

        def extract_content_ids(self, input_ids: Any) -> Any:
            return input_ids

        def extract_reasoning(self, model_output: str, request: Any) -> tuple[str, str]:
            return model_output, "ours"

        def extract_reasoning_streaming(self, *args: Any) -> None:
            return None

    reasoning.ReasoningParserManager.register_module(ctx.custom_data["parser"], True, OwnParser)
