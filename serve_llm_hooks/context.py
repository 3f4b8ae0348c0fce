"""What a hook is given: ``CallbackCtx`` in the replica, ``NodeCtx`` on a node. And what comes out at the end.

Both check what is assigned to them, because a wrong value that is only seen where it is used fails on a GPU node ten
minutes later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from .points import did_you_mean
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CallbackCtx", "DownloadMode", "InitializeNodeOutput", "NodeCtx", "NodeResult", "Skip", "skip"]


DownloadModeName: TypeAlias = Literal["MODEL_AND_TOKENIZER", "TOKENIZER_ONLY", "EXCLUDE_SAFETENSORS", "NONE"]


class DownloadMode(StrEnum):
    """Which of the model's files a node downloads from the mirror. The names are Ray's ``NodeModelDownloadable``.

    Falsy when there is nothing to download.
    """

    MODEL_AND_TOKENIZER = "MODEL_AND_TOKENIZER"
    TOKENIZER_ONLY = "TOKENIZER_ONLY"
    EXCLUDE_SAFETENSORS = "EXCLUDE_SAFETENSORS"
    NONE = "NONE"

    def __bool__(self) -> bool:
        return self is not DownloadMode.NONE

    @classmethod
    def of(cls, value: object) -> DownloadMode:
        """A mode from itself, its name, or Ray's own enum.

        Raises:
            ValueError: anything else; the message lists the four names.

        Example:
            >>> DownloadMode.of("TOKENIZER_ONLY")
            <DownloadMode.TOKENIZER_ONLY: 'TOKENIZER_ONLY'>
        """
        if isinstance(value, DownloadMode):
            return value
        # Ray's enum has the same names, and other values; it is recognised without importing Ray.
        name = value if isinstance(value, str) else getattr(value, "name", None)
        mode = cls.__members__.get(name) if isinstance(name, str) else None
        if mode is None:
            hint = did_you_mean(name.upper(), cls.__members__) if isinstance(name, str) else ""
            raise ValueError(f"{value!r} is no download mode{hint} (one of {', '.join(cls.__members__)})")
        return mode


@dataclass(frozen=True, slots=True)
class Skip:
    """A veto with its reason; made by :func:`skip`."""

    reason: str


def skip(reason: str) -> Skip:
    """Veto what this hook's point is about, and say why; the reason is in the log and in the trace.

    Return it from the hook: ``return skip("weights are baked into the image")``.

    Args:
        reason: one line.

    Example:
        >>> skip("baked into the image")
        Skip(reason='baked into the image')
    """
    return Skip(reason)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What happened on one node.

    Attributes:
        node_id: the node.
        is_local: whether it is the replica's own.
        path: where this node has the model: what was downloaded, else the model's own folder or id; ``None`` when
            a hook vetoed the download and did not say.
        custom_data: the node's copy of ``custom_data``, with what its hooks added.
        download_model: the mode that was in force when the download was due.
        skipped: the reason why nothing was downloaded, when a hook said so.
        start_s, end_s: when its work started and ended: seconds since the epoch (virtual on a fake cluster).
        download_s: seconds spent in the download alone.
        error: the failure in one line, or ``None``.
    """

    node_id: str
    is_local: bool = False
    path: str | None = None
    custom_data: dict[str, Any] = field(default_factory=dict)
    download_model: DownloadMode = DownloadMode.MODEL_AND_TOKENIZER
    skipped: str | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    download_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class InitializeNodeOutput:
    """What the engine is started with.

    Attributes:
        placement_group: the group in which the engine's workers run.
        runtime_env: the workers' runtime environment.
        extra_init_kwargs: what hooks added to the engine's and the frontend's arguments.
    """

    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    extra_init_kwargs: dict[str, Any] = field(default_factory=dict)


