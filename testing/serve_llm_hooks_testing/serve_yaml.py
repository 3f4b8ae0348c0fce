"""Read the configs out of a ``serve run`` YAML, with what matters before the engine runs: also for the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.messages import without_value
from serve_llm_hooks._sources.class_style import checked_kwargs

from .config import FakeLLMConfig
from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve_llm_hooks._core.options import OnError

# The fields that are given as they are: its names are Ray's and ours.
_OURS = inspect.signature(FakeLLMConfig).parameters.keys() - {
    "model_id",
    "model_source",
    "model_loading_config",
    "on_error",
}
_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")


def is_yaml(ref: object) -> bool:
    """Return True for the path of a YAML file."""
    return isinstance(ref, str | Path) and str(ref).endswith((".yaml", ".yml"))


def fields_of_yaml(path: str | Path) -> list[Mapping[str, Any]]:
    """Return the fields of the configs that a file names.

    Raises:
        HarnessError: it cannot be read, or names none.
    """
    file = Path(path)
    found = list(_fields(_read(file), file.parent))
    if not found:
        raise HarnessError(f"{file} names no LLM config: an application has them in its args, in llm_configs")
    return found


def _read(file: Path) -> Any:
    try:
        from .yaml_file import YamlFile
    except ImportError as error:
        raise HarnessError(f"{file} cannot be read without PyYAML, which Ray Serve needs too") from error

    return YamlFile(str(file), HarnessError).value


def _fields(held: Any, folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the fields of each config: the application's, those of ``serve run``, or a config alone."""
    if isinstance(held, str) and is_yaml(held):  # Ray takes the path of a config's own file
        held = _read(folder / held)
    if isinstance(held, list):
        for each in held:
            yield from _fields(each, folder)
    elif isinstance(held, Mapping):
        if "model_loading_config" in held or "model_id" in held:
            yield held
            return
        for name in ("applications", "args", "llm_configs", "llm_config", "prefill_config", "decode_config"):
            yield from _fields(held.get(name), folder)


def bool_of(value: object, what: str) -> bool:
    """Return a value as pydantic, and so Ray, reads it where True or False is wanted: ``"false"`` is False.

    Args:
        value: the value.
        what: its name, for the message.

    Raises:
        TypeError: it is neither.

    Example:
        >>> bool_of("off", "log_engine_metrics=")
        False
    """
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    for answer, texts in ((True, _TRUE), (False, _FALSE)):
        if isinstance(value, str) and value.lower() in texts:
            return answer
    raise TypeError(f"{what} is true or false, not {without_value(value)}")


def config_of(fields: Mapping[str, Any]) -> FakeLLMConfig:
    """Return a config for a fake cluster.

    Raises:
        ServeLLMHooksError, TypeError, ValueError: it is refused.
    """
    given = {name: fields[name] for name in _OURS if name in fields}
    loading = fields.get("model_loading_config")
    loading = {} if loading is None else loading
    if not isinstance(loading, Mapping):
        raise ValueError(f"model_loading_config= is a mapping, not {without_value(loading)}")
    chosen = checked_kwargs(fields.get("callback_config", {}), "callback_config=", TypeError)
    if "hooks" not in given and str(chosen.get("callback_class", "")).endswith("HooksCallback"):
        given["hooks"] = checked_kwargs(chosen.get("callback_kwargs", {}), "callback_kwargs", TypeError).get("hooks")
    given.setdefault("hooks", None)
    if given.get("log_engine_metrics") is not None:
        given["log_engine_metrics"] = bool_of(given["log_engine_metrics"], "log_engine_metrics=")
    raises = bool_of(chosen.get("raise_error_on_callback", True), "callback_config=: raise_error_on_callback")
    on_error: OnError = "raise" if raises else "warn"
    return FakeLLMConfig(fields.get("model_id"), model_loading_config=loading, on_error=on_error, **given)
