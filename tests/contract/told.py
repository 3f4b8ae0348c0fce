"""Tell the result of a start in a form that is the same wherever it ran: plain data, without ids, paths and times."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from serve_llm_hooks import HOOK_POINTS, HookError, NodeInitializationError, NodeLostError
from serve_llm_hooks._core.errors import EngineArgumentError, HookLoadError, HookOrderError, HookPickleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from serve_llm_hooks import CallbackCtx, HookEvent
    from serve_llm_hooks._core.node import Node

Told: TypeAlias = dict[str, Any]

# Errors whose text is the library's own, and not Ray's or a downloader's: it must be the same too.
_OUR_WORDS = (EngineArgumentError, HookError, HookLoadError, HookOrderError, HookPickleError)
_RAYS_WORDS = "Failed to create vLLM engine config: "
# What a scenario did not ask for.
_HARNESS = ("tests.contract.strikes:", "serve_llm_hooks_testing.")


class Names:
    """Names for what a wing names in its own way."""

    def __init__(self, nodes: Sequence[Node], paths: Callable[[str], str]) -> None:
        self._nodes = {str(node): f"node node-{index}" for index, node in enumerate(nodes)}
        self._node_ids = {node.node_id: f"node-{index}" for index, node in enumerate(nodes)}
        self._paths = paths

    def node(self, node_id: str) -> str:
        """``node-0``, … in the order of the run's nodes."""
        return self._node_ids.get(node_id, node_id)

    def text(self, text: str) -> str:
        """A text without this wing's ids and paths."""
        for node_id, name in {**self._nodes, **self._node_ids}.items():
            text = text.replace(node_id, name)
        return self._paths(text)

    def plain(self, value: object) -> Any:
        """A value as JSON has it."""
        if isinstance(value, Enum):
            return value.name
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.plain(held) for key, held in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(held) for held in value]
        if type(value).__name__ in ("PlacementGroup", "FakePlacementGroup"):
            return "<a placement group>"
        if is_dataclass(value) and not isinstance(value, type):
            return {
                type(value).__name__: {field.name: self.plain(getattr(value, field.name)) for field in fields(value)}
            }
        return f"<{type(value).__name__}>"


def told_error(error: BaseException | None, names: Names) -> Told | None:
    """An error: its type, what it is about, and those in it."""
    if error is None:
        return None
    # Ray's config raises pydantic's, which is a ValueError.
    told: Told = {"type": "ValueError" if type(error).__name__ == "ValidationError" else type(error).__name__}
    if isinstance(error, NodeInitializationError):
        told["nodes"] = [names.node(node_id) for node_id in error.node_ids]
        told["lines"] = len(str(error).splitlines())
        told["errors"] = [told_error(each, names) for each in error.exceptions]
        return told
    if isinstance(error, _OUR_WORDS):
        told["message"] = _without_ids(names.text(str(error)))
    elif str(error).startswith(_RAYS_WORDS):
        told["message"] = str(error).partition(" [type=")[0]  # what follows is pydantic's, with the value
    if isinstance(error, HookError):
        told |= {"hook": error.hook, "point": error.point, "model": error.model_id}
        told |= {"process": error.process} if error.process else {}
    if hasattr(error, "node_id"):
        told["node"] = error.node_id and names.node(error.node_id)
    if hasattr(error, "remote_traceback"):
        told["remote traceback"] = bool(error.remote_traceback)
    # Of a lost node, the cause is an error of Ray's own.
    told["cause"] = None if isinstance(error, NodeLostError) else error.__cause__ and type(error.__cause__).__name__
    return told


def told_refusal(error: Exception) -> Told:
    """Return what is told where there is no start: the config is refused, or cannot be sent."""
    return {"error": told_error(error, Names((), str))}


def told_start(
    *,
    error: BaseException | None,
    ctx: CallbackCtx | None,
    output: object,
    default_group: object,
    group_nodes: Callable[[Any], Iterable[str]],
    engine: Mapping[str, Any] | None,
    names: Names,
) -> Told:
    """All of a start that must be the same on both wings."""
    told: Told = {"error": told_error(error, names)}
    if ctx is None:
        return told
    events = [event for event in ctx.trace if not event.hook.startswith(_HARNESS)]
    told |= _told_trace(events, ctx, names)
    told["order of nodes"] = [names.node(node_id) for node_id in ctx.nodes]
    told["nodes"] = {
        names.node(node_id): {
            "is local": node.is_local,
            "path": names.plain(node.path),
            "mode": names.plain(node.download_model),
            "skipped": node.skipped,
            "custom data": names.plain(_without_slots(node.custom_data)),
            "failed": bool(node.error),
            "cancelled": bool(node.error) and "cancelled" in str(node.error),
            "worked": node.end_s > node.start_s,
            "downloaded": node.download_s > 0,
        }
        for node_id, node in ctx.nodes.items()
    }
    told["ctx"] = {
        "custom data": names.plain(_without_slots(ctx.custom_data)),
        "model path": names.plain(ctx.model_path),
        "modes": names.plain([ctx.worker_node_download_model, ctx.local_node_download_model]),
        "run_init_node": ctx.run_init_node,
        "error is the one raised": ctx.error is error,
        "engine": ctx.engine is not None,
    }
    if output is not None:
        group = output.placement_group  # type: ignore[attr-defined]  # typed as object: both wings' outputs
        told["output"] = {
            "group": [names.node(node_id) for node_id in group_nodes(group)],
            "the default group": group == default_group,
            "runtime env": _told_env(output.runtime_env),  # type: ignore[attr-defined]  # typed as object
            "extra init kwargs": names.plain(output.extra_init_kwargs),  # type: ignore[attr-defined]  # typed as object
        }
    told["engine"] = engine and names.plain(dict(engine))
    return told


