"""LoRA adapters of a fake cluster: a config's ``lora_config``, checked as Ray checks it, and loading one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.messages import describe, without_value

from .model_source import is_remote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..engine import FakeEngine


@dataclass
class FakeLoraConfig:
    """A config's ``lora_config``: where adapters are, and how they are downloaded. As Ray's ``LoraConfig``."""

    dynamic_lora_loading_path: str | None = None
    max_num_adapters_per_replica: int = 16
    download_timeout_s: float | None = 30
    max_download_tries: int = 3


def lora_config_of(given: object) -> FakeLoraConfig | None:
    """Return the field ``lora_config`` of a config.

    Raises:
        ValueError: what Ray would refuse.
    """
    if given is None or isinstance(given, FakeLoraConfig):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            f"lora_config= is a mapping, as in {{'dynamic_lora_loading_path': 's3://…'}}, not {without_value(given)}"
        )
    try:
        config = FakeLoraConfig(**given)
    except TypeError as error:
        raise ValueError(f"Invalid lora_config: {error}") from error
    path: object = config.dynamic_lora_loading_path  # out of YAML, where anything may stand
    most: object = config.max_num_adapters_per_replica
    if path is not None and not (isinstance(path, str) and is_remote(path)):
        raise ValueError(f"Invalid lora_config: dynamic_lora_loading_path is a bucket, not {describe(path)}")
    if type(most) is not int or most < 1:
        raise ValueError(f"Invalid lora_config: max_num_adapters_per_replica is 1 or more, not {describe(most)}")
    return config


def loader_of(engine: FakeEngine, llm_config: Any) -> Callable[[str], Awaitable[None]]:
    """Return what loads an adapter into an engine."""
    return partial(_load, engine, llm_config)


async def _load(engine: FakeEngine, llm_config: Any, adapter: str) -> None:
    if getattr(llm_config, "lora_config", None) is None:
        raise ValueError("LoRA config is not set in the LLMConfig")
    if not engine.kwargs.get("enable_lora"):
        raise ValueError("Failed to load lora model: the engine was started without enable_lora")
    name = f"{engine.model_id}:{adapter}"
    if name not in engine.loras:
        engine.loras.append(name)
