"""Modules of hooks that another process cannot import: they travel by value."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

import cloudpickle
from cloudpickle.cloudpickle import list_registry_pickle_by_value

from serve_llm_hooks._core.errors import ServeLLMHooksError
from serve_llm_hooks._node.by_value import dumps
from serve_llm_hooks._sources.select import hooks_of_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


@contextmanager
def modules_by_value(config: Any) -> Iterator[None]:
    """Let the functions of a config's hooks travel by value, where no other process has their module.

    So it is with a ``conftest.py``, and with tests that pytest imports with ``--import-mode=importlib``. On Ray such a
    hook does not get to a node; in a test it is common, and not what the test is about.
    """
    with ExitStack() as stack:
        for module in _only_here(config):
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def dumps_function(function: Callable[..., object]) -> bytes:
    """Return a function pickled so that another process can call it."""
    own = getattr(function, "func", function)  # of a partial
    name = getattr(own, "__module__", None) or ""
    module = sys.modules.get(name)
    with ExitStack() as stack:
        if module is not None and name != "__main__" and _must_travel(module):
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        return dumps(function)


def _only_here(config: Any) -> list[ModuleType]:
    try:
        hooks = hooks_of_config(config)
    except ServeLLMHooksError:  # the run will raise it
        return []
    names = dict.fromkeys(str(getattr(hook.fn, "__module__", "")) for hook in hooks)
    modules = [sys.modules[name] for name in names if name in sys.modules and name != "__main__"]
    return [module for module in modules if _must_travel(module)]


def _must_travel(module: ModuleType) -> bool:
    return module.__name__ not in list_registry_pickle_by_value() and not _is_importable(module)


def _is_importable(module: ModuleType) -> bool:
    """Return whether another process with this one's ``sys.path`` would import this very file by this name."""
    path = None
    name = ""
    spec = None
    for part in module.__name__.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return False
        path = list(spec.submodule_search_locations or ())
    file = getattr(module, "__file__", None)
    return file is None or (spec is not None and spec.origin == file)
