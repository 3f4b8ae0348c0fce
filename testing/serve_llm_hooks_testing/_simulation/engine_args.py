"""The engine's arguments: which there are, what Ray makes of them when it starts its engine, and what it refuses."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# With these load formats vLLM streams the weights from the bucket, and Ray downloads none.
STREAMING = ("runai_streamer", "runai_streamer_sharded", "tensorizer")


@cache
def _listed() -> dict[str, Any]:
    """Return what `scripts/engine_args.py` has written."""
    path = Path(__file__).parent.with_name("engine_args.json")
    listed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return listed


@cache
def argument_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the engine's arguments, and of those of its OpenAI frontend."""
    return frozenset(_listed()["engine"]), frozenset(_listed()["frontend"])


def check_config_kwargs(kwargs: Mapping[str, Any], more: Collection[str]) -> None:
    """Check the config's ``engine_kwargs``, as Ray does before any hook runs.

    Raises:
        ValueError: an engine argument that vLLM does not know, in Ray's words.
    """
    if kwargs:
        known = frozenset.union(*argument_names(), more)
        for key in kwargs:
            if key not in known:
                raise ValueError(f"Unknown engine argument: {key}")


def check_engine_kwargs(kwargs: Mapping[str, Any], *, on_cpu: bool) -> None:
    """Check the engine's arguments, as Ray does when it starts its engine.

    Raises:
        RuntimeError: one that Ray or vLLM refuses, in their words.
    """
    problem = _problem(kwargs, on_cpu)
    if problem:
        raise RuntimeError(f"Failed to create vLLM engine config: {problem}")


def _problem(kwargs: Mapping[str, Any], on_cpu: bool) -> str:
    if "model" in kwargs or "served_model_name" in kwargs:
        return (
            "model or served_model_name is not allowed in engine_kwargs when using Ray Serve LLM. Please use "
            "`model_loading_config` in LLMConfig instead."
        )
    if not on_cpu and kwargs.get("distributed_executor_backend", "ray") != "ray":
        return "distributed_executor_backend != 'ray' is not allowed in engine_kwargs when using Ray Serve LLM Configs."
    for name, (config, fields) in _listed()["configs"].items():
        given = kwargs.get(name)
        unknown = [key for key in given if key not in fields] if isinstance(given, dict) else ()
        if unknown:
            errors = f"{len(unknown)} validation error{'' if len(unknown) == 1 else 's'}"
            lines = "".join(f"\n{key}\n  Unexpected keyword argument" for key in unknown)
            return f"Invalid vLLM config for {name!r}: {errors} for {config}{lines}"
    return ""


def model_path(
    kwargs: Mapping[str, Any], mirror: Mapping[str, Any] | None, path: str | None, source_id: str, *, path_by_hook: bool
) -> str:
    """Return the path that vLLM is given.

    Args:
        kwargs: the engine's arguments.
        mirror: the model's bucket, if it has one.
        path: what hooks and downloads have made of ``ctx.model_path``.
        source_id: the model's Hugging Face id or folder.
        path_by_hook: whether the path is a hook's own.
    """
    bucket = (mirror or {}).get("bucket_uri")
    if bucket and kwargs.get("load_format") in STREAMING and not path_by_hook:
        return str(bucket)
    return path or source_id