def _assign(ctx: Any, name: str, value: object) -> None:
    fields = type(ctx).__dataclass_fields__
    if name not in fields:
        if hasattr(type(ctx), name):  # a property
            raise AttributeError(f"ctx.{name} is read-only")
        raise AttributeError(
            f"{type(ctx).__name__} has no field {name!r}{did_you_mean(name, fields)}. "
            f"What hooks keep for each other goes into ctx.custom_data[{name!r}]."
        )
    kind = fields[name].metadata.get("kind")
    if kind == "read-only" and name in ctx.__dict__:
        raise AttributeError(f"ctx.{name} is read-only")
    if "_closed" in ctx.__dict__ and name != "custom_data":
        raise AttributeError(
            f"ctx.{name} cannot be changed any more: the engine has been given it. on_before_engine_init is the "
            "last point at which it can"
        )
    check = _CHECKS.get(kind)
    object.__setattr__(ctx, name, check(name, value) if check else value)


class _Checked:
    """Checks every assignment: unknown names, read-only fields, wrong values."""

    __slots__ = ()

    if not TYPE_CHECKING:  # pragma: no branch  # where they see a __setattr__, checkers let any name be assigned to
        __setattr__ = _assign


class _ModeField:
    """A download mode that may be written as a name or as Ray's enum, and always reads as a ``DownloadMode``.

    A descriptor because only so do checkers learn that it takes more than it gives.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, ctx: object | None, owner: type) -> DownloadMode:
        # Read from the class, it is the dataclass field's default.
        return DownloadMode.MODEL_AND_TOKENIZER if ctx is None else ctx.__dict__[self._name]

    def __set__(self, ctx: object, value: DownloadMode | DownloadModeName | Enum) -> None:
        ctx.__dict__[self._name] = _mode(self._name, value)


class _OptionalModeField:
    """The same, or ``None``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, ctx: object | None, owner: type) -> DownloadMode | None:
        return None if ctx is None else ctx.__dict__[self._name]

    def __set__(self, ctx: object, value: DownloadMode | DownloadModeName | Enum | None) -> None:
        ctx.__dict__[self._name] = None if value is None else _mode(self._name, value)


def _mode(name: str, value: object) -> DownloadMode:
    try:
        return DownloadMode.of(value)
    except ValueError as error:
        raise ValueError(f"ctx.{name} = {value!r}: {error}") from None


def _dict(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"ctx.{name} is a dict with string keys, not {value!r}")
    return value


def _optional_dict(name: str, value: object) -> dict[str, Any] | None:
    return None if value is None else _dict(name, value)


def _bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"ctx.{name} is True or False, not {value!r}")
    return value


def _optional_path(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"ctx.{name} is a path (str or os.PathLike) or None, not {value!r}")
    return os.fspath(value)


_CHECKS: dict[str | None, Callable[[str, object], object]] = {
    "dict": _dict,
    "dict?": _optional_dict,
    "bool": _bool,
    "path?": _optional_path,
}


def _field(kind: str, default: Any = None, *, factory: Callable[[], Any] | None = None) -> Any:
    if factory is not None:
        return field(default_factory=factory, metadata={"kind": kind})
    return field(default=default, metadata={"kind": kind})


def _no_nodes() -> Mapping[str, NodeResult]:
    return MappingProxyType({})


