"""Callbacks as classes: a method named after a hook point becomes a hook."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from .._core.errors import HookLoadError, HookSignatureError, UnknownHookError, reraise_if_not_a_failure
from .._core.hook import Hook
from .._core.lazy_instance import LazyInstance
from .._core.messages import describe, did_you_mean, kind_of, masked, readable, without_value
from .._core.method_options import options_of
from .._core.origin import path_of
from .._core.points import HOOK_NAMES, HOOK_POINTS, HookName
from .._core.signature import attribute_of_user, bound_method, check_is_sync, check_span, misfit, written
from .config_checks import METHOD, check_method, reason_of_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from .._core.context import CallbackCtx, NodeCtx
    from .._core.process_context import EngineProcessCtx
    from .._core.veto import Skip

    _Veto: TypeAlias = bool | Skip | None
    _Vetoes: TypeAlias = _Veto | Awaitable[_Veto] | Iterator[_Veto] | AsyncIterator[_Veto]
    _Nothing: TypeAlias = Awaitable[None] | Iterator[None] | AsyncIterator[None] | None
    _AtTheEnd: TypeAlias = Awaitable[None] | None


class RayServeLLMCallback:
    """A callback as a class: override the hook points that you need, sync or async.

    Inheriting is optional (a class with some of the methods does as well) and buys two things: a type checker sees
    each method, and a misspelt one is an error where the class is written.

    One instance is made per process and start: attributes set on ``self`` in the replica are there at every later
    point in the replica, and not on a node. Data for a node goes into ``ctx.custom_data``.

    Attributes:
        checks_arguments: set it to ``True`` in a class whose constructor does nothing but check and keep its
            arguments. It is then called where the config is made too, so that a wrong argument is told there, and
            so is :meth:`check_config`.

    Raises:
        UnknownHookError: a method ``on_...`` that is no hook point.
        HookSignatureError: a method that does not take ``ctx``; ``check_config`` without ``checks_arguments = True``.

    Example:
        >>> class Tokenizer(RayServeLLMCallback):
        ...     def on_before_download(self, ctx):
        ...         ctx.worker_node_download_model = "TOKENIZER_ONLY"
    """

    checks_arguments: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_methods(cls, path_of(cls))
        if _overrides(cls, METHOD):
            check_method(cls, path_of(cls))

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Raise where the config is made if these hooks cannot work with it, or beside others: say what to change.

        It is called where ``checks_arguments`` is ``True``, on an object that runs no hook; again where the config is
        sent, and in the replica. It must change nothing, of the config and of itself: an object that was made by you is
        itself asked.

        Args:
            llm_config: the config.
            others: an object of each other class of hooks in the config that checks its arguments.
        """

    # Written out for type checkers; a test compares signatures and docstrings with the table of hook points.

    def on_before_init(self, ctx: CallbackCtx) -> _Vetoes:
        """Set up `ctx` before anything happens."""
        return None

    def on_custom_init(self, ctx: CallbackCtx) -> _Nothing:
        """Take over: own placement group, runtime env, files."""

    def on_before_download(self, ctx: CallbackCtx) -> _Vetoes:
        """Choose what each node downloads."""
        return None

    def on_before_node_download(self, ctx: NodeCtx) -> _Vetoes:
        """Per-node work: extra files, caches, disk checks."""
        return None

    def on_after_node_download(self, ctx: NodeCtx) -> _Nothing:
        """Verify, unpack, warm."""

    def on_after_download(self, ctx: CallbackCtx) -> _Nothing:
        """See every node's result in `ctx.nodes`."""

    def on_after_placement_group(self, ctx: CallbackCtx) -> _Nothing:
        """Last word on `ctx.placement_group`."""

    def on_before_engine_init(self, ctx: CallbackCtx) -> _Nothing:
        """Last word on `ctx.extra_init_kwargs`, `ctx.model_path`."""

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Own architectures, tool and reasoning parsers, logits processors, patches."""

    def on_after_engine_init(self, ctx: CallbackCtx) -> _Nothing:
        """`ctx.engine` answers: warm-up requests, save caches."""

    def on_after_node_engine_init(self, ctx: NodeCtx) -> _Nothing:
        """Save the caches that the engine has written here, register the node."""

    def on_after_init(self, ctx: CallbackCtx) -> _Nothing:
        """Metrics, registration; the last of a good start."""

    def on_shutdown(self, ctx: CallbackCtx) -> _AtTheEnd:
        """`ctx.engine` still answers: drain, deregister, save; its failure is logged."""

    def on_node_failure(self, ctx: NodeCtx) -> _AtTheEnd:
        """`ctx.error`: unmount, remove half a download; its own failure is logged, the first one is raised."""

    def on_failure(self, ctx: CallbackCtx) -> _AtTheEnd:
        """`ctx.error`: metrics, clean-up; its own failure is logged, the first one is raised."""


def is_class_style(callback: object) -> bool:
    """Return True if an object or a class has a method that is named like a hook point."""
    return any(_is_hook_name(name) for name in dir(callback))


def hooks_of_class(
    callback: Any, kwargs: Mapping[str, Any] | None = None, *, option: str = "callback_kwargs"
) -> list[Hook]:
    """Return the hooks of a class or an instance: one for each method that is named after a hook point.

    Args:
        callback: the class, or an instance.
        kwargs: the arguments of the class.
        option: the config's name for these arguments, for messages.

    Raises:
        UnknownHookError: a method ``on_...`` that is no hook point.
        HookSignatureError: a method that does not take ``ctx``; arguments that do not fit the class.
        HookLoadError: no method is named after a hook point.
    """
    path = path_of(callback)
    names = _check_methods(callback, path)
    if not names:
        raise HookLoadError(
            f"callback {path} has no hooks: name its methods after hook points, as in `def on_before_download(self, "
            f"ctx)`. The points: {', '.join(HOOK_NAMES)}."
        )
    instance = instance_of(callback, kwargs or {}, option=option)
    options = [options_of(bound_method(callback, name), name) for name in names]
    return [Hook(partial(_call_method, each.point), each, instance=instance, method=each.point) for each in options]


def _call_method(name: str, instance: LazyInstance, ctx: Any) -> Any:
    return getattr(instance.get(), name)(ctx)


def instance_of(callback: Any, kwargs: Mapping[str, Any], *, option: str) -> LazyInstance:
    """Return the shared instance of a class, or of an object that the user made.

    Raises:
        HookLoadError: arguments are given for an object.
        HookSignatureError: arguments that do not fit the class.
    """
    kwargs = checked_kwargs(kwargs, option)
    if not isinstance(callback, type):
        if kwargs:
            raise HookLoadError(
                f"{option} are the arguments of a class, but {path_of(callback)} is given as an object: give them to "
                "it where it is made"
            )
        return LazyInstance(None, {}, callback)
    found = misfit(callback, **kwargs)
    if found is not None:
        signature, why = found
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:  # for a misspelt argument, Python complains that the right one is missing
            why = f"there is no {unknown[0]!r}{did_you_mean(unknown[0], signature.parameters)}"
        raise HookSignatureError(
            f"{path_of(callback)}{written(signature)} cannot be made with {option}={masked(kwargs)}: {why}"
        )
    if attribute_of_user(callback, "checks_arguments"):
        _check_arguments(callback, kwargs, option)
    return LazyInstance(callback, kwargs)


def _check_arguments(cls: type, kwargs: Mapping[str, Any], option: str) -> None:
    """Make a class whose constructor does nothing but check its arguments, which is what it says of itself.

    Raises:
        HookSignatureError: the constructor has refused them.
    """
    try:
        cls(**kwargs)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        what = f"{path_of(cls)} cannot be made with {option}={masked(kwargs)}"
        raise HookSignatureError(f"{what}: {reason_of_refusal(error)}") from readable(error)


def checked_kwargs(kwargs: object, what: str, error: Callable[[str], Exception] = HookLoadError) -> Mapping[str, Any]:
    """Return the parameters of a hook, the arguments of a class or the like, whose names are strings.

    Args:
        kwargs: what was given.
        what: its name, for the message.
        error: makes the error to raise where it is something else.

    Raises:
        HookLoadError: it is something else, and no other ``error`` is given.
    """
    if not isinstance(kwargs, Mapping):
        raise error(f"{what} is a mapping, from names to values, not {without_value(kwargs)}")
    for name in kwargs:
        if not isinstance(name, str):
            raise error(f"{what} is a mapping whose keys are names, as strings, and not {describe(name)}")
    return kwargs


def _check_methods(callback: object, path: str) -> list[HookName]:
    """Return the hook points that a class or an instance overrides; check its methods."""
    from inspect import getattr_static  # a property would run, and might raise

    for name in dir(callback):
        if _is_hook_name(name) and name not in HOOK_POINTS and _is_method(getattr_static(callback, name)):
            raise UnknownHookError(
                f"{path} has a method {name!r}, which is no hook point{did_you_mean(name, HOOK_NAMES)}. "
                f"The points: {', '.join(HOOK_NAMES)}. If it is no hook, do not let its name begin with 'on_'."
            )
    if _overrides(callback, METHOD) and attribute_of_user(callback, "checks_arguments"):
        check_method(callback, path)
    names: list[HookName] = []
    for point in HOOK_NAMES:
        if _overrides(callback, point):
            _check_method(bound_method(callback, point), point, path)
            names.append(point)
    return names


def _overrides(callback: object, name: str) -> bool:
    """Return True if a class or an instance has a method of a name that is not :class:`RayServeLLMCallback`'s."""
    method = bound_method(callback, name)
    return method is not None and getattr(method, "__func__", method) is not getattr(RayServeLLMCallback, name, None)


def _check_method(method: Callable[..., Any], point: str, path: str) -> None:
    wanted = f"a method at a hook point is `def {point}(self, ctx)`"
    if not callable(method):
        raise HookSignatureError(f"{path}.{point} is {kind_of(method)}; {wanted}")
    check_span(method, f"{path}.{point}", point)
    if HOOK_POINTS[point].in_process:
        check_is_sync(method, f"{path}.{point}")
    found = misfit(method, None)
    if found is not None:
        signature, why = found
        raise HookSignatureError(
            f"{path}.{point}{written(signature)} cannot be called with ctx alone ({why}); {wanted}, and what it needs "
            "besides is given to the class: in callback_kwargs, or as kwargs of its entry in hooks=[...]"
        )


def _is_hook_name(name: str) -> bool:
    return name.startswith("on_")


def _is_method(found: object) -> bool:
    return callable(found) or isinstance(found, classmethod)
