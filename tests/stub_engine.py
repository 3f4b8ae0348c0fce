"""An engine without a model, put in the place of vLLM's through the seam that Ray offers for it.

``RAYLLM_VLLM_ENGINE_CLS=tests.stub_engine.StubEngine`` in the replica's environment. All around it is real: Ray, Serve,
Ray's server and builders, and what Ray's vLLM engine asks of a config's callback before it starts. For deployments
that need no model, or whose engine cannot run on a CPU.

``STUB_ENGINE_SAYS`` in the environment names a file that gets a line of JSON for each engine that starts;
``STUB_ENGINE_ENDS`` one that gets the process id of each that is shut down. ``STUB_ENGINE_FAILS`` makes it fail with
that text. ``STUB_ENGINE_CONFIG_TASK`` lets Ray's own vLLM engine prepare its config, as it does for a GPU: in a task
with Ray's options, which says in which process it runs, and with ``real`` makes the config.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "tests.stub_engine.StubEngine"


def _config_task(llm_config: Any) -> tuple[dict[str, Any], None]:
    """Import what Ray's own function needs, and say in which process it would build the engine's config."""
    import_module("ray.llm._internal.serve.engines.vllm.vllm_engine")
    prewarm: Any = sys.modules.get("serve_llm_hooks.ray.prewarm")
    return {"pid": os.getpid(), "is warm": prewarm is not None and prewarm.is_warm}, None


def _real_config_task(llm_config: Any) -> tuple[dict[str, Any], Any]:
    """Make the config as well, with Ray's own function, which in this process nobody has replaced."""
    said, _ = _config_task(llm_config)
    vllm_engine: Any = import_module("ray.llm._internal.serve.engines.vllm.vllm_engine")
    return said, vllm_engine._get_vllm_engine_config(llm_config)


def _prepare_config(llm_config: Any, ctx: Any, *, real: bool) -> dict[str, Any]:
    vllm_engine: Any = import_module("ray.llm._internal.serve.engines.vllm.vllm_engine")
    vllm_engine._get_vllm_engine_config = _real_config_task if real else _config_task
    engine = vllm_engine.VLLMEngine.__new__(vllm_engine.VLLMEngine)
    engine.llm_config = llm_config
    said: dict[str, Any] = engine._prepare_engine_config(ctx)[0]
    return said


class StubEngine:
    """Starts as Ray's vLLM engine does, without vLLM; answers every question with ``ok``."""

    def __init__(self, llm_config: Any) -> None:
        self.llm_config = llm_config
        self.config_task: dict[str, Any] | None = None

    async def start(self) -> None:
        """Do what ``VLLMEngine.start`` does before it starts vLLM."""
        if text := os.environ.get("STUB_ENGINE_FAILS"):
            raise RuntimeError(text)
        callback = self.llm_config.get_or_create_callback()
        await callback.run_callback("on_before_node_init")
        if callback.ctx.run_init_node:
            await import_module("ray.llm._internal.serve.utils.node_initialization_utils").initialize_node(
                self.llm_config
            )
        await callback.run_callback("on_after_node_init")
        # For GPU engines Ray sends its config, with the callback and a run in progress on it, to another process.
        how = os.environ.get("STUB_ENGINE_CONFIG_TASK")
        self.config_task = _prepare_config(self.llm_config, callback.ctx, real=how == "real") if how else None
        there = pickle.loads(import_module("ray.cloudpickle").dumps(self.llm_config)).get_or_create_callback().ctx
        if says := os.environ.get("STUB_ENGINE_SAYS"):
            config = self.llm_config.get_engine_config()
            started = {
                "pid": os.getpid(),
                "config_task": self.config_task,
                "model": config.actual_hf_model_id,
                "engine_kwargs": {key: repr(value) for key, value in config.engine_kwargs.items()},
                "placement_group": there.placement_group.id.hex(),
                "bundles": os.environ.get("VLLM_RAY_BUNDLE_INDICES"),
                "run_init_node": there.run_init_node,
                "collector": [gc.get_threshold(), gc.get_freeze_count() > 0],
            }
            with Path(says).open("a") as file:
                file.write(json.dumps(started) + "\n")

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """One answer, whatever was asked."""
        answer = import_module("ray.serve.llm.openai_api_models").ChatCompletionResponse
        message = {"role": "assistant", "content": "ok"}
        yield answer(
            model=request.model,
            choices=[{"index": 0, "message": message, "finish_reason": "stop"}],
            usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        )

    def routing_stats(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    async def shutdown(self) -> None:
        """Say that it has ended, by the id of its process."""
        if ends := os.environ.get("STUB_ENGINE_ENDS"):
            with Path(ends).open("a") as file:
                file.write(f"{os.getpid()}\n")

    async def check_health(self) -> None:
        """Always well."""
