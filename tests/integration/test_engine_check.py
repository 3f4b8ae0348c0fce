"""The engine's arguments by Ray's and vLLM's own code, and the fake engine beside Ray's. Needs both, and no cluster."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks_testing import FakeCluster, FakeEngine, FakeLLMConfig, FakeRun, check_hooks
from serve_llm_hooks_testing.engine import RAYS_METHODS
from tests.conftest import require_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    require_engine()


def started(**kwargs: Any) -> FakeRun:
    """A start whose arguments Ray and vLLM check."""
    from serve_llm_hooks.ray import check_engine_args

    on = kwargs.pop("on", "gpu")
    config = FakeLLMConfig("llama", [], engine_kwargs=kwargs, accelerator_config={"kind": on})
    return FakeCluster(engine_check=check_engine_args).run(config, check=False)


@pytest.mark.parametrize(("on", "backend"), [("gpu", "ray"), ("cpu", "mp")])
def test_all_that_vllm_is_given(on: str, backend: str) -> None:
    run = started(on=on, max_model_len=128, chat_template="...")
    assert run.error is None
    assert run.engine is not None
    assert run.engine.vllm_kwargs == {
        "max_model_len": 128,
        "model": "/models/llama",
        "served_model_name": ["llama"],
        "distributed_executor_backend": backend,
        "enable_log_requests": False,
    }


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"compilation_config": {"mode": "fast"}}, "Invalid compilation mode: fast"),
        ({"compilation_config": {"splitting_ops": "x"}}, "should be a valid list"),
        ({"kv_transfer_config": {"kv_role": "both"}}, "kv_role"),
    ],
)
def test_values_that_vllm_refuses(kwargs: dict[str, Any], says: str) -> None:
    run = started(**kwargs)
    assert type(run.error) is RuntimeError
    assert str(run.error).startswith("Failed to create vLLM engine config: Invalid vLLM config for ")
    assert says in str(run.error)
    assert run.engine is None


def test_a_real_config_too() -> None:
    from serve_llm_hooks.ray import LLMConfig, check_engine_args

    config = LLMConfig(model_id="llama", hooks=[], accelerator_config={"kind": "cpu"}, engine_kwargs={"seed": 7})
    run = FakeCluster(engine_check=check_engine_args).run(config)
    assert run.engine is not None
    assert run.engine.vllm_kwargs is not None
    assert run.engine.vllm_kwargs["model"] == "llama"
    assert run.engine.vllm_kwargs["seed"] == 7


def test_the_fake_engine_has_only_what_rays_has() -> None:
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

    for name in RAYS_METHODS:
        fake, rays = getattr(FakeEngine, name), getattr(VLLMEngine, name)
        assert list(inspect.signature(fake).parameters) == list(inspect.signature(rays).parameters), name
        assert inspect.isasyncgenfunction(fake) is inspect.isasyncgenfunction(rays), name
        assert inspect.iscoroutinefunction(fake) is inspect.iscoroutinefunction(rays), name


@pytest.mark.parametrize("strategy", ["PACK", "STRICT_SPREAD"])
def test_a_real_configs_bundles_are_placed(strategy: str) -> None:
    from serve_llm_hooks.ray import LLMConfig

    group = {"bundle_per_worker": {"CPU": 1, "GPU": 1}, "strategy": strategy}
    config = LLMConfig(
        model_id="llama", hooks=[], placement_group_config=group, engine_kwargs={"tensor_parallel_size": 2}
    )
    output = FakeCluster(nodes=[{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}]).run(config).output
    assert output is not None
    assert output.placement_group.node_ids == ("node-0", "node-0" if strategy == "PACK" else "node-1")
    # As Ray's own builder has it: the replica's CPU is in the first bundle.
    server: Any = import_module("ray.llm._internal.serve.core.server.llm_server")
    own = {"CPU": 1, "GPU": 0}
    made = server._merge_replica_actor_and_child_actor_bundles(config.get_engine_config().placement_bundles, own)
    rays = [{name: float(amount) for name, amount in bundle.items() if amount} for bundle in made]
    assert output.placement_group.bundle_specs == rays


def test_a_real_config_is_checked_with_what_it_names(hooks_module: str) -> None:
    from serve_llm_hooks.ray import LLMConfig

    def config(bucket: object) -> Any:
        return LLMConfig(
            model_id="llama",
            hooks=[{"hook": f"{hooks_module}:fetch", "kwargs": {"bucket": bucket}}],
            placement_group_config={"bundles": [{"CPU": 1}] * 2, "strategy": "STRICT_SPREAD"},
        )

    good = config("s3://b")
    assert check_hooks(good).problems == []
    assert good.placement_group_config is not None
    with pytest.raises(AssertionError, match="AttributeError: 'int' object"):
        check_hooks(config(7))


@pytest.fixture
def hooks_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with a hook that takes a parameter."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checked_with_ray.py").write_text(
        "from serve_llm_hooks import HookRegistry\nhook = HookRegistry().hook\n\n"
        "@hook('on_before_node_download')\ndef fetch(ctx, *, bucket): ctx.custom_data['b'] = bucket.upper()\n"
    )
    yield "checked_with_ray"
    sys.modules.pop("checked_with_ray", None)
