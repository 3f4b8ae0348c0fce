"""``check_config``: the classes of a config's hooks look at the config, and at each other, where it is made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError, HookSignatureError, is_a, reraise_if_not_a_failure
from .._core.messages import exit_of, readable, text_of
from .._core.origin import path_of
from .._core.signature import attribute_of_user, bound_method, misfit, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._core.hook import Hook
    from .._core.lazy_instance import LazyInstance

METHOD = "check_config"


def check_method(callback: Any, path: str) -> None:
    """Check that a class's own ``check_config`` would be called, and can be.

    Raises:
        HookSignatureError: the class does not check its arguments early; the method takes something else, or is async.
    """
    from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction

    method = bound_method(callback, METHOD)
    if not attribute_of_user(callback, "checks_arguments"):
        raise HookSignatureError(
            f"{path} has {METHOD}, which is called where the config is made, on an object made there: set "
            "checks_arguments = True in the class, whose constructor then does nothing but check and keep its arguments"
        )
    if not callable(method):
        raise HookSignatureError(f"{path}.{METHOD} is no method; it is `def {METHOD}(self, llm_config, others)`")
    found = misfit(method, None, [])
    never_runs = any(is_one(method) for is_one in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction))
    if found is not None or never_runs:
        why = " is async or has a yield, so that a call of it runs nothing"
        if found is not None:
            why = f"{written(found[0])} does not fit ({found[1]})"
        raise HookSignatureError(f"{path}.{METHOD}{why}; it is `def {METHOD}(self, llm_config, others)`")


def ask_classes(hooks: Iterable[Hook], llm_config: Any) -> None:
    """Call ``check_config`` of each class that checks its arguments early, on an object made for this.

    Raises:
        HookLoadError: one has refused the config; the message says which class, and why.
    """
    instances = {hook.instance.key: hook.instance for hook in hooks if hook.instance is not None}
    early = [each for each in instances.values() if attribute_of_user(each.owner, "checks_arguments")]
    objects = []
    for each in early:
        with _told_as_refusal(each.owner, llm_config):
            objects.append(_made(each))
    for asked in objects:
        with _told_as_refusal(asked, llm_config):
            check = getattr(asked, METHOD, None)
            if check is not None:
                check(llm_config, [each for each in objects if each is not asked])


@contextmanager
def _told_as_refusal(asked: Any, llm_config: Any) -> Iterator[None]:
    """Say which class has refused a config: what it raises, of whatever kind, is its own failure."""
    try:
        yield
    except BaseException as error:
        reraise_if_not_a_failure(error)
        cls = asked if isinstance(asked, type) else type(asked)
        raise HookLoadError(
            f"model {str(llm_config.model_id)!r}: {path_of(cls)} refuses the config: {reason_of_refusal(error)}"
        ) from readable(error)


def reason_of_refusal(error: BaseException) -> str:
    """Return the message of a refusal; with the error's type, where it is no sentence of its own."""
    text, exit_called = text_of(error), exit_of(error)
    if exit_called:
        return f"it called {exit_called}"
    is_sentence = text and (is_a(error, ValueError) or is_a(error, TypeError))
    return text if is_sentence else f"{type(error).__name__}: {text}".rstrip(": ")


def _made(instance: LazyInstance) -> Any:
    """Return the object that the user made, or one for this check: the start's own is made when it is needed."""
    return instance.made if instance.cls is None else instance.cls(**instance.kwargs)
