"""A stand-in for what hooks use of vLLM in the engine's processes, where vLLM is not installed."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_users = 0


@contextmanager
def stand_in_for_vllm() -> Iterator[None]:
    """Let ``from vllm import ModelRegistry`` do in the ``with`` block, where there is no vLLM."""
    global _users
    with _lock:
        if _users == 0 and "vllm" not in sys.modules and find_spec("vllm") is None:
            sys.modules["vllm"] = _module()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and isinstance(sys.modules.get("vllm"), _StandIn):
                del sys.modules["vllm"]


class _StandIn(ModuleType):
    """A module ``vllm`` that is none."""


class _ModelRegistry:
    """Takes what it is given, and checks no more than its kind."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    def register_model(self, model_arch: str, model_cls: type | str) -> None:
        """Register an architecture, as vLLM's does.

        Raises:
            TypeError: its name is no text.
            ValueError: the class is named, and not as ``"module:Class"``.
        """
        if not isinstance(model_arch, str):
            raise TypeError(f"`model_arch` should be a string, not a {type(model_arch)}")
        if isinstance(model_cls, str) and len(model_cls.split(":")) != 2:
            raise ValueError("Expected a string in the format `<module>:<class>`")
        self._models[model_arch] = model_cls

    def get_supported_archs(self) -> list[str]:
        """Return the names of what is registered."""
        return list(self._models)


def _module() -> ModuleType:
    module = _StandIn("vllm", "A stand-in, with what hooks at on_engine_process_start use of vLLM.")
    module.__dict__["ModelRegistry"] = _ModelRegistry()
    return module
