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
    """Let ``from vllm import ModelRegistry`` and its like do in the ``with`` block, where there is no vLLM."""
    global _users
    with _lock:
        if _users == 0 and "vllm" not in sys.modules and find_spec("vllm") is None:
            sys.modules.update(_modules())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
                    del sys.modules[name]


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


def _parsers(kind: str) -> dict[str, Any]:
    """Return the base of the parsers of a kind, ``"ToolParser"`` or ``"ReasoningParser"``, and their manager."""
    base = type(kind, (), {})
    registered: dict[str, type] = {}

    class Manager:
        """Takes what it is given, and checks no more than its kind."""

        @classmethod
        def register_module(cls, name: str, force: bool = True, module: type | None = None) -> Any:
            """Register a parser, as vLLM's does; without ``module``, the class below, which it decorates."""
            if module is None:
                return lambda decorated: cls.register_module(name, force, decorated)
            if not issubclass(module, base):
                raise TypeError(f"module must be subclass of {kind}, but got {type(module)}")
            registered[name] = module
            return module

        @classmethod
        def list_registered(cls) -> list[str]:
            """Return the names of what is registered."""
            return sorted(registered)

    return {kind: base, f"{kind}Manager": Manager}


def _modules() -> dict[str, ModuleType]:
    """Return the modules, by their names."""
    contents = {
        "vllm": {"ModelRegistry": _ModelRegistry(), "__path__": []},
        "vllm.tool_parsers": _parsers("ToolParser"),
        "vllm.reasoning": _parsers("ReasoningParser"),
    }
    modules: dict[str, ModuleType] = {}
    for name, content in contents.items():
        modules[name] = _StandIn(name, "A stand-in, with what hooks at on_engine_process_start use of vLLM.")
        vars(modules[name]).update(content)
    vars(modules["vllm"]).update({name.partition(".")[2]: each for name, each in modules.items() if "." in name})
    return modules
