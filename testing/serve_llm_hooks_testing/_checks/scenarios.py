"""The scenarios in which ``check_hooks`` runs hooks."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_llm_hooks import DownloadError, Hook, HookRegistry, NodeInitializationError, skip
from serve_llm_hooks._observe.announce import LEFT_OUT_BY
from serve_llm_hooks._sources.select import UNMATCHED

from ..faults import Fault, engine_fails, failing_download, replica_dies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import CallbackCtx, Skip

_FIRST = -(2**31)
_ENGINE_ERROR = "the engine does not start (check_hooks)"

_REASONS = ("check_hooks vetoes the downloads", "check_hooks skips the defaults")

_vetoes = HookRegistry()


@_vetoes.hook("on_before_download", order=_FIRST)
def _veto_downloads(ctx: CallbackCtx) -> Skip:
    return skip(_REASONS[0])


@_vetoes.hook("on_before_init", order=_FIRST)
def _veto_defaults(ctx: CallbackCtx) -> Skip:
    return skip(_REASONS[1])


def _is_download_error(error: Exception) -> bool:
    return isinstance(error, NodeInitializationError) and all(isinstance(e, DownloadError) for e in error.exceptions)


def _is_engine_error(error: Exception) -> bool:
    return str(error) == _ENGINE_ERROR


@contextmanager
def without_own_warnings() -> Iterator[None]:
    """Keep out of the log what only the scenarios cause: their vetoes, and models that not all of the hooks are for."""
    logger = logging.getLogger("serve_llm_hooks")
    logger.addFilter(_is_not_ours)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    left_out_by = str(getattr(record, LEFT_OUT_BY, ""))
    return not hasattr(record, UNMATCHED) and not left_out_by.endswith(_REASONS)


@dataclass(frozen=True)
class Scenario:
    """A start in which the checked hooks run. ``is_expected`` returns whether the faults cause an error of it."""

    name: str
    nodes: int
    faults: tuple[Fault, ...] = ()
    hooks: tuple[Callable[..., object] | Hook, ...] = ()
    is_expected: Callable[[Exception], bool] = lambda error: False


SCENARIOS = (
    Scenario("on one node", 1),
    Scenario("on three nodes", 3),
    Scenario("with downloads vetoed", 2, hooks=(_veto_downloads,)),
    Scenario("with the defaults skipped", 2, hooks=(_veto_defaults,)),
    Scenario("with a failing download", 2, (failing_download("node-1"),), is_expected=_is_download_error),
    Scenario("with an engine that does not start", 1, (engine_fails(_ENGINE_ERROR),), is_expected=_is_engine_error),
    Scenario("after a restart of the replica", 2, (replica_dies(at="on_before_engine_init"),)),
)
