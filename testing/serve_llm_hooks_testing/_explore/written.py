"""Write a schedule as code: a test that fails as long as the problem is there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..faults import (
    DownloadFault,
    EngineAnswersErrorFault,
    EngineFailsFault,
    HookFailsFault,
    LostNodeFault,
    MissingModuleFault,
    ReplicaDiesFault,
    UnschedulableFault,
    different_path,
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    replica_dies,
    slow_download,
    unschedulable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..faults import Fault
    from .schedule import Schedule

_MADE_BY: dict[type[Any], Callable[..., Fault]] = {
    EngineAnswersErrorFault: engine_answers_error,
    EngineFailsFault: engine_fails,
    HookFailsFault: hook_fails,
    LostNodeFault: lost_node,
    MissingModuleFault: missing_module,
    ReplicaDiesFault: replica_dies,
    UnschedulableFault: unschedulable,
}
_WIDTH = 100  # less than the usual limit, since reports are indented


def as_test(name: str, refs: Sequence[Any], model_id: str | None, schedule: Schedule, *, has_reset: bool) -> str:
    """Return a test of one schedule, to be pasted into a test suite.

    Args:
        name: what comes behind ``test_``.
        refs: the hooks, as they were given to ``explore_hooks``.
        model_id: the model; ``None`` where a config says it.
        schedule: the schedule.
        has_reset: whether it was given a ``reset``.
    """
    made = sorted({_call(fault)[0].__name__ for fault in schedule.faults})
    lines = [f"from serve_llm_hooks_testing import {', '.join(['Schedule', 'explore_hooks', *made])}"]
    arguments = [_code(str(ref) if isinstance(ref, Path) else ref) for ref in refs]
    given: list[str] = []
    if not all(isinstance(ref, str | Path | dict) for ref in refs):
        given, arguments = ["HOOKS = [...]"], ["*HOOKS"]
    if has_reset:
        given.append("RESET = ...")
    if given:
        lines += ["", *(f"{each}  # what explore_hooks was given" for each in given)]
    if model_id is not None:
        arguments.append(f"model_id={_code(model_id)}")
    if has_reset:
        arguments.append("reset=RESET")
    arguments.append(_schedule("schedule=Schedule(", schedule, 8))
    call = _laid_out("explore_hooks(", arguments, ")", 4)
    return "\n".join([*lines, "", "", f"def test_{name}():", f"    {call}", ""])


def written(schedule: Schedule) -> str:
    """Return a schedule as code."""
    return _schedule("Schedule(", schedule, 0)


def _schedule(head: str, schedule: Schedule, indent: int) -> str:
    given = {name: f"{name}={_code(value)}" for name, value in schedule.given().items() if name != "faults"}
    faults = [*map(written_fault, schedule.faults)]
    parts = [given.pop("nodes"), *([_laid_out("faults=[", faults, "]", indent + 4)] if faults else []), *given.values()]
    return _laid_out(head, parts, ")", indent)


def _laid_out(head: str, parts: Sequence[str], tail: str, indent: int) -> str:
    """Return code on one line, or with a line for each part where that would be too long."""
    line = f"{head}{', '.join(parts)}{tail}"
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    space = " " * (indent + 4)
    return "\n".join([head, *(f"{space}{part}," for part in parts), " " * indent + tail])


def written_fault(fault: Fault) -> str:
    """Return a fault as code.

    Example:
        >>> written_fault(failing_download("node-1", after_s=3))
        'failing_download("node-1", after_s=3)'
    """
    make, values = _call(fault)
    shown = []
    for name, parameter in inspect.signature(make).parameters.items():
        code = _code(values[name])
        if parameter.default is parameter.empty:
            shown.append(code)
        elif code != _code(parameter.default):
            shown.append(f"{name}={code}")
    return f"{make.__name__}({', '.join(shown)})"


def _call(fault: Fault) -> tuple[Callable[..., Fault], dict[str, Any]]:
    """Return the function that makes a fault, and its arguments by their names."""
    values = dict(vars(fault))
    if isinstance(fault, HookFailsFault):
        values["node"] = fault.node_id
    if not isinstance(fault, DownloadFault):
        return _MADE_BY[type(fault)], values
    if fault.path is not None:
        return different_path, values
    return slow_download if fault.error is None else failing_download, {**values, "after_s": fault.seconds}


def _code(value: object) -> str:
    """Return a value as code; an exception as its text, which the functions take too."""
    if isinstance(value, str):
        plain = repr(value)
        return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in plain else plain
    if isinstance(value, Exception):
        return _code(str(value))
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_code(key)}: {_code(each)}' for key, each in value.items())}}}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)
