"""``check_config``: the classes of a config's hooks look at the config, and at each other, where it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError, HookSignatureError
from .._core.messages import text_of
from .._core.origin import path_of
from .._core.signature import bound_method, misfit, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.hook import Hook
    from .._core.lazy_instance import LazyInstance

METHOD = "check_config"


def check_method(callback: Any, path: str) -> None:
    """Check that a class's own ``check_config`` would be called, and can be.

    Raises:
        HookSignatureError: the class does not check its arguments early; the method takes something else, or is async.
    """
    from inspect import iscoroutinefunction

    method = bound_method(callback, METHOD)
    if not getattr(callback, "checks_arguments", False):
        raise HookSignatureError(
            f"{path} has {METHOD}, which is called where the config is made, on an object made there: set "
            "checks_arguments = True in the class, whose constructor then does nothing but check and keep its arguments"
        )
    found = misfit(method, None, [])
    if found is not None or iscoroutinefunction(method):
        why = " is async, and nothing runs it" if found is None else f"{written(found[0])} does not fit ({found[1]})"
        raise HookSignatureError(f"{path}.{METHOD}{why}; it is `def {METHOD}(self, llm_config, others)`")


def ask_classes(hooks: Iterable[Hook], llm_config: Any) -> None:
    """Call ``check_config`` of each class that checks its arguments early, on an object made for this.

    Raises:
        HookLoadError: one has refused the config; the message says which class, and why.
    """
    instances = {hook.instance.key: hook.instance for hook in hooks if hook.instance is not None}
    objects = [_made(each) for each in instances.values() if getattr(each.owner, "checks_arguments", False) is True]
    for asked in objects:
        check = getattr(asked, METHOD, None)
        if check is None:
            continue
        try:
            check(llm_config, [each for each in objects if each is not asked])
        except Exception as error:
            raise HookLoadError(
                f"model {str(llm_config.model_id)!r}: {path_of(type(asked))} refuses the config: {text_of(error)}"
            ) from error


def _made(instance: LazyInstance) -> Any:
    """Return the object that the user made, or one for this check: the start's own is made when it is needed."""
    return instance.made if instance.cls is None else instance.cls(**instance.kwargs)
