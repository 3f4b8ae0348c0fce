"""``PhaseData``: the ``data`` mapping of phase callbacks, a live view of ``ctx``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from .._core.messages import describe, without_value
from .._core.points import HOOK_POINTS, PHASES
from .._core.snapshot import unchanging

if TYPE_CHECKING:
    from .._core.context import CallbackCtx
    from .._core.results import NodeResult


_CUSTOM = str(HOOK_POINTS["on_custom_init"].phase)

# The fields of ctx that `data` shows by their names. `custom_data` itself is among them.
_CTX_KEYS: tuple[str, ...] = (
    "local_node_download_model",
    "worker_node_download_model",
    "placement_group",
    "runtime_env",
    "extra_init_kwargs",
    "model_path",
    "run_init_node",
    "custom_data",
    "nodes",
    "engine",
    "error",
)
_OWN_KEYS: tuple[str, ...] = ("download_result", "skip_default")


class PhaseData(MutableMapping[str, Any]):
    """A view of ``ctx`` as a mapping; a change of it is a change of ``ctx``, checked as an assignment is.

    - the fields of ``ctx`` by their names: ``placement_group``, ``runtime_env``, ``extra_init_kwargs``,
      ``local_node_download_model``, ``worker_node_download_model``, ``model_path``, …
    - ``download_result``: the :class:`~serve_llm_hooks.NodeResult` of the replica's own node; ``None`` before there
      is one
    - ``skip_default``: set it to ``True`` in ``pre_initialization`` to skip the defaults
    - every other key is one of ``ctx.custom_data``
    """

    def __init__(self, ctx: CallbackCtx, phase: str) -> None:
        self._ctx: CallbackCtx = ctx
        self._phase: str = phase
        # At custom_initialization the defaults are skipped, whoever decided it.
        self._skip: bool = ctx.__dict__.get("_skip_default", False) or phase == _CUSTOM
        self._skipped_before: bool = self._skip
        self._too_late: bool = phase != PHASES[0]

    def __getitem__(self, key: str) -> Any:
        if key == "skip_default":
            return self._skip
        if key == "download_result":
            return self._own_node()
        if key in _CTX_KEYS:
            return getattr(self._ctx, key)
        return self._ctx.custom_data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"the keys of data are strings, not {describe(key)}")
        if self.get(key, self) is value:
            return  # `return data` and `return {**data, ...}` repeat keys unchanged, read-only ones too
        if key == "skip_default":
            self._set_skip_default(value)
        elif key == "download_result":
            raise AttributeError("data['download_result'] is read-only: it is what the download came to")
        elif key in _CTX_KEYS:
            setattr(self._ctx, key, value)
        else:
            self._ctx.custom_data[key] = value

    def __delitem__(self, key: str) -> None:
        if key in _CTX_KEYS or key in _OWN_KEYS:
            raise KeyError(f"data[{key!r}] cannot be deleted; assign None, or what it should be")
        del self._ctx.custom_data[key]

    def __iter__(self) -> Iterator[str]:
        yield from _CTX_KEYS
        yield from _OWN_KEYS
        yield from [
            key
            for key in unchanging(lambda: list(self._ctx.custom_data))
            if key not in _CTX_KEYS and key not in _OWN_KEYS
        ]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<PhaseData at {self._phase}: {', '.join(self)}>"

    def finish(self) -> bool:
        """End the callback's turn; return True if it is the one that skips the defaults."""
        self._too_late = True
        self._ctx.__dict__["_skip_default"] = self._skip
        return self._skip and not self._skipped_before

    def _set_skip_default(self, value: object) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"data['skip_default'] is True or False, not {describe(value)}")
        if self._too_late:
            raise ValueError(
                f"data['skip_default'] = {value} comes too late: whether the defaults are skipped is decided at "
                f"{PHASES[0]}, so set it `if phase == {PHASES[0]!r}`"
            )
        if self._skipped_before:
            raise ValueError(
                "data['skip_default'] = False: another callback has set it to True, which cannot be taken back; "
                "let that one decide"
            )
        self._skip = value

    def _own_node(self) -> NodeResult | None:
        return next((node for node in self._ctx.nodes.values() if node.is_local), None)


def merge(data: MutableMapping[str, Any], result: object) -> str | None:
    """Merge a phase callback's result into ``data``: as ``dict.update``, but ``extra_init_kwargs`` key by key.

    Returns:
        What is wrong with a result that is no mapping and not ``None``; else ``None``.
    """
    if result is None:
        return None
    if not isinstance(result, Mapping):
        return f"it returned {without_value(result)}; a phase callback returns a dict to merge into data, or None"
    for key, value in dict(result).items():
        old = data.get(key)
        if key == "extra_init_kwargs" and isinstance(old, Mapping) and isinstance(value, Mapping) and value is not old:
            value = {**old, **value}
        data[key] = value
    return None
