"""Tell what a test has replaced in its own process, and other processes have not."""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from serve_llm_hooks._core.errors import ServeLLMHooksError
from serve_llm_hooks._core.messages import counted
from serve_llm_hooks._sources.select import hooks_of_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Names: TypeAlias = "dict[str, dict[str, str | None]]"
"""Of modules, what their names mean: the home of a function, class or module, and ``None`` for other values."""

_SHOWN = 6
_TOOLS = ("_pytest", "serve_llm_hooks_testing")
_IN_TEST = "replaced in the test's process (by monkeypatch.setattr?), and not in the others of the run"
_INSTRUMENTED = ("builtins", "sys", "warnings")  # in which tools replace much, by anything


def names_of_hooks(config: Any) -> Names:
    """Return the names in the modules of a config's hooks, and in those that these modules have imported."""
    try:
        hooks = hooks_of_config(config)
    except ServeLLMHooksError:  # the run will raise it
        return {}
    modules = {name for hook in hooks if (name := str(getattr(hook.fn, "__module__", ""))) not in ("", "__main__")}
    own = [module for name in sorted(modules) if isinstance(module := sys.modules.get(name), ModuleType)]
    imported = [value for module in own for value in vars(module).values() if isinstance(value, ModuleType)]
    return _names_in({module.__name__: module for module in (*own, *imported)}.values())


def replaced_elsewhere(names: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    """Return the names that mean something else here than where these were read: there, they were replaced."""
    here = _names_in(module for name in names if isinstance(module := sys.modules.get(name), ModuleType))
    return [
        f"{module}.{name}"
        for module, own in here.items()
        for name, home in own.items()
        if home is not None and _is_original(name, home) and names[module].get(name, home) != home
    ]


def is_of_replaced(note: str) -> bool:
    """Return whether a note is about such names."""
    return _IN_TEST in note


def note_of_replaced(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note about such names, if there are any."""
    found = sorted(names)
    if not found:
        return ()
    more = f" and {counted(len(found) - _SHOWN, 'other')}" if len(found) > _SHOWN else ""
    note = (
        f"{', '.join(found[:_SHOWN])}{more}: {_IN_TEST}. Replace it in a function, and give that to "
        "FakeCluster(setup=...); or leave processes= out"
    )
    return (note,)


def _is_original(name: str, home: str) -> bool:
    """Return whether a value is what its module's code has made it, and not what a ``setup`` has put there."""
    return ":" not in home or home.replace(":", ".").rpartition(".")[2] == name


def _names_in(modules: Iterable[ModuleType]) -> Names:
    names: Names = {}
    for module in modules:
        if module.__name__ not in _INSTRUMENTED:
            homes = {name: _home(value) for name, value in vars(module).items() if not name.startswith("__")}
            names[module.__name__] = {name: home for name, home in homes.items() if not _is_of_a_tool(home)}
    return names


def _is_of_a_tool(home: str | None) -> bool:
    """Return whether pytest or this package have replaced something, for as long as a test or a run goes on."""
    return home is not None and home.partition(":")[0].partition(".")[0] in _TOOLS


def _home(value: object) -> str | None:
    """Return where a function, class or module is at home; ``None`` for other values, which differ for many reasons."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return f"{value.__module__}:{value.__qualname__}"
    return None