def _told_trace(events: Sequence[HookEvent], ctx: CallbackCtx, names: Names) -> Told:
    on_nodes: dict[str, list[HookEvent]] = {}
    after_engine: dict[str, list[HookEvent]] = {}
    in_replica: list[HookEvent] = []
    in_processes: dict[str, list[HookEvent]] = {}  # of the engine
    in_background: dict[str, list[HookEvent]] = {}
    second = {event.process_id for event in events if _is_after_engine(event) and event.ran}
    replica = ctx.trace.process_id
    for event in events:
        nowhere = event.outcome == "skipped"  # no node was touched
        if event.process and event.process_id != replica:
            in_processes.setdefault(event.process, []).append(event)
        elif event.process_id == replica and (nowhere or not HOOK_POINTS[event.point].on_node):
            in_replica.append(event)
        elif event.name.startswith("background_") and event.ran:
            in_background.setdefault(event.node_id, []).append(event)
        else:
            is_second = _is_after_engine(event) or (event.ran and event.process_id in second)
            (after_engine if is_second else on_nodes).setdefault(event.node_id, []).append(event)
    tasks = [*on_nodes.values(), *after_engine.values(), *in_processes.values()]
    ids = [{event.process_id for event in of_task if event.ran} for of_task in tasks]
    ids += [{event.process_id} for of_node in in_background.values() for event in of_node]
    processes = [of_node for of_node in ids if of_node]  # a disabled hook has no process

    def told_nodes(of_nodes: dict[str, list[HookEvent]]) -> Told:
        return {
            names.node(node_id): {
                "hooks": [_told_event(event, names) for event in of_node],
                "after": _last_before(in_replica, of_node[0].start_s),
                "before": _first_after(in_replica, of_node[-1].end_s),
            }
            for node_id, of_node in sorted(of_nodes.items(), key=lambda item: names.node(item[0]))
        }

    told_background = {
        names.node(node_id): sorted(_told_event(event, names) for event in of_node)
        for node_id, of_node in sorted(in_background.items(), key=lambda item: names.node(item[0]))
    }
    return {
        "replica": [_told_event(event, names) for event in in_replica],
        "on nodes": told_nodes(on_nodes),
        **({"on nodes after the engine": told_nodes(after_engine)} if after_engine else {}),
        **({"in processes": _told_processes(in_processes, names)} if in_processes else {}),
        **({"in the background": told_background} if in_background else {}),
        "each in a process of its own": (
            {len(of_node) for of_node in processes} <= {1} and len({replica}.union(*processes)) == len(processes) + 1
        ),
        "in order": all(
            a.start_s <= a.end_s <= b.start_s
            for of_process in (in_replica, *tasks)
            for a, b in pairwise(event for event in of_process if not event.name.startswith("background_"))
        ),
    }


def _told_processes(in_processes: Mapping[str, Sequence[HookEvent]], names: Names) -> Told:
    return {
        process: {
            "hooks": [_told_event(event, names) for event in of_process],
            "nodes": sorted({names.node(event.node_id) for event in of_process}),
        }
        for process, of_process in in_processes.items()
    }


def _is_after_engine(event: HookEvent) -> bool:
    row = HOOK_POINTS[event.point]
    return row.on_node and row.after_engine and event.outcome != "skipped"


def _told_event(event: HookEvent, names: Names) -> str:
    detail = f": {_without_ids(names.text(event.detail))}" if event.detail else ""
    part = " after the yield:" if event.is_finish else ""
    return f"{event.point} {event.hook.removeprefix('tests.contract.hooks:')}{part} {event.outcome}{detail}"


def _without_ids(text: str) -> str:
    return re.sub(r"\bprocess \d+", "process <id>", text)


def _last_before(events: Sequence[HookEvent], moment_s: float) -> str | None:
    return next((event.name for event in reversed(events) if event.end_s <= moment_s), None)


def _first_after(events: Sequence[HookEvent], moment_s: float) -> str | None:
    return next((event.name for event in events if event.start_s >= moment_s), None)


def _without_slots(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "slots"}


def _told_env(runtime_env: Mapping[str, Any] | None) -> Any:
    """Ray adds the replica's own CUDA and vLLM variables, which depend on the machine."""
    if runtime_env is None:
        return None
    variables = runtime_env.get("env_vars", {})
    return {
        **{key: value for key, value in runtime_env.items() if key != "env_vars"},
        "env_vars": {name: value for name, value in variables.items() if name.startswith("CONTRACT")},
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two told starts differ: ``path: this / that``, one line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in dict.fromkeys((*one, *other))
            for line in differences(one.get(key, "(nothing)"), other.get(key, "(nothing)"), f"{where}/{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line for i, pair in enumerate(zip(one, other, strict=True)) for line in differences(*pair, f"{where}/{i}")
        ]
    return [] if one == other and type(one) is type(other) else [f"{where}: {one!r} / {other!r}"]
