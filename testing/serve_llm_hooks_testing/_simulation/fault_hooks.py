"""Faults that happen where hooks run, as hooks and packed hooks that go to the replica or a node with the others."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS, Hook, HookRegistry
from serve_llm_hooks._core.called import is_called
from serve_llm_hooks._core.event import path_in
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._node.by_value import dumps
from serve_llm_hooks._node.packing import pack_hooks

from ..asserts import resolve_hook
from .fault_kinds import EngineProcessDiesFault, HookFailsFault
from .process import die

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from serve_llm_hooks import HookName
    from serve_llm_hooks._node.task import PackedHook

    from ..run import FakeRun
    from .fault_kinds import Fault, NodeProcessDiesFault

# After every hook of a point, whatever order= it has.
_LAST = 2**63


def death_hook(point: HookName) -> Hook:
    """Return a hook that kills its process. It leaves no line in the trace, since its call does not end."""
    return Hook(die, HookOptions(point, order=_LAST), {"point": point})


def packed_death_hook(point: HookName) -> PackedHook:
    """Return the same hook, packed for a node."""
    (packed,) = pack_hooks([death_hook(point)])
    return packed


def without_module(hook: PackedHook, module: str) -> PackedHook:
    """Return a packed hook as it is where a module is missing: if it needs the module, it cannot be unpacked."""
    home = hook.ref.partition(":")[0]
    if home != module and not home.startswith(f"{module}."):
        return hook
    return hook._replace(data=pickle.dumps(_MissingModule(home)))


class _MissingModule:
    """An object that cannot be unpickled, as if its module could not be imported."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return (_raise_missing, (self.module,))


def _raise_missing(module: str) -> None:
    raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def failing_paths(faults: Iterable[Fault], run: FakeRun) -> dict[str, list[HookFailsFault]]:
    """Return the paths of the hooks that faults make fail, with these faults.

    Raises:
        HarnessError: a fault names a hook that the run does not know, or not at the point of the fault.
    """
    named = [fault for fault in faults if isinstance(fault, HookFailsFault | EngineProcessDiesFault)]
    known = [*run.hooks, *run.known_hooks()] if named else []
    paths: dict[str, list[HookFailsFault]] = {}
    for fault in named:
        if isinstance(fault, HookFailsFault):
            paths.setdefault(resolve_hook(fault.hook, known), []).append(fault)
        elif fault.hook is not None:
            resolve_hook(fault.hook, [hook for hook in known if HOOK_POINTS[hook.point].in_process])
    return paths


def with_failing(hooks: HookRegistry, paths: dict[str, list[HookFailsFault]], node_id: str) -> HookRegistry:
    """Return the hooks of a replica, with those of its own failing that faults name."""

    def with_fault(hook: Hook) -> Hook:
        row = HOOK_POINTS[hook.point]
        fault = None if row.on_node else _fault_of(hook.ref, paths, node_id)
        if fault is not None and row.in_process and fault.node_id is not None:
            return hook  # those of that node's processes are packed, and get it there
        return hook if fault is None else failing(hook, fault.error)

    return HookRegistry(map(with_fault, hooks)) if paths else hooks


def with_failing_packed(hook: PackedHook, paths: dict[str, list[HookFailsFault]], node_id: str) -> PackedHook:
    """Return a packed hook; one that fails if a fault names it on this node."""
    fault = _fault_of(hook.ref, paths, node_id)
    return hook if fault is None else hook._replace(data=dumps(_FailingHook(hook.data, fault.error)))


def with_death_packed(hook: PackedHook, faults: Iterable[NodeProcessDiesFault]) -> PackedHook:
    """Return a packed hook; one that kills its process if a fault names it."""
    if not any(is_called(path_in(hook.ref), fault.hook) for fault in faults):
        return hook
    return hook._replace(data=dumps(_DyingHook(hook.data)))


def have_failed(paths: dict[str, list[HookFailsFault]], run: FakeRun) -> Iterator[HookFailsFault]:
    """Yield the faults whose hook has failed in a start."""
    for event in run.trace if paths else ():
        fault = _fault_of(event.hook, paths, event.node_id)
        if fault is not None and event.outcome in ("failed", "warned"):
            yield fault


def faults_at_shutdown(paths: dict[str, list[HookFailsFault]], run: FakeRun) -> list[HookFailsFault]:
    """Return the faults of hooks that run when the replica stops."""
    stopping = {hook.path for hook in run.hooks if hook.point == "on_shutdown"}
    return [fault for path, faults in paths.items() if path in stopping for fault in faults]


def _fault_of(ref: str, paths: dict[str, list[HookFailsFault]], node_id: str) -> HookFailsFault | None:
    faults = paths.get(path_in(ref), ())
    return next((fault for fault in faults if fault.node_id in (None, node_id)), None)


def failing(hook: Hook, error: Exception) -> Hook:
    """Return a hook that is known by the same names, and raises an error instead of doing its work."""
    return _instead_of(hook, partial(_fail, error))


def _instead_of(hook: Hook, does: Callable[[Any], Any]) -> Hook:
    """Return a hook that is known by the same names, and does something else."""
    if hook.instance is not None:
        about: dict[str, Any] = {"instance": hook.instance, "method": hook.method, "phase": hook.phase}
        return Hook(partial(_without_instance, does), hook.options, hook.kwargs, **about)

    def replacement(ctx: object, **kwargs: object) -> Any:
        return does(ctx)

    replacement.__module__, _, replacement.__qualname__ = hook.path.partition(":")
    replacement.__name__ = hook.name
    replacement.__dict__["__wrapped__"] = hook.fn
    # Without a `yield`, `until` would make it a hook of the background.
    options = hook.options._replace(until=None) if hook.is_span else hook.options
    return Hook(replacement, options, hook.kwargs, number=hook.number)


def _without_instance(does: Callable[[Any], Any], instance: object, ctx: object) -> Any:
    return does(ctx)


def _fail(error: Exception, ctx: object) -> None:
    raise error


class _FailingHook:
    """A packed hook that fails once it is unpacked."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self.packed = data, error

    def __reduce__(self) -> tuple[Any, ...]:
        return (_load_failing, self.packed)


class _DyingHook:
    """A packed hook in which its process dies, once it is unpacked."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return (_load_dying, (self.data,))


def _load_dying(data: bytes) -> Hook:
    hook: Hook = pickle.loads(data)
    return _instead_of(hook, partial(die, point=hook.point))


def _load_failing(data: bytes, error: Exception) -> Hook:
    return failing(pickle.loads(data), error)
