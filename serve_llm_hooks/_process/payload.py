"""A ``ProcessTask`` as text for the environment, by which it reaches every process of an engine."""

from __future__ import annotations

import base64
import pickle
import zlib
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError, HookPickleError
from .._core.points import HOOK_POINTS
from .._core.until import needs_processes
from .._node.packing import pack_hooks
from .._sources.weights import is_late

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._core.hook import Hook
    from .task import ProcessTask


PLUGIN = "serve_llm_hooks"
"""The name of our entry point in the group ``vllm.general_plugins``."""

LIMIT = 96 * 1024
"""Characters that a task may take. Linux has 128 KiB for a variable with its name."""

_SHOWN = 3  # parts of a task that is too large


def to_text(task: ProcessTask, *more: str) -> str:
    """Return a task and what goes along with it, as a text for the environment.

    Raises:
        HookPickleError: it is too large; the message names what is largest.
    """
    text = base64.b64encode(zlib.compress(pickle.dumps((task, more)))).decode()
    if len(text) <= LIMIT:
        return text
    sizes = {f"hook {hook.ref}": len(hook.data) for hook in task.hooks}
    sizes |= {f"ctx.custom_data[{key!r}]": len(data) for key, data in task.custom_data}
    first, *others = sorted(sizes, key=lambda what: -sizes[what])
    largest = [first, *(what for what in others[: _SHOWN - 1] if sizes[what] > sizes[first] / 10)]
    named = ", ".join(f"{what} ({sizes[what]} bytes)" for what in largest)
    raise HookPickleError(
        f"what hooks at on_engine_process_start of model {task.model_id!r} need is too large: the environment of the "
        f"engine's processes has room for {LIMIT} characters. The largest: {named}. Name hooks by their module, "
        "hooks=['pkg.mod'], so that no code travels, and pass what is large as a file."
    )


def from_text(text: str) -> tuple[ProcessTask, tuple[str, ...]]:
    """Return the task and what goes along with it."""
    held: tuple[ProcessTask, tuple[str, ...]] = pickle.loads(zlib.decompress(base64.b64decode(text)))
    return held


def need_processes(hooks: Iterable[Hook], model_id: str) -> list[Hook]:
    """Return the hooks for a model that run in the engine's processes, and those that its workers wait for."""
    return [hook for hook in hooks if needs_processes(hook) and hook.options.matches(model_id)]


def check_sendable(hooks: Iterable[Hook], model_id: str) -> None:
    """Check, before a config leaves its process, that its hooks at ``on_engine_process_start`` can be sent on.

    Raises:
        HookPickleError: one cannot be pickled, or they are too large together.
    """
    ours = [hook for hook in need_processes(hooks, model_id) if HOOK_POINTS[hook.point].in_process]
    if ours:
        from .._core.node import Node
        from .task import ProcessTask

        to_text(ProcessTask(model_id, Node(""), pack_hooks(ours), (), "raise"))


def check_config(hooks: Iterable[Hook], config: Any) -> None:
    """Check that the engine's processes will call our plugin, as far as a config says, where its hooks need that.

    Raises:
        HookLoadError: ``VLLM_PLUGINS`` in its ``runtime_env`` leaves our plugin out.
    """
    if need_processes(hooks, str(config.model_id)) or is_late(config):
        check_plugins(str(config.model_id), (config.runtime_env or {}).get("env_vars") or {})


def check_plugins(model_id: str, environ: Mapping[str, Any]) -> None:
    """Check that vLLM will call our plugin in processes with these variables.

    Raises:
        HookLoadError: ``VLLM_PLUGINS`` leaves it out.
    """
    allowed = environ.get("VLLM_PLUGINS")
    if isinstance(allowed, str) and PLUGIN not in allowed.split(","):
        raise HookLoadError(
            f"model {model_id!r}: VLLM_PLUGINS={allowed!r} leaves out {PLUGIN!r}, so no process of "
            f"the engine would run hooks at on_engine_process_start, or wait for what works until then. Write "
            f"VLLM_PLUGINS={','.join(filter(None, [allowed, PLUGIN]))!r}, or unset it, which allows all plugins"
        )
