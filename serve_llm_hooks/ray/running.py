"""``hook_trace``: ask a running application what its hooks did."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from .._core.errors import HookTraceError
from .._core.messages import did_you_mean, one_line
from .._core.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.trace import HookEvent

_TRIES = 4  # requests for each replica: Serve chooses which of them answers


def hook_trace(app_name: str = "default", *, timeout_s: float = 30.0) -> dict[str, Trace]:
    """Return the hook calls of a running application: of each replica that runs hooks, those of its start.

    Serve chooses which replica answers, so of many replicas some may be missing. Where this process is connected to
    no Ray, it is for the time of this call, to the one that ``RAY_ADDRESS`` names, or that runs on this machine.

    Args:
        app_name: the application's name.
        timeout_s: seconds that an answer may take.

    Returns:
        The traces, by the names of the deployments; ``"LLMServer:llama #2"`` is a second replica.

    Raises:
        HookTraceError: there is no such Ray or application, or none of its deployments runs hooks.

    Example:
        >>> print(hook_trace("llm")["LLMServer:llama-3-8b"])  # doctest: +SKIP
    """
    with _connected():
        applications = serve.status().applications
        if app_name not in applications:
            names = ", ".join(map(repr, applications)) or "none"
            raise HookTraceError(
                f"there is no application {app_name!r}{did_you_mean(app_name, applications)}; those that there are: "
                f"{names}"
            )
        deployments = applications[app_name].deployments
        traces: dict[str, Trace] = {}
        silent: list[str] = []
        for name, status in deployments.items():
            count = status.replica_states.get("RUNNING", 0)
            try:
                found = _starts(name, app_name, count, timeout_s)
            except Exception as error:  # the ingress, whose class is not hooked
                silent.append(f"{name}: {one_line(error)[:_SHOWN]}" if count else f"{name} has no running replica")
                continue
            for number, events in enumerate(found, 1):
                trace = Trace()
                trace.extend(events)
                traces[name if number == 1 else f"{name} #{number}"] = trace
    if not traces:
        raise HookTraceError(
            f"no deployment of application {app_name!r} says what its hooks did: {'; '.join(silent)}. "
            "hook_trace() is a method of servers that serve_llm_hooks.ray has hooked"
        )
    return traces


_SHOWN = 200  # characters of an error


def _starts(deployment: str, app_name: str, count: int, timeout_s: float) -> list[tuple[HookEvent, ...]]:
    """Return the events of each replica that has answered."""
    if not count:
        raise HookTraceError(f"{deployment} has no running replica")
    handle = serve.get_deployment_handle(deployment, app_name)
    found: dict[Any, None] = {}
    for _ in range(count * _TRIES):
        found[tuple(handle.hook_trace.remote().result(timeout_s=timeout_s))] = None
        if len(found) == count:
            break
    return list(found)


@contextmanager
def _connected() -> Iterator[None]:
    """Be connected to a Ray that is there, and start none.

    Raises:
        HookTraceError: there is none.
    """
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise HookTraceError(
            f"no Ray cluster can be reached ({one_line(error)[:_SHOWN]}): set RAY_ADDRESS, or run this on a node of it"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
