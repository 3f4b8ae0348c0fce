"""``hook_trace``: ask a running application what its hooks did."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from .._core.errors import HookTraceError
from .._core.messages import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.trace import Trace

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_TRIES = 4  # requests for each replica: Serve chooses which of them answers


def hook_trace(app_name: str = "default", *, timeout_s: float = 30.0) -> dict[str, Trace]:
    """Return the traces of a running application: of each replica that runs hooks, that of its start.

    Serve chooses which replica answers, so of many replicas some may be missing, and one may give no answer: a
    warning in the log says how many. Where this process is connected to no Ray, it is for the time of this call, to the
    one that ``RAY_ADDRESS`` names, or that runs on this machine.

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
        traces: dict[str, Trace] = {}
        silent: list[str] = []
        incomplete: list[str] = []
        for name, status in _deployments(app_name).items():
            count = status.replica_states.get("RUNNING", 0)
            found, error = _starts(name, app_name, count, timeout_s)
            why = f": {one_line(error)[:_SHOWN]}" if error else ""
            if not found:
                silent.append(f"{name}{why}" if count else f"{name} has no running replica")
            runs_hooks = found or isinstance(error, TimeoutError)  # unlike the ingress
            if runs_hooks and len(found) < count:
                incomplete.append(f"{len(found)} of {count} running replicas of {name}{why}")
            for number, trace in enumerate(found, 1):
                traces[name if number == 1 else f"{name} #{number}"] = trace
    if not traces:
        raise HookTraceError(
            f"no deployment of application {app_name!r} says what its hooks did: {'; '.join(silent)}. "
            "hook_trace() is a method of servers that serve_llm_hooks.ray has hooked"
        )
    if incomplete:
        logger.warning("application %r: not all have said what their hooks did: %s", app_name, "; ".join(incomplete))
    return traces


def _deployments(app_name: str) -> dict[str, Any]:
    applications = serve.status().applications
    if app_name not in applications:
        names = ", ".join(map(repr, applications)) or "none"
        raise HookTraceError(
            f"there is no application {app_name!r}{did_you_mean(app_name, applications)}; those that there are: {names}"
        )
    deployments: dict[str, Any] = applications[app_name].deployments
    return deployments


_SHOWN = 200  # characters of an error


def _starts(deployment: str, app_name: str, count: int, timeout_s: float) -> tuple[list[Trace], Exception | None]:
    """Return the trace of each replica that has answered, and the last error of those that have not."""
    found: dict[tuple[object, ...], Trace] = {}
    errors: list[Exception] = []
    for _ in range(count * _TRIES):
        try:
            handle = serve.get_deployment_handle(deployment, app_name)
            trace: Trace = handle.hook_trace.remote().result(timeout_s=timeout_s)
            found[trace.node_id, trace.process_id, trace.events] = trace
        except Exception as error:
            errors.append(error)
        if count in (len(found), len(errors)):
            break
    return list(found.values()), errors[-1] if errors else None


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
