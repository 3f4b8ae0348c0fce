"""``Notify``: tell a webhook when a deployment is ready, has failed, or stops."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from serve_llm_hooks import NodeInitializationError, RayServeLLMCallback

from . import _arguments
from ._webhook import post

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import CallbackCtx

_logger = logging.getLogger("serve_llm_hooks.recipes")

_EVENTS = ("ready", "failure", "shutdown")
_NAMESPACE = "serve_llm_hooks.recipes"  # of Ray's key-value store
_LONGEST = 2000  # characters of a failure's text


class Notify(RayServeLLMCallback):
    """Post to a webhook when a replica is ready, has failed or stops. It never ends a start, nor holds it up for long.

    A failure is told once for a rollout, and not once for each try of Serve; after an hour of tries, again.

    Args:
        url: the webhook, or ``"$NAME"`` for a variable of the replica's environment: a webhook is often a secret.
        events: which of ``"ready"``, ``"failure"`` and ``"shutdown"`` are told.
        style: ``"json"`` or ``"slack"``; left out, what the address says.
        timeout_s: how long a webhook may take to answer.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> hooks = [{"hook": Notify, "kwargs": {"url": "$NO_SUCH_VARIABLE", "events": ["failure"]}}]
        >>> [event.name for event in FakeCluster().run(FakeLLMConfig("m", hooks=hooks)).trace]
        ['on_after_init']
    """

    checks_arguments = True

    def __init__(
        self, url: str, *, events: Sequence[str] = _EVENTS, style: str | None = None, timeout_s: float = 5
    ) -> None:
        """Check the arguments. No message has the address: it may be a secret."""
        _arguments.text("url", url, "the webhook, or '$NAME' for a variable of the environment")
        if not url.startswith(("http://", "https://")) and not (url[0] == "$" and url[1:].isidentifier()):
            raise ValueError("url= begins with https:// or http://, or is '$NAME' for a variable of the environment")
        self.events: tuple[str, ...] = _arguments.texts("events", events, list(_EVENTS))
        for event in self.events:
            _arguments.one_of("events", event, *_EVENTS)
        _arguments.one_of("style", style, "json", "slack", None)
        _arguments.number("timeout_s", timeout_s, least=0.001, most=60)
        self.url: str = url
        self.style: str | None = style
        self.timeout_s: float = timeout_s

    def on_after_init(self, ctx: CallbackCtx) -> None:
        """Tell that it is ready; the next failure is told again."""
        _forget(ctx)
        self._tell(ctx, "ready", f"{ctx.model_id} is ready")

    def on_failure(self, ctx: CallbackCtx) -> None:
        """Tell why it has failed, and where, unless this has been told."""
        if "failure" in self.events and not _was_told(ctx):
            nodes = list(ctx.error.node_ids) if isinstance(ctx.error, NodeInitializationError) else []
            why = f"{type(ctx.error).__name__}: {ctx.error}"[:_LONGEST]
            self._tell(ctx, "failure", f"{ctx.model_id} has failed to start: {why}", error=why, nodes=nodes)

    def on_shutdown(self, ctx: CallbackCtx) -> None:
        """Tell that it stops."""
        self._tell(ctx, "shutdown", f"{ctx.model_id} stops")

    def _tell(self, ctx: CallbackCtx, event: str, text: str, **more: Any) -> None:
        if event not in self.events:
            return
        try:
            url = os.environ[self.url[1:]] if self.url.startswith("$") else self.url
            is_slack = self.style == "slack" or (self.style is None and urlsplit(url).hostname == "hooks.slack.com")
            body = {"event": event, "model_id": ctx.model_id, **_deployment(), "text": text, **more}
            post(url, {"text": text} if is_slack else body, self.timeout_s)
        except Exception as error:  # whatever is wrong with a webhook, the model is served
            what = error if isinstance(error, ConnectionError) else type(error).__name__
            missing = f"{self.url[1:]} is not set" if isinstance(error, KeyError) else what
            _logger.warning("model %r: %r could not be told: %s", ctx.model_id, event, missing)


def _deployment() -> dict[str, str]:
    """Return the names of the deployment; nothing outside of Serve."""
    serve: Any = sys.modules.get("ray.serve")
    try:
        context = serve.get_replica_context()
    except Exception:  # there is no Ray Serve here, or this is no replica of its
        return {}
    version = str(getattr(context, "code_version", None) or "")
    return {"application": context.app_name, "deployment": context.deployment, "version": version}


def _key(ctx: CallbackCtx) -> str:
    return "/".join(["failure told", ctx.model_id, *_deployment().values()])


def _is_connected() -> bool:
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _was_told(ctx: CallbackCtx) -> bool:
    """Return whether a try of this rollout has told its failure, within the hour; note that this one does."""
    if not _is_connected():
        return False
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    key, now = _key(ctx), f"{time.time():.0f}".encode()
    if not _internal_kv_put(key, now, overwrite=False, namespace=_NAMESPACE):
        return False
    told = _internal_kv_get(key, namespace=_NAMESPACE)
    if told and time.time() - float(told) < 3600:
        return True
    _internal_kv_put(key, now, overwrite=True, namespace=_NAMESPACE)
    return False


def _forget(ctx: CallbackCtx) -> None:
    if _is_connected():
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(_key(ctx), namespace=_NAMESPACE)
