"""Phase callbacks: functions that are called at every phase of a start, each phase a hook."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .._core.errors import HookSignatureError
from .._core.hook import Hook
from .._core.options import HookOptions
from .._core.origin import path_of
from .._core.points import HOOK_POINTS, PHASES
from .._core.signature import bound_method, check_runs, misfit, written
from .._core.veto import InvalidResult, Skip
from .class_style import instance_of
from .import_path import load_callback
from .lists import checked_list
from .phase_data import PhaseData, merge

if TYPE_CHECKING:
    from .._core.context import CallbackCtx
    from .._core.lazy_instance import LazyInstance


class Callback(Protocol):
    """A phase callback: called at every phase of a start, in the replica; sync or async.

    Args:
        phase: the name of the phase.
        config: the deployment's config.
        data: a live view of ``ctx`` as a mapping.

    Returns:
        Keys to merge into ``data`` (``extra_init_kwargs`` key by key), or ``None``.

    Example:
        >>> def limit(phase, config, data):
        ...     if phase == "pre_engine_init":
        ...         return {"extra_init_kwargs": {"max_model_len": 4096}}
    """

    def __call__(
        self, phase: str, config: Any, data: MutableMapping[str, Any], /
    ) -> Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None:
        """Handle a phase."""
        ...


def hooks_of_phase_callbacks(callbacks: Iterable[Any] | None) -> list[Hook]:
    """Return the hooks of phase callbacks: each of them at every phase.

    Args:
        callbacks: functions, objects with ``__call__``, classes of such objects (made once, without arguments), and
            paths of any of these; ``None``: none.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: not a list. HookSignatureError: not called like that; a class that needs arguments.
    """
    return [
        Hook(partial(_call_phase, row.phase), HookOptions(row.name), instance=instance, phase=row.phase)
        for instance in phase_callbacks(callbacks)
        for row in HOOK_POINTS.values()
        if row.phase is not None
    ]


def _call_phase(phase: str, instance: LazyInstance, ctx: CallbackCtx) -> Any:
    """Call a phase callback, and merge its result."""
    data = PhaseData(ctx, phase)
    result = instance.get()(phase, ctx.llm_config, data)
    if isinstance(result, Awaitable):
        return _when_done(result, data, phase, instance)
    return _finish(result, data, phase, instance)


async def _when_done(result: Awaitable[Any], data: PhaseData, phase: str, instance: LazyInstance) -> object:
    return _finish(await result, data, phase, instance)


def _finish(result: object, data: PhaseData, phase: str, instance: LazyInstance) -> Skip | InvalidResult | None:
    problem = merge(data, result)
    if problem is not None:
        return InvalidResult(problem)
    skips = data.finish()
    return Skip(f"{instance.path.partition(':')[2]} set skip_default") if skips and phase == PHASES[0] else None


def phase_callbacks(callbacks: Iterable[Any] | None, *, once: bool = True) -> list[LazyInstance]:
    """Return phase callbacks, loaded and checked.

    Args:
        callbacks: as for :func:`hooks_of_phase_callbacks`.
        once: leave out what has been named before.

    Raises:
        ValueError, ImportError, AttributeError, TypeError, HookLoadError: as :func:`hooks_of_phase_callbacks`.
    """
    loaded: list[Any] = []
    for given in checked_list(callbacks) or ():
        callback = load_callback(given)
        if not once or not any(callback is other for other in loaded):
            _check_signature(callback)
            loaded.append(callback)
    return [instance_of(callback, {}, option="the arguments") for callback in loaded]


def _check_signature(callback: Any) -> None:
    wanted = "a phase callback is `def callback(phase, config, data)`"
    call = callback
    if isinstance(callback, type):
        if not any("__call__" in vars(base) for base in callback.__mro__):
            raise HookSignatureError(
                f"{path_of(callback)} in callbacks=[...] is a class whose objects cannot be called; {wanted}, or a "
                "class with such a `__call__`. A class with methods `on_...` goes into callback=..."
            )
        call = bound_method(callback, "__call__")
    check_runs(call, f"{path_of(callback)} in callbacks=[...]", "a later phase")
    found = misfit(call, "phase", "config", {})
    if found is not None:
        signature, why = found
        raise HookSignatureError(
            f"{path_of(callback)}{written(signature)} in callbacks=[...] does not fit ({why}); {wanted}"
        )
