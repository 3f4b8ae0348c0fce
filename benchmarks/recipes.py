"""Measure what ready-made hooks gain: whole starts without and with each, in turn, each on a Ray of its own.

Run as a program, `python -m benchmarks.recipes '{"model": …, "hooks": […]}'` is one such start.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parents[1]
RECIPES = "serve_llm_hooks.recipes"
SAMPLED = {"max_tokens": 4, "temperature": 0.8, "top_p": 0.9, "top_k": 20}
STEADY = 7
ADAPTER = "m"  # as `benchmarks.slow_s3` names the folder that it serves


def start(
    model: str,
    hooks: list[Any],
    engine_kwargs: dict[str, Any],
    env_vars: dict[str, str],
    requests: Sequence[dict[str, Any]] = (),
    lora_config: dict[str, Any] | None = None,
    *,
    drop: bool = False,
) -> dict[str, Any]:
    """Start once, and ask; return the seconds of the start's steps, and of each request."""
    import ray
    from ray import serve

    rooms = import_module("serve_llm_hooks.ray")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
    )
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        config = rooms.LLMConfig(
            model_loading_config={"model_id": "tried", "model_source": model},
            accelerator_config={"kind": "cpu"},
            engine_kwargs={"max_model_len": 256, "dtype": "bfloat16", "max_num_seqs": 2, **engine_kwargs},
            lora_config=lora_config,
            log_engine_metrics=False,
            runtime_env={"env_vars": {"VLLM_CPU_KVCACHE_SPACE": "1", **env_vars}},
            deployment_config={"max_constructor_retry_count": 1},
            hooks=hooks,
        )
        if drop:
            for file in Path(model).glob("*.safetensors"):
                drop_from_page_cache(file)
        serve.run(rooms.build_openai_app({"llm_configs": [config]}), name="tried", route_prefix="/")
        took_s = [_ask(port, fields) for fields in requests]
        trace = serve.get_deployment_handle("LLMServer:tried", "tried").hook_trace.remote().result(timeout_s=300)
        return {"steps": {step.name: step.end_s - step.start_s for step in trace.steps}, "requests_s": took_s}
    finally:
        serve.shutdown()
        ray.shutdown()


def _ask(port: int, fields: dict[str, Any]) -> float:
    body = {"model": "tried", "messages": [{"role": "user", "content": "Hello"}], **SAMPLED, **fields}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    begun_s = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as response:
        json.load(response)
    return time.perf_counter() - begun_s


def drop_from_page_cache(file: Path) -> None:
    """Have the next read of a file come from its disk.

    Raises:
        RuntimeError: this system keeps it in memory all the same, so nothing could be measured.
    """
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = _in_memory(opened.fileno())
    if left > 0.02:
        raise RuntimeError(f"{left:.0%} of {file.name} stay in the page cache")


def _in_memory(descriptor: int) -> float:
    """Return the share of a file that is in the page cache."""
    size = os.fstat(descriptor).st_size
    pages = -(-size // mmap.PAGESIZE)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as mapped:
        found = (ctypes.c_ubyte * pages)()
        start_of = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(start_of)), ctypes.c_size_t(size), found
        )
        del start_of
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(each & 1 for each in found) / pages


