"""The turn of a process to run a hook that runs once per node, and what it leaves for the others."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from .._core.errors import HookPickleError
from .._core.hook import Hook
from .._core.messages import one_line
from .._core.named_tuple import NamedTuple
from .._core.snapshot import unchanging
from .._core.veto import InvalidResult, Skip, decide
from .packing import pack_custom_data, unpack_custom_data, with_changes

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .._core.context import NodeCtx
    from .node_folder import NodeFolder, NodeLock

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_KEPT = 4  # rollouts whose results are kept: while one replaces another, replicas of both start
_FIELDS = ("model_path", "download_model")


class Result(NamedTuple):
    """Hold the outcome of a hook for the processes that take it over.

    Attributes:
        process_id: the process that ran it.
        custom_data: what it has set in ``custom_data``, pickled key by key.
        removed: the keys that it has removed there.
        fields: the fields of ``ctx`` that it has set.
        path: the path that it has set, if that was there when it ended.
        veto: the reason of its veto; ``None`` if it did not veto.
    """

    process_id: int
    custom_data: tuple[tuple[str, bytes], ...]
    removed: tuple[str, ...]
    fields: dict[str, Any]
    path: str | None
    veto: str | None

    @property
    def is_there(self) -> bool:
        """``True`` unless the path that the hook has set is gone."""
        return self.path is None or os.path.exists(self.path)


class Turn:
    """The turn of this process to run a hook: it holds the lock until the hook's own code has ended.

    That may be after its time limit: a thread cannot be stopped.
    """

    def __init__(self, hook: Hook, ctx: NodeCtx, lock: NodeLock, folder: NodeFolder, name: str, version: str) -> None:
        self.hook = hook
        self._ctx = ctx
        self._lock = lock
        self._folder = folder
        self._name = name
        self._version = version
        self._guard = threading.Lock()
        self._state = "waiting"  # then "at work", "late" or "over"
        self._given: tuple[tuple[str, bytes], ...] = ()
        self._fields: dict[str, Any] = {}

    def results(self) -> dict[str, Result]:
        """Return the results that are kept, by version, the newest last."""
        found = self._folder.read(self._name)
        return found if isinstance(found, dict) else {}

    def begin(self) -> None:
        """Note that the hook begins, and what it is given.

        Raises:
            CancelledError: its turn is over before it has come to it.
            HookPickleError: what it is given cannot be pickled.
        """
        with self._guard:
            if self._state == "over":
                raise asyncio.CancelledError
            self._state = "at work"
        ctx = self._ctx
        self._given = _packed(ctx)
        self._fields = {name: getattr(ctx, name) for name in _FIELDS}
        self._lock.note(self._folder.process_id)

    def end(self, result: object) -> None:
        """Keep what the hook has come to, unless its result is a mistake, or it comes too late."""
        decision = decide(result, self.hook.point)
        with self._guard:
            is_late = self._state == "late"
        if is_late or isinstance(decision, InvalidResult):
            self.has_failed()
            return
        try:
            results = self.results()
            results.pop(self._version, None)
            results[self._version] = self._result(decision)
            for old in list(results)[:-_KEPT]:
                del results[old]
            self._folder.write(self._name, results)
        except OSError as error:  # the hook has done its work
            text = "%s is run again by the next process on this node: what it has come to cannot be noted, %s"
            logger.warning(text, self.hook.ref, one_line(error))
        except BaseException:
            self.has_failed()
            raise
        self.has_failed()

    def has_failed(self) -> None:
        """End without a result: the next process runs the hook, and finds nothing of this one."""
        self._lock.note(None)
        self.was_ended()

    def was_ended(self) -> None:
        """End half-way: the next process runs the hook, and knows."""
        self._state = "over"
        self._lock.release()

    def go_on(self) -> None:
        """Let a hook that was given up, and is still at work, leave nothing: others change ``ctx`` from now on."""
        with self._guard:
            if self._state == "at work":
                self._state = "late"

    def close(self) -> None:
        """End it if the hook has never begun. One that is at work in its thread ends it later."""
        with self._guard:
            if self._state != "waiting":
                return
            self._state = "over"
        self._lock.release()

    def _result(self, veto: Skip | None) -> Result:
        ctx = self._ctx
        given = unpack_custom_data(self._given, where="here")
        now = unchanging(lambda: dict(ctx.custom_data))
        fields = {name: getattr(ctx, name) for name in _FIELDS}
        fields = {name: value for name, value in fields.items() if value != self._fields[name]}
        path = fields.get("model_path")
        return Result(
            process_id=self._folder.process_id,
            custom_data=_packed(ctx, with_changes({}, given, now)),
            removed=tuple(key for key in given if key not in now),
            fields=fields,
            path=path if path and os.path.exists(path) else None,
            veto=None if veto is None else veto.reason,
        )


class TurnHook(Hook):
    """A hook whose end is noted for the other processes of the node, by the code that calls it."""

    __slots__ = ("_call", "_turn")

    def __init__(self, hook: Hook, turn: Turn) -> None:
        for name in Hook.__slots__:
            setattr(self, name, getattr(hook, name))
        self._call = hook.call
        self._turn = turn
        self.call = self._run
        self.must_run_alone = True

    def _run(self, ctx: Any) -> Any:
        try:
            self._turn.begin()
            result = self._call(ctx)
        except BaseException:
            self._turn.has_failed()
            raise
        if hasattr(type(result), "__await__"):
            return self._await(result)
        self._turn.end(result)
        return result

    async def _await(self, awaitable: Awaitable[Any]) -> Any:
        try:
            result = await awaitable
        except GeneratorExit:
            self._turn.was_ended()
            raise
        except BaseException:
            if _is_being_cancelled():
                self._turn.was_ended()
            else:
                self._turn.has_failed()
            raise
        if _is_being_cancelled():  # which it has caught, to clean up
            self._turn.was_ended()
        else:
            self._turn.end(result)
        return result


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _packed(ctx: NodeCtx, data: dict[str, Any] | None = None) -> tuple[tuple[str, bytes], ...]:
    """Pickle what others are to be given.

    Raises:
        HookPickleError: it cannot be pickled.
    """
    given = ctx.custom_data if data is None else data
    try:
        return pack_custom_data(given, where="this process")
    except HookPickleError as error:
        raise HookPickleError(
            f"{one_line(error.args[0])} With once_per_node=, other processes take what the hook has come to"
        ) from error.__cause__
