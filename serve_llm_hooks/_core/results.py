"""``NodeResult``: what hooks see of one node's work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .download_mode import DownloadMode


@dataclass(frozen=True, slots=True)
class NodeResult:
    """The result of one node's hooks and download.

    Attributes:
        node_id: the node.
        is_local: ``True`` for the replica's own node.
        path: where this node has the model: the download's folder, else the model's own folder or id; ``None`` when
            a hook vetoed the download and set no ``ctx.model_path``.
        custom_data: the node's copy of ``custom_data``, with what its hooks added.
        download_model: the mode that was in force when the download was due.
        skipped: the reason of the veto when a hook skipped the download.
        start_s, end_s: when its work before the engine's start began and ended: seconds since the epoch (virtual on a
            fake cluster).
        download_s: seconds spent in the download alone.
        error: the failure in one line, or ``None``.
        address: the node's IP address; empty where it is not known.
        hostname: the node's name; empty where it is not known.
    """

    node_id: str
    is_local: bool = False
    path: str | None = None
    custom_data: dict[str, Any] = field(default_factory=dict, repr=False)  # it may hold secrets
    download_model: DownloadMode = DownloadMode.MODEL_AND_TOKENIZER
    skipped: str | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    download_s: float = 0.0
    error: str | None = None
    address: str = ""
    hostname: str = ""