def warm_up_and_adapters(one: Any, served: Any, folder: Path) -> dict[str, dict[str, float]]:
    """Return what the first requests take, after a start with nothing compiled and no adapter on the disk."""
    models = import_module("tests.engine_models")
    model = str(models.make_tiny_llama(folder / "tiny"))
    adapter = models.make_adapter(folder / "adapter")
    sampled: dict[str, Any] = {}
    requests = [
        {"temperature": 0},  # for what no hook reaches (proxy, ingress, handle); it helps no sampled one
        *[sampled] * STEADY,
        *[{"logprobs": True, "top_logprobs": 1}] * 2,
        *[{"model": f"tried:{ADAPTER}"}] * 2,
    ]
    found = {}
    for side, hooks in (("without", []), ("with", [f"{RECIPES}:WarmUp", _hook("PreloadLoRA", adapters=[ADAPTER])])):
        with served(adapter, 1e9) as url:
            took = one(
                model=model,
                hooks=hooks,
                engine_kwargs={"enforce_eager": True, "enable_lora": True, "max_lora_rank": 8},
                env_vars={
                    "TORCHINDUCTOR_CACHE_DIR": str(folder / f"inductor-{side}"),
                    "AWS_ENDPOINT_URL_S3": url,
                    "AWS_ACCESS_KEY_ID": "bench",
                    "AWS_SECRET_ACCESS_KEY": "bench",
                    "AWS_DEFAULT_REGION": "us-east-1",
                },
                lora_config={"dynamic_lora_loading_path": "s3://models"},
                requests=requests,
            )["requests_s"]
        names = ("first", "second logprobs", "first logprobs", "first with an adapter", "second with it")
        through, *took = took
        rest = took[STEADY:]
        values = (took[0], rest[1], rest[0], rest[2], rest[3])
        found[side] = {"first of all, greedy": through, "steady": median(took[1:STEADY])}
        found[side] |= dict(zip(names, values, strict=True))
    return found


def compile_cache(one: Any, folder: Path) -> dict[str, dict[str, float]]:
    """Return the steps of a start that compiles, and of one that has only what the first has saved."""
    model = str(import_module("examples.demo_model").ensure_smollm2(lambda text: None))
    found = {}
    for side in ("cold", "restored"):
        dest = folder / "compile-cache"
        shutil.rmtree(dest, ignore_errors=True)
        hooks = [_hook("CompileCache", uri=str(folder / "store"), dest=str(dest))]
        found[side] = one(model=model, hooks=hooks, engine_kwargs={}, env_vars={})["steps"]
    return found


def prefetch_weights(one: Any, folder: Path) -> dict[str, float]:
    """Return the seconds of "Loading weights" from a page cache that has none of them, without and with the recipe."""
    model = str(_large_llama(folder / "large"))
    found = {}
    for side, hooks in (("without", []), ("with", [_hook("PrefetchWeights", path=model)])):
        took = one(model=model, hooks=hooks, engine_kwargs={"enforce_eager": True}, env_vars={}, drop=True)
        found[side] = took["steps"]["load weights"]
    return found


def _large_llama(folder: Path) -> Path:
    """Write a random Llama of 1.3 GB, with the tokenizer of the tiny one."""
    torch = import_module("torch")
    transformers = import_module("transformers")
    import_module("tests.engine_models").make_tiny_llama(folder)
    config = transformers.LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 12})
    config.update({"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 64})
    torch.set_default_dtype(torch.bfloat16)
    try:
        transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="400MB")
    finally:
        torch.set_default_dtype(torch.float32)
    (folder / "model.safetensors").unlink(missing_ok=True)  # the tiny one's
    return folder


def _hook(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"hook": f"{RECIPES}:{name}", "kwargs": kwargs}


def measure(program: Any, served: Any, *, quick: bool) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Measure all recipes that have a key; yield the keys and the samples of each as they come."""

    def one(**spec: Any) -> Any:
        return program("benchmarks.recipes", json.dumps(spec))

    fetched = program("benchmarks.fetch_files", "--times", "1" if quick else "3")
    yield {f"recipe_fetch_{name}": took["fetch"] / took["ray"] for name, took in fetched.items()}, {"fetch": fetched}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = warm_up_and_adapters(one, served, folder)
        warm = asked["with"]
        keys = {
            "recipe_warm_up_s": warm["first"] - warm["steady"],
            "recipe_warm_up_logprobs_s": warm["first logprobs"] - warm["second logprobs"],
            "recipe_preload_lora_s": warm["first with an adapter"] - warm["second with it"],
        }
        yield keys, {"requests": asked}
        steps = compile_cache(one, folder)
        yield {"recipe_compile_cache": steps["restored"]["start"] / steps["cold"]["start"]}, {"compile": steps}
        loading = prefetch_weights(one, folder)
        yield {"recipe_prefetch_weights": loading["with"] / loading["without"]}, {"load weights": loading}


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    print("SAMPLES " + json.dumps(start(**json.loads(sys.argv[1]))))
