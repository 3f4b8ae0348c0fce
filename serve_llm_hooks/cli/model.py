"""``Model``: one model that a command looks at, from a YAML file or from hooks that are named."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serve_llm_hooks import HOOK_POINTS, Hook, HookLoadError
from serve_llm_hooks_testing.serve_yaml import config_of

from .output import printed_on_stderr
from .refused import text_of

# What a config of Ray's may say for `callback_class`, so that our callback runs the hooks in it.
_HOOKS_CALLBACK = ("serve_llm_hooks.ray:HooksCallback", "serve_llm_hooks.ray.HooksCallback")

_ALLOW = "SERVE_LLM_HOOKS_ALLOW"
_TRACE_DIR = "SERVE_LLM_HOOKS_TRACE_DIR"


@dataclass(frozen=True)
class Model:
    """One model, and what its config says.

    Attributes:
        model_id: the model.
        fields: the fields of its config.
        application: the application that it is part of; empty where there is none.
        where: the file and line of its config; empty where there is none.
        places: the file and line of each of its fields.
        environ: the variables that its replicas have besides those of this process.
        warned: what was warned of before.
        is_ours: ``False`` for a config of Ray's own, whose hooks run up to the engine's start only.
    """

    model_id: str
    fields: Mapping[str, Any]
    application: str = ""
    where: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = True
    warned: tuple[str, ...] = ()

    def as_json(self) -> dict[str, str | None]:
        """Return which model it is, as the answers of commands say it."""
        return {"model_id": self.model_id, "application": self.application or None, "config": self.where or None}

    def config(self) -> Any:
        """Return its config: one that needs no Ray, unless it names a callback class that was written for Ray.

        Raises:
            HookLoadError: hooks that cannot be loaded, or that would not run.
            TypeError, ValueError, ImportError, AttributeError: as the config itself raises.
        """
        fields = self.hooks_fields()
        return self._rays_config() if self.needs_ray else config_of({**fields, "model_id": self.model_id})

    def text_of(self, error: BaseException) -> str:
        """Return the message of an error that ends the making of its config, with the line of the field it is about.

        The error says which, or its message begins with it.
        """
        text = text_of(error)
        named = re.match(r"\w*", text)
        fields = (getattr(error, "config_field", ""), named[0] if named else "")
        place = next((self.places[field] for field in fields if field in self.places), None)
        return f"{place}: {text}" if place else text

    def hooks_fields(self) -> dict[str, Any]:
        """Return the fields of its config; the hooks that it names for ``HooksCallback`` are in ``hooks``.

        Raises:
            HookLoadError: it names none for it.
            TypeError: its ``callback_config`` is no mapping, or what is in there is none.
        """
        callback = self._callback_config()
        if callback.get("callback_class") not in _HOOKS_CALLBACK:
            return dict(self.fields)
        kwargs = callback.get("callback_kwargs", {})
        if not isinstance(kwargs, Mapping):
            raise TypeError("callback_kwargs of HooksCallback is a mapping, as in callback_kwargs: {hooks: [...]}")
        hooks = kwargs.get("hooks")
        if hooks is None:
            raise HookLoadError("HooksCallback is given no hooks: write callback_kwargs: {hooks: [...]}")
        return {**self.fields, "hooks": hooks}

    @property
    def needs_ray(self) -> bool:
        """``True`` if it names a callback class that was written for Ray."""
        return self._callback_config().get("callback_class") not in (None, *_HOOKS_CALLBACK)

    def _callback_config(self) -> Mapping[str, Any]:
        callback = self.fields.get("callback_config", {})
        if not isinstance(callback, Mapping):
            raise TypeError("callback_config is a mapping, with callback_class and callback_kwargs")
        return callback

    def _rays_config(self) -> Any:
        from serve_llm_hooks.ray import LLMConfig  # a class that was written for Ray imports Ray anyway

        return LLMConfig.model_validate(dict(self.fields))

    def refuses(self, hook: Hook) -> bool:
        """Return True for a hook that a config of Ray's own refuses: at, or until, a point after the engine's start."""
        point, until = HOOK_POINTS[hook.point], hook.options.until
        lasts = HOOK_POINTS[until].needs_server if until else hook.is_span and not point.on_node
        return not self.is_ours and (point.needs_server or lasts)

    @contextmanager
    def its_process(self) -> Iterator[list[str]]:
        """Have the variables of its replicas; yield what is warned of. What hooks print goes to stderr."""
        told = list(self.warned)
        # What this process allows is not for a file to widen: looking at hooks imports them.
        new = {name: value for name, value in self.environ.items() if name != _ALLOW or name not in os.environ}
        new.pop(_TRACE_DIR, None)  # what starts here is no start of production's, whose folder this is
        before = dict(os.environ)
        os.environ.update(new)
        os.environ.pop(_TRACE_DIR, None)
        try:
            with _warnings_in(told), printed_on_stderr():
                yield told
        finally:
            for name in (*new, _TRACE_DIR):
                if name in before:
                    os.environ[name] = before[name]
                else:
                    os.environ.pop(name, None)


@contextmanager
def _warnings_in(told: list[str]) -> Iterator[None]:
    """Collect the warnings of the library, by log and by Python, each once."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # errors are in the answer
            if record.levelno == logging.WARNING and record.getMessage() not in told:
                told.append(record.getMessage())

    logger, handler = logging.getLogger("serve_llm_hooks"), Collect()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagates
            told += [text for each in caught if _is_ours(each) and (text := str(each.message)) not in told]


def _is_ours(warning: warnings.WarningMessage) -> bool:
    module = warning.category.__module__.partition(".")[0]
    return module == "serve_llm_hooks_testing" or "initialization_class" in str(warning.message)
