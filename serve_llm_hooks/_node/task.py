"""The data that crosses between the replica and a node: ``NodeTask`` there, ``NodeReport`` back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._core.named_tuple import NamedTuple
from .._core.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.download_mode import DownloadMode
    from .._core.event import HookEvent, StartStep
    from .._core.options import OnError
    from .._core.points import HookName


WhichWeights: TypeAlias = Literal["first", "late", "only"]
"""The part of a model that a task downloads: all of it, all but its weights, or only those."""


class Rollout(NamedTuple):
    """Identify a rollout: the same for all replicas that were rolled out together.

    Attributes:
        deployment: the application and the deployment.
        version: the version of its code and config.
    """

    deployment: str = ""
    version: str = ""


NO_ROLLOUT: Rollout = Rollout()


class PackedHook(NamedTuple):
    """A pickled hook, with what a node must know before it unpickles it, which imports its module.

    Attributes:
        ref: the hook's name, for messages.
        point: the hook point.
        source: the module or file that the node's ``SERVE_LLM_HOOKS_ALLOW`` must allow.
        data: the pickled hook.
        roles: the roles of the engine's processes in which it runs; empty for all but ``"inspection"``.
    """

    ref: str
    point: HookName
    source: str
    data: bytes
    roles: tuple[str, ...] = ()


class NodeTask(NamedTuple):
    """The work for one node. Plain data, and never Ray's config objects: unpickling those imports vLLM.

    Attributes:
        node_id: the node.
        is_local: ``True`` for the replica's own node.
        model_id: the model's id, as clients name it.
        source_id: the model's Hugging Face id, or its folder.
        mirror: the cloud mirror's config (``bucket_uri``, ``extra_files``), or ``None``.
        download_model: which of the model's files to download.
        hooks: the hooks that run there.
        custom_data: the replica's ``custom_data``, pickled key by key.
        llm_config: the pickled config, for hooks that ask for it.
        on_error: the error policy of hooks that have none of their own.
        config_sources: the sources of all hooks in the config: unpickling it may import them.
        config_failure: why the config could not be pickled; raised to a hook that asks for it.
        after_engine: ``True`` for the second task of a node, once the engine is up.
        model_path: where the node has the model, where that is known.
        in_background: ``True`` for a task beside the others, of one hook.
        weights: ``"late"`` for a task that leaves the weights to a later one in the background, which has ``"only"``.
        address, hostname: the node's, empty where they are not known.
        rollout: the replica's, where a hook runs once per node.
    """

    node_id: str
    is_local: bool
    model_id: str
    source_id: str
    mirror: dict[str, Any] | None
    download_model: DownloadMode
    hooks: tuple[PackedHook, ...]
    custom_data: tuple[tuple[str, bytes], ...]
    llm_config: bytes | None
    on_error: OnError
    config_sources: tuple[str, ...] = ()
    config_failure: str = ""
    after_engine: bool = False
    model_path: str | None = None
    in_background: bool = False
    weights: WhichWeights = "first"
    address: str = ""
    hostname: str = ""
    rollout: Rollout = NO_ROLLOUT

    @property
    def node(self) -> Node:
        """The node, as messages name it."""
        return Node(self.node_id, self.address, self.hostname)

    @property
    def download_source(self) -> str:
        """The bucket, and those of the extra files, for messages."""
        mirror = self.mirror or {}
        uris = [mirror.get("bucket_uri"), *(file.get("bucket_uri") for file in mirror.get("extra_files") or ())]
        return ", ".join(str(uri) for uri in uris if uri)


class NodeReport(NamedTuple):
    """The outcome of a node's work, as the node sends it.

    Attributes:
        node_id, is_local: as in the task.
        events: the hook calls there.
        custom_data: the node's ``custom_data``, pickled key by key.
        path: where the node has the model.
        download_model: the mode that was in force when the download was due.
        skipped: the reason of a veto of the download.
        start_s, end_s: when the work started and ended: seconds since the epoch.
        download_s: seconds spent in the download alone.
        failure: the error that ended the work: one of this library's, with the node's traceback in a note.
        weights_due: ``True`` if the weights are still to be downloaded.
        steps: the work itself, and its download.
    """

    node_id: str
    is_local: bool
    events: tuple[HookEvent, ...]
    custom_data: tuple[tuple[str, bytes], ...]
    path: str | None
    download_model: DownloadMode
    skipped: str | None
    start_s: float
    end_s: float
    download_s: float
    failure: Exception | None
    weights_due: bool = False
    steps: tuple[StartStep, ...] = ()


def has_bucket(mirror: Mapping[str, Any] | None) -> bool:
    """Return True if the model lies in a bucket, so that a mode says which of its files are downloaded."""
    return bool(mirror and mirror.get("bucket_uri"))


def wants_download(mirror: Mapping[str, Any] | None, mode: DownloadMode) -> bool:
    """Return True if there is anything to download. Extra files come with any mode, as in Ray."""
    return bool(mirror and ((has_bucket(mirror) and mode) or mirror.get("extra_files")))
