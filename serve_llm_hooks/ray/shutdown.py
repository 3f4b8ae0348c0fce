"""End a replica when Serve does: it awaits the server's ``__del__``, and kills the process when its time is over."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from ray import serve

from .._replica.shutdown import POINT, RESERVED_S, SERVE_DEFAULTS_S, budget_s, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._core.hook import Hook
    from .._replica.initialize import Initialization


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


def stop(run: Initialization | None, end_of_base: Callable[[], Any] | None) -> Any:
    """Return what is to be awaited at the end of a server, if anything: ``on_shutdown``, then the base's own end.

    Args:
        run: the start of this replica; ``None`` where it did not succeed.
        end_of_base: the base's ``__del__``, if it has one.
    """
    if run is not None and run.has_hooks_at_shutdown:  # else there may be nobody who awaits anything: no Serve
        return _stop(run, end_of_base)
    return None if end_of_base is None else end_of_base()


async def _stop(run: Initialization, end_of_base: Callable[[], Any] | None) -> None:
    try:
        await run.shut_down(_budget_s(run.start.llm_config))
    finally:
        ended = None if end_of_base is None else end_of_base()
        if inspect.isawaitable(ended):
            await ended


def _budget_s(llm_config: Any) -> float:
    """Return the seconds that the hooks of this replica have."""
    try:
        of_deployment = serve.get_replica_context()._deployment_config  # what a Serve config overrides is in it
    except Exception:  # no replica of Serve's
        return budget_s(llm_config.deployment_config)
    return budget_s({name: getattr(of_deployment, name, None) for name in SERVE_DEFAULTS_S})


def warn_of_slow_hooks(hooks: Iterable[Hook], model_id: str, deployment_config: Mapping[str, Any]) -> None:
    """Warn of hooks whose ``timeout_s`` is longer than a replica has for its end."""
    has_s = budget_s(deployment_config)
    for hook in hooks:
        wants_s = hook.options.timeout_s or 0.0
        if (
            POINT not in (hook.point, hook.options.until)
            or not hook.options.matches(model_id)
            or (wants_s <= has_s and has_s)
        ):
            continue
        needed_s = (wants_s or 1.0) + seconds_of(deployment_config)[1] + RESERVED_S
        logger.warning(
            "model %r: hook %s %s on_shutdown%s, but its replicas have at most %g s for such hooks before Serve kills "
            "them. Write deployment_config={'graceful_shutdown_timeout_s': %g}, or more.",
            model_id,
            hook.ref,
            "at" if hook.point == POINT else "lasts until",
            f" has timeout_s={wants_s:g}" if wants_s else "",
            has_s,
            needed_s,
        )
