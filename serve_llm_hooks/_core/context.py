"""The contexts that hooks are given: ``CallbackCtx`` in the replica, ``NodeCtx`` on a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .checked_fields import (
    Checked,
    ClosedDict,
    ModeField,
    OptionalModeField,
    checked_field,
    in_background,
    too_late,
)
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .results import NodeResult


def _no_nodes() -> Mapping[str, NodeResult]:
    return MappingProxyType({})


@dataclass(eq=False, repr=False)
class CallbackCtx(Checked):
    """The context of hooks in the replica: one object from ``on_before_init`` to the end of a start, or of the replica.

    Hooks change what happens next by assigning to it; assignments are checked where they are written.

    Attributes:
        llm_config: the deployment's config (read-only).
        worker_node_download_model: what every node downloads; starts as what Ray would choose.
        local_node_download_model: what the replica's own node downloads, when set.
        placement_group: where the engine's workers run. Assign another in ``on_before_init`` or
            ``on_after_placement_group`` to replace it.
        runtime_env: the runtime environment of node tasks and engine workers.
        extra_init_kwargs: arguments for the engine and its OpenAI frontend, merged over the config's.
        model_path: where the engine finds the model; wins over the download's folder.
        custom_data: data that hooks pass to each other. Every node gets a copy; what is added there is in
            ``nodes[node_id].custom_data``.
        run_init_node: ``False`` leaves the nodes alone (Ray's name; a veto sets it).
        nodes: node id to :class:`NodeResult` (read-only).
        engine: the started engine, from ``on_after_engine_init`` on (read-only).
        load_adapter: ``await ctx.load_adapter("french")`` does what Ray does at the first request with this LoRA
            adapter; from ``on_after_engine_init`` on, ``None`` where the engine has no adapters (read-only).
        error: in ``on_failure``, the exception that ended the start (read-only).
        trace: the hook calls so far (read-only).

    Raises:
        AttributeError: an assignment to a read-only or unknown field.
        TypeError, ValueError: an assignment of a wrong value.

    Example:
        >>> ctx = CallbackCtx(llm_config=None)
        >>> ctx.worker_node_download_model = "TOKENIZER_ONLY"
        >>> ctx.worker_node_download_model
        <DownloadMode.TOKENIZER_ONLY: 'TOKENIZER_ONLY'>
    """

    llm_config: Final[Any] = checked_field("read-only")
    local_node_download_model: OptionalModeField = OptionalModeField()
    worker_node_download_model: ModeField = ModeField()
    placement_group: Any = checked_field("any")
    runtime_env: dict[str, Any] | None = checked_field("dict?")
    extra_init_kwargs: dict[str, Any] = checked_field("dict", factory=dict)
    model_path: str | None = checked_field("path?")
    custom_data: dict[str, Any] = checked_field("dict", factory=dict)
    run_init_node: bool = checked_field("bool", True)
    nodes: Final[Mapping[str, NodeResult]] = checked_field("read-only", factory=_no_nodes)
    engine: Final[Any] = checked_field("read-only")
    load_adapter: Final[Callable[[str], Awaitable[None]] | None] = checked_field("read-only")
    error: Final[Exception | None] = checked_field("read-only")
    trace: Final[Trace] = checked_field("read-only", factory=Trace)

    @property
    def model_id(self) -> str:
        """The model's id, as clients name it."""
        return str(getattr(self.llm_config, "model_id", ""))

    def __repr__(self) -> str:
        """Name the model; the fields hold secrets."""
        return f"<CallbackCtx of model {self.model_id!r}>"


@dataclass(eq=False, repr=False)
class NodeCtx(Checked):
    """The context of hooks on a node: one object per node, in the node's own process.

    Attributes:
        model_id: the model's id, as clients name it (read-only).
        node_id: this node's id (read-only).
        address: its IP address (read-only).
        hostname: its name; empty where it is not known (read-only).
        is_local: ``True`` on the replica's own node (read-only).
        download_model: what this node is about to download; a hook before the download may change it.
        custom_data: a copy of the replica's; what a hook adds is in ``ctx.nodes[node_id].custom_data`` there.
        model_path: where this node has the model, after the download. A hook that fetched or moved it sets it.
        error: in ``on_node_failure``, the exception that ended the work here (read-only).
        unfinished: ``True`` in a hook with ``once_per_node=`` if one that ran it before was killed half-way, or was
            ended by a timeout or a cancellation (read-only).

    Example:
        >>> NodeCtx(model_id="m", node_id="n1").download_model
        <DownloadMode.MODEL_AND_TOKENIZER: 'MODEL_AND_TOKENIZER'>
    """

    model_id: Final[str] = checked_field("read-only", "")
    node_id: Final[str] = checked_field("read-only", "")
    is_local: Final[bool] = checked_field("read-only", False)
    download_model: ModeField = ModeField()
    custom_data: dict[str, Any] = checked_field("dict", factory=dict)
    model_path: str | None = checked_field("path?")
    load_llm_config: Final[Callable[[], Any] | None] = field(default=None, metadata={"kind": "read-only"})
    address: Final[str] = checked_field("read-only", "")
    hostname: Final[str] = checked_field("read-only", "")
    error: Final[Exception | None] = checked_field("read-only")
    unfinished: Final[bool] = checked_field("read-only", False)

    def __repr__(self) -> str:
        """Name the model and the node; the fields hold secrets."""
        return f"<NodeCtx of model {self.model_id!r} on node {self.node_id}>"

    @property
    def llm_config(self) -> Any:
        """The deployment's config, unpickled on first access.

        Expensive: unpickling Ray's config imports vLLM, which takes longer than the rest of a node's work.
        """
        if "_llm_config" not in self.__dict__:
            self.__dict__["_llm_config"] = None if self.load_llm_config is None else self.load_llm_config()
        return self.__dict__["_llm_config"]


def set_read_only(ctx: CallbackCtx | NodeCtx, **values: Any) -> None:
    """Set fields that hooks may only read. For the story of the start and the test harness."""
    for name, value in values.items():
        object.__setattr__(ctx, name, value)


def close(ctx: CallbackCtx | NodeCtx) -> None:
    """Refuse further assignments but to ``custom_data``: the engine has been given everything."""
    last_point = "on_before_engine_init" if isinstance(ctx, CallbackCtx) else "on_after_node_download"
    _refuse(ctx, partial(too_late, last_point))


def close_in_background(ctx: CallbackCtx | NodeCtx, until: str, custom_data: dict[str, Any]) -> None:
    """Refuse assignments but to ``custom_data``, which is given: others use the fields at the same time."""
    ctx.__dict__["custom_data"] = custom_data
    refuse = partial(in_background, until)
    if isinstance(ctx, CallbackCtx) and ctx.runtime_env is not None:
        ctx.__dict__["runtime_env"] = ClosedDict(ctx.runtime_env, refuse("runtime_env"))
    _refuse(ctx, refuse)


def _refuse(ctx: CallbackCtx | NodeCtx, refuse: Callable[[str], str]) -> None:
    if isinstance(ctx, CallbackCtx):
        ctx.__dict__["extra_init_kwargs"] = ClosedDict(ctx.extra_init_kwargs, refuse("extra_init_kwargs"))
    ctx.__dict__["_refuse"] = refuse
