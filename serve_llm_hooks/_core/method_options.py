"""``hook_options``: the options of ``@hook`` for a method that is named after its hook point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from .hook import Hook
from .options import HookOptions, checked_options, unknown_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .points import HookName, Role

    MethodT = TypeVar("MethodT", bound=Callable[..., Any])

    from .options import NodeOptionKeywords

    class MethodOptionKeywords(NodeOptionKeywords, total=False):
        """The keywords of ``hook_options()``: those of ``hook()``."""

        roles: Role | Iterable[Role]


_OPTIONS = "__serve_llm_hooks_options__"  # the attribute of a method that holds its HookOptions


def hook_options(**options: Unpack[MethodOptionKeywords]) -> Callable[[MethodT], MethodT]:
    """Give a method of a callback class options; which point it is for, its name says.

    Args:
        **options: those of :func:`serve_llm_hooks.hook`.

    Raises:
        UnknownHookError: the method's name is no hook point.
        TypeError, ValueError: as :func:`serve_llm_hooks.hook`.

    Example:
        >>> class Registered:
        ...     @hook_options(timeout_s=10, on_error="warn")
        ...     def on_after_init(self, ctx): ...
    """
    for name in options:
        if name != "model_id" and name not in HookOptions._fields[2:]:
            raise unknown_option(name, "@hook_options")
    given: dict[str, Any] = dict(options)
    model_id, order = given.pop("model_id", None), given.pop("order", 0)
    before, after = given.pop("before", ()), given.pop("after", ())
    timeout_s, on_error = given.pop("timeout_s", None), given.pop("on_error", None)

    def decorate(method: MethodT) -> MethodT:
        function = getattr(method, "__func__", method)  # of a static or a class method
        checked = checked_options(function.__name__, model_id, order, before, after, timeout_s, on_error, **given)
        if checked.until is not None:
            from .until import check_until

            check_until(Hook(function, checked))
        if checked.once_per_node and Hook(function, checked).is_span:
            from .once import span_error

            raise span_error(f"{function.__qualname__} at {checked.point}")
        setattr(function, _OPTIONS, checked)
        return method

    return decorate


def options_of(method: Any, point: HookName) -> HookOptions:
    """Return the options of a method at a point: those that it was given, or none."""
    found = getattr(method, _OPTIONS, None)
    return found if isinstance(found, HookOptions) and found.point == point else HookOptions(point)
