"""The hooks of the deployment test: every good point, around a real engine."""

from __future__ import annotations

import os
import sys
from typing import Any

from serve_llm_hooks import CallbackCtx, EngineAnswerError, EngineProcessCtx, NodeCtx, Skip, ask, hook, skip


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> None:
    assert ctx.placement_group is not None  # Serve has made the replica's group


@hook("on_before_download")
async def before_download(ctx: CallbackCtx) -> None:
    ctx.custom_data["model"] = os.environ["TINY_MODEL"]


@hook("on_before_node_download")
def before_node_download(ctx: NodeCtx) -> Skip:
    return skip("made by the test")


@hook("on_after_node_download")
def after_node_download(ctx: NodeCtx) -> None:
    # Nothing was downloaded here, so nothing has imported what takes ten seconds.
    assert not {"torch", "vllm", "ray.serve"} & set(sys.modules)
    ctx.custom_data["config_is_there"] = os.path.exists(os.path.join(ctx.custom_data["model"], "config.json"))


@hook("on_after_download")
def after_download(ctx: CallbackCtx) -> None:
    assert [node.custom_data["config_is_there"] for node in ctx.nodes.values()] == [True]


@hook("on_after_placement_group")
def after_placement_group(ctx: CallbackCtx) -> None:
    ctx.model_path = ctx.custom_data["model"]


@hook("on_before_engine_init")
def before_engine_init(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["max_model_len"] = 128  # the engine's
    ctx.extra_init_kwargs["chat_template"] = "{# a template #}one two three"  # the frontend's: every prompt is the same


@hook("on_engine_process_start", roles="worker")
def engine_process_start(ctx: EngineProcessCtx) -> None:
    assert ctx.process == "worker-0"
    assert ctx.custom_data["model"] == os.environ["TINY_MODEL"]


@hook("on_after_engine_init", timeout_s=120)
async def after_engine_init(ctx: CallbackCtx) -> None:
    check_compilation(ctx.engine, os.environ["ACCELERATOR"])
    modules = len(sys.modules)
    # Greedy, so that no luck ends the answer early.
    answer = await ask(ctx, "Hi", max_tokens=2, temperature=0)
    ctx.custom_data["warm_up_tokens"] = answer.usage.completion_tokens
    assert isinstance(answer.choices[0].message.content, str)
    assert len(sys.modules) - modules < 100, "it imports nothing heavy"
    await check_refusals(ctx)


async def refusal(ctx: CallbackCtx, **fields: Any) -> EngineAnswerError | None:
    """Ask; return the error that is answered, if it is one."""
    try:
        await ask(ctx, "Hi", **fields)
    except EngineAnswerError as error:
        return error
    return None


async def check_refusals(ctx: CallbackCtx) -> None:
    """Ask for what the fake engine refuses: the real one refuses it in the same way."""
    too_long = await refusal(ctx, max_tokens=200)
    assert too_long is not None
    says = "max_tokens=200 cannot be greater than max_model_len=max_total_tokens=128."
    assert (too_long.code, says in str(too_long)) == (400, True), str(too_long)
    unknown = await refusal(ctx, model="another")
    assert unknown is not None
    assert (unknown.code, "The model `another` does not exist." in str(unknown)) == (404, True), str(unknown)
    refused = False
    try:
        async for _ in ctx.engine.chat({"model": ctx.model_id, "messages": [{"role": "user", "content": "Hi"}]}):
            pass
    except AttributeError:
        refused = True
    assert refused, "a dict was taken for a request"
    (embedding,) = [answer async for answer in ctx.engine.embeddings(None)]
    assert "does not support the 'embed' task" in embedding.error.message
    assert embedding.error.code == 400


def check_compilation(engine: Any, accelerator: str) -> None:
    """CUDA graphs and torch.compile are on on a GPU, and off on the CPU, in the engine's own final config."""
    client: Any = None
    for name in ("_engine_client", "engine_client"):  # Ray's engine keeps it to itself
        client = client or getattr(engine, name, None)
    config = getattr(client, "vllm_config", None)
    assert config is not None, f"no vllm_config is found on {engine!r}"
    compilation = config.compilation_config
    eager = config.model_config.enforce_eager
    graphs, mode = (getattr(value, "name", str(value)) for value in (compilation.cudagraph_mode, compilation.mode))
    seen = f"enforce_eager={eager}, cudagraph_mode={graphs}, mode={mode}"
    if accelerator == "gpu":
        assert not eager, seen
        assert graphs not in ("NONE", "None"), seen
        assert mode not in ("NONE", "None"), seen
        assert compilation.cudagraph_capture_sizes, seen
    else:
        assert eager, seen
        assert (graphs, mode) == ("NONE", "NONE"), seen


@hook("on_after_node_engine_init")
def after_node_engine_init(ctx: NodeCtx) -> None:
    assert ctx.custom_data["warm_up_tokens"] == 2  # the replica's, from a moment ago
    assert ctx.custom_data["config_is_there"]  # and the node's own


@hook("on_after_init")
def after_init(ctx: CallbackCtx) -> None:
    assert ctx.custom_data["warm_up_tokens"] == 2


@hook("on_failure")
def failure(ctx: CallbackCtx) -> None:
    raise AssertionError("nothing failed")


@hook("on_before_init", model_id=["another", "nobody/*"])
def of_another_model(ctx: CallbackCtx) -> None:
    raise AssertionError("not my model")
