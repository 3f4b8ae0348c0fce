"""Give a hook that is called alone what a run gives it, and refuse what a run refuses."""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS, CallbackCtx, EngineProcessCtx, HookPickleError, NodeCtx
from serve_llm_hooks._core.context import close, close_in_background, set_read_only
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._core.points import HOOK_NAMES
from serve_llm_hooks._node.packing import pack_custom_data
from serve_llm_hooks._replica.engine_args import split_engine_kwargs
from serve_llm_hooks._replica.given_config import GivenConfig
from serve_llm_hooks._replica.placement import is_same_group, replaced_too_late

from ..placement_group import FakePlacementGroup
from .defaults import defaults_of
from .engine_args import argument_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serve_llm_hooks import Hook, HookName, NodeResult

_NO_PATH = "_path_comes_from_the_download"


def settings_of(config: Any, nodes: Mapping[str, NodeResult]) -> dict[str, Any]:
    """Return the fields that a run's ``ctx`` takes from the config and the cluster; none for a config of no kind."""
    if not hasattr(config, "model_loading_config"):
        return {}
    defaults = defaults_of(config)
    return {
        "worker_node_download_model": defaults.download_model,
        "runtime_env": copy.deepcopy(defaults.runtime_env),
        "placement_group": FakePlacementGroup(list(nodes) or ["node-0"]),
    }


def forget_path(ctx: CallbackCtx | NodeCtx) -> None:
    """Let the download give the model's path, at the points behind it."""
    ctx.__dict__[_NO_PATH] = True


@contextmanager
def as_in_a_run(point: HookName, ctx: CallbackCtx | NodeCtx | EngineProcessCtx, notes: list[str]) -> Iterator[None]:
    """Give a hook what a run gives it, and refuse what a run refuses.

    Args:
        point: the hook point.
        ctx: the hook's context.
        notes: gets what a run may refuse, depending on the other hooks.

    Raises:
        HookPickleError, EngineArgumentError, PlacementGroupError: the hook did what a run refuses.
    """
    if isinstance(ctx, EngineProcessCtx):
        yield
        return
    if ctx.__dict__.get(_NO_PATH) and ctx.model_path is None:
        set_read_only(ctx, model_path=_downloaded_path(point, ctx))
    if isinstance(ctx, NodeCtx):
        with _closed(ctx) if HOOK_POINTS[point].after_engine else nullcontext():
            yield
        pack_custom_data(ctx.custom_data, where=str(Node(ctx.node_id, ctx.address, ctx.hostname)))
    elif HOOK_POINTS[point].after_engine or (point == "on_failure" and ctx.engine is not None):
        with _closed(ctx):
            yield
    else:
        given, group = GivenConfig(ctx.llm_config), ctx.placement_group
        yield
        _check_replica(point, ctx, given, group)
        notes.extend(_unsendable(point, ctx))


@contextmanager
def beside_others(hook: Hook, ctx: CallbackCtx | NodeCtx | EngineProcessCtx) -> Iterator[None]:
    """Refuse what a hook of the background cannot change; others can again afterwards."""
    if not hook.is_background or isinstance(ctx, EngineProcessCtx):
        yield
        return
    before: dict[str, Any] = {
        name: ctx.__dict__[name] for name in ("extra_init_kwargs", "runtime_env") if name in ctx.__dict__
    }
    close_in_background(ctx, hook.options.until or "", ctx.custom_data)
    try:
        yield
    finally:
        del ctx.__dict__["_refuse"]
        ctx.__dict__.update(before)


def _downloaded_path(point: HookName, ctx: CallbackCtx | NodeCtx) -> str | None:
    """Return the path that a download has given by the time of a point; ``None`` before, and where it is not known."""
    config = ctx.llm_config
    first = "on_after_node_download" if isinstance(ctx, NodeCtx) else "on_after_download"
    if HOOK_POINTS[point].during == "failure" or HOOK_NAMES.index(point) < HOOK_NAMES.index(first):
        return None
    if not hasattr(config, "model_loading_config"):
        return None
    nodes = () if isinstance(ctx, NodeCtx) else ctx.nodes.values()
    told = next((node.path for node in nodes if node.path is not None), None)
    defaults = defaults_of(config)
    mode = ctx.download_model if isinstance(ctx, NodeCtx) else ctx.worker_node_download_model
    arrives = bool(mode and (defaults.mirror or {}).get("bucket_uri"))
    return told or (f"/models/{defaults.source_id}" if arrives else defaults.source_id)


@contextmanager
def _closed(ctx: CallbackCtx | NodeCtx) -> Iterator[None]:
    """Refuse assignments, as when the engine has been given everything; afterwards the test's own are let through."""
    kwargs = ctx.__dict__.get("extra_init_kwargs")
    close(ctx)
    try:
        yield
    finally:
        del ctx.__dict__["_refuse"]
        if kwargs is not None:  # a node's has none
            ctx.__dict__["extra_init_kwargs"] = kwargs


def _check_replica(point: HookName, ctx: CallbackCtx, given: GivenConfig, group: object) -> None:
    if hasattr(ctx.llm_config, "model_id"):
        given.check(point)
    if point == "on_before_engine_init" and not is_same_group(ctx.placement_group, group):
        raise replaced_too_late(ctx.model_id)
    current = getattr(ctx.llm_config, "engine_kwargs", None) or {}
    # Their names are not checked: a vLLM may know more than this harness, and only a cluster has more_engine_args=.
    split_engine_kwargs(ctx.extra_init_kwargs, engine_names=None, frontend_names=argument_names()[1], current=current)


def _unsendable(point: HookName, ctx: CallbackCtx) -> Iterator[str]:
    """Yield what is wrong with ``custom_data`` if there are hooks on nodes, which it is sent to."""
    if HOOK_NAMES.index(point) < HOOK_NAMES.index("on_after_download"):
        try:
            pack_custom_data(ctx.custom_data, where="the replica")
        except HookPickleError as error:
            yield f"{error} (a run refuses this if a hook runs on nodes)"