@dataclass(eq=False)
class CallbackCtx(_Checked):
    """What hooks in the replica are given: one object from ``on_before_init`` to the end of a run.

    Hooks change what happens next by assigning to it; assignments are checked where they are written.

    Attributes:
        llm_config: the deployment's config (read-only).
        worker_node_download_model: what every node downloads; starts as what Ray would choose.
        local_node_download_model: what the replica's own node downloads, when set.
        placement_group: where the engine's workers run. Assign another in ``on_before_init`` or
            ``on_after_placement_group`` to replace it.
        runtime_env: the runtime environment of node tasks and engine workers.
        extra_init_kwargs: arguments for the engine and its OpenAI frontend, merged over the config's.
        model_path: where the engine finds the model; wins over what was downloaded.
        custom_data: what hooks keep for each other. Every node gets a copy; what is added there is in
            ``nodes[node_id].custom_data``.
        run_init_node: whether nodes are initialized at all (Ray's name; a veto makes it ``False``).
        nodes: node id to :class:`NodeResult` (read-only).
        engine: the started engine, from ``on_after_engine_init`` on (read-only).
        error: in ``on_failure``, what went wrong (read-only).
        trace: the hook calls so far (read-only).

    Raises:
        AttributeError: an assignment to a read-only field, or to a name that is none.
        TypeError, ValueError: an assignment of a wrong value.

    Example:
        >>> ctx = CallbackCtx(llm_config=None)
        >>> ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> ctx.worker_node_download_model
        <DownloadMode.TOKENIZER_ONLY: 'TOKENIZER_ONLY'>
    """

    llm_config: Final[Any] = _field("read-only")
    local_node_download_model: _OptionalModeField = _OptionalModeField()
    worker_node_download_model: _ModeField = _ModeField()
    placement_group: Any = _field("any")
    runtime_env: dict[str, Any] | None = _field("dict?")
    extra_init_kwargs: dict[str, Any] = _field("dict", factory=dict)
    model_path: str | None = _field("path?")
    custom_data: dict[str, Any] = _field("dict", factory=dict)
    run_init_node: bool = _field("bool", True)
    nodes: Final[Mapping[str, NodeResult]] = _field("read-only", factory=_no_nodes)
    engine: Final[Any] = _field("read-only")
    error: Final[Exception | None] = _field("read-only")
    trace: Final[Trace] = _field("read-only", factory=Trace)

    @property
    def model_id(self) -> str:
        """The model's id, as clients name it."""
        return str(getattr(self.llm_config, "model_id", ""))


@dataclass(eq=False)
class NodeCtx(_Checked):
    """What hooks on a node are given: one object per node, in the node's own process.

    Attributes:
        model_id: the model's id, as clients name it (read-only).
        node_id: this node's id (read-only).
        is_local: whether this is the replica's own node (read-only).
        download_model: what this node is about to download; a hook before the download may change it.
        custom_data: a copy of the replica's; what a hook adds is in ``ctx.nodes[node_id].custom_data`` there.
        model_path: where this node has the model, after the download. A hook that fetched or moved it may say so.

    Example:
        >>> NodeCtx(model_id="m", node_id="n1").download_model
        <DownloadMode.MODEL_AND_TOKENIZER: 'MODEL_AND_TOKENIZER'>
    """

    model_id: Final[str] = _field("read-only", "")
    node_id: Final[str] = _field("read-only", "")
    is_local: Final[bool] = _field("read-only", False)
    download_model: _ModeField = _ModeField()
    custom_data: dict[str, Any] = _field("dict", factory=dict)
    model_path: str | None = _field("path?")
    load_llm_config: Final[Callable[[], Any] | None] = field(default=None, repr=False, metadata={"kind": "read-only"})

    @property
    def llm_config(self) -> Any:
        """The deployment's config, unpickled when first asked for.

        Asking costs: unpickling Ray's config imports vLLM, which takes longer than all the rest of a node's work.
        """
        if "_llm_config" not in self.__dict__:
            self.__dict__["_llm_config"] = None if self.load_llm_config is None else self.load_llm_config()
        return self.__dict__["_llm_config"]


def set_read_only(ctx: CallbackCtx | NodeCtx, **values: Any) -> None:
    """Set fields that hooks may only read. For ``initialize`` and the harness, not for hooks."""
    for name, value in values.items():
        object.__setattr__(ctx, name, value)


def close(ctx: CallbackCtx) -> None:
    """The engine has been given everything: from here on, hooks may look, and keep ``custom_data``."""
    ctx.__dict__["extra_init_kwargs"] = MappingProxyType(dict(ctx.extra_init_kwargs))
    ctx.__dict__["_closed"] = True
