"""``Notify``: tell a webhook when a deployment is ready, has failed, or stops."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from serve_llm_hooks import NodeInitializationError, RayServeLLMCallback

from . import _arguments
from ._notified import deployment, forget, is_notified, remember
from ._stores.places import is_fake
from ._webhook import post

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serve_llm_hooks import CallbackCtx

_logger = logging.getLogger("serve_llm_hooks.recipes")

_EVENTS = ("ready", "failure", "shutdown")
_POSTED_S = 10.0  # besides timeout_s: so long after it began to post, a replica that has told nothing was killed
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
        if "failure" in self.events:
            with _logged(ctx, "whether a failure has been told cannot be reset"):
                forget(ctx)
        self._tell(ctx, "ready", f"{ctx.model_id} is ready")

    def on_failure(self, ctx: CallbackCtx) -> None:
        """Tell why it has failed, and where, unless this has been told."""
        if "failure" not in self.events:
            return
        told = False  # better told twice than never
        with _logged(ctx, "whether its failure has been told is not known"):
            told = is_notified(ctx, self.timeout_s + _POSTED_S)
        if told:
            return
        nodes = list(ctx.error.node_ids) if isinstance(ctx.error, NodeInitializationError) else []
        why = f"{type(ctx.error).__name__}: {ctx.error}"[:_LONGEST]
        told = self._tell(ctx, "failure", f"{ctx.model_id} has failed to start: {why}", error=why, nodes=nodes)
        with _logged(ctx, "whether the next try tells its failure is not known"):
            remember(ctx) if told else forget(ctx)

    def on_shutdown(self, ctx: CallbackCtx) -> None:
        """Tell that it stops."""
        self._tell(ctx, "shutdown", f"{ctx.model_id} stops")

    def _tell(self, ctx: CallbackCtx, event: str, text: str, **more: Any) -> bool:
        """Return whether it is told."""
        if event not in self.events:
            return False
        if is_fake():
            _logger.info("model %r: %r is not told: a FakeStore stands for the webhook", ctx.model_id, event)
            return True
        try:
            url = os.environ[self.url[1:]] if self.url.startswith("$") else self.url
            is_slack = self.style == "slack" or (self.style is None and urlsplit(url).hostname == "hooks.slack.com")
            body = {"event": event, "model_id": ctx.model_id, **deployment(), "text": text, **more}
            post(url, {"text": text} if is_slack else body, self.timeout_s)
        except Exception as error:  # whatever is wrong with a webhook, the model is served
            what = error if isinstance(error, ConnectionError) else type(error).__name__
            missing = f"{self.url[1:]} is not set" if isinstance(error, KeyError) else what
            _logger.warning("model %r: %r could not be told: %s", ctx.model_id, event, missing)
            return False
        return True


@contextmanager
def _logged(ctx: CallbackCtx, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever is wrong with Ray's key-value store, the model is served
        _logger.warning("model %r: %s: %s", ctx.model_id, what, type(error).__name__)
