"""Run a hook once per node: of all processes that come to it, one runs it, and the others take its result."""

from __future__ import annotations

import hashlib
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.context import set_read_only
from .._core.errors import HookPickleError
from .._core.hook import wrapped_chain
from .._core.once import key_for
from .._core.veto import Skip
from .by_value import dumps
from .packing import unpack_custom_data
from .turn import Result, Turn, TurnHook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.context import NodeCtx
    from .._core.dispatch import Dispatcher
    from .._core.hook import Hook
    from .._core.trace import Trace
    from .node_folder import NodeFolder, NodeLock
    from .task import NodeTask

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


class OncePerNode:
    """Runs the hooks of one node's work, some of which run once per node.

    Attributes:
        waits_for: what is waited for, for the log; empty if nothing is.
    """

    def __init__(self, task: NodeTask, ctx: NodeCtx, trace: Trace, folder: NodeFolder) -> None:
        self.waits_for: str = ""
        self._task = task
        self._ctx = ctx
        self._trace = trace
        self._folder = folder

    async def run_point(self, dispatcher: Dispatcher, hooks: Sequence[Hook]) -> Skip | None:
        """Run hooks of one point, in the order given; return the first veto, if any hook vetoed.

        Raises:
            ServeLLMHooksError: the folder of this node cannot be used.
            HookError: a hook has failed.
        """
        veto: Skip | None = None
        others: list[Hook] = []
        for hook in hooks:
            if not hook.options.once_per_node:
                others.append(hook)
                continue
            earlier = await dispatcher.run_point(others, self._ctx)
            others = []
            found = await self._run(dispatcher, hook)
            veto = veto or earlier or found
        last = await dispatcher.run_point(others, self._ctx)
        return veto or last

    async def _run(self, dispatcher: Dispatcher, hook: Hook) -> Skip | None:
        name, version = self._identity(hook)
        lock = self._folder.lock(name)
        since_s = self._trace.clock()
        waited = await self._wait_for(lock, hook)
        turn = Turn(hook, self._ctx, lock, self._folder, name, version)
        try:
            found = turn.results().get(version)
            data = None if found is None or not found.is_there else self._data_of(hook, found)
            if found is not None and data is not None:
                return self._take(hook, found, data, since_s, waited=waited)
            set_read_only(self._ctx, unfinished=lock.begun_by() is not None)
            veto = await dispatcher.run_point([TurnHook(hook, turn)], self._ctx)
            turn.go_on()
            return veto
        finally:
            set_read_only(self._ctx, unfinished=False)
            turn.close()

    async def _wait_for(self, lock: NodeLock, hook: Hook) -> bool:
        """Wait until the lock is held here; return whether that took any time."""
        if lock.acquire():
            return False
        try:
            pause_s = _FIRST_PAUSE_S
            while not lock.acquire():
                process_id = lock.begun_by()
                who = "another process" if process_id is None else f"process {process_id}"
                self.waits_for = f"{who} to run {hook.ref}, once for all on this node"
                await self._folder.pause(pause_s)
                pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self.waits_for = ""
        return True

    def _identity(self, hook: Hook) -> tuple[str, str]:
        """Return the name of what a hook does, and the version for which that holds."""
        task, once = self._task, hook.options.once_per_node
        if isinstance(once, str):
            scope, version = f"key {key_for(once, task.model_id)}", ""
        else:
            scope = f"rollout of {task.rollout.deployment}, {task.model_id} on {task.node_id}"
            version = task.rollout.version
        written = (scope, hook.point, hook.path, str(hook.number))
        given = (hook.parameters, *(_contents_of(hook) if isinstance(once, str) else ()))
        digest = hashlib.sha256(b"\n".join([*(part.encode() for part in written), *map(dumps, given)])).hexdigest()
        return f"{re.sub('[^A-Za-z0-9_]+', '-', hook.name)[:40]}-{digest[:32]}", version

    def _data_of(self, hook: Hook, found: Result) -> dict[str, Any] | None:
        """Return what another process has set in ``custom_data``; ``None`` if that cannot be read here any more."""
        try:
            return unpack_custom_data(found.custom_data, where=f"on {self._task.node}")
        except HookPickleError as error:
            logger.warning("%s runs again on %s: %s", hook.ref, self._task.node, error)
            return None

    def _take(self, hook: Hook, found: Result, data: dict[str, Any], since_s: float, *, waited: bool) -> Skip | None:
        """Take what another process has come to, as if the hook had run here."""
        ctx = self._ctx
        ctx.custom_data.update(data)
        for key in found.removed:
            ctx.custom_data.pop(key, None)
        if found.fields:
            set_read_only(ctx, **found.fields)
        why = f"done by process {found.process_id}"
        if waited:
            why += f", waited {self._trace.clock() - since_s:.1f} s"
        if found.veto:
            why += f"; it vetoed: {found.veto}"
        self._trace.did_not_run(hook, "replayed", why, since_s=since_s)
        logger.info("model %r, %s: %s at %s: %s", self._task.model_id, self._task.node, hook.ref, hook.point, why)
        return None if found.veto is None else Skip(found.veto or f"{hook.ref} returned False")


def _contents_of(hook: Hook) -> tuple[object, ...]:
    """Return the values by which a hook differs from others of its path: its object's, or its function's."""
    if hook.instance is not None:
        return (hook.instance.parts,) if hook.instance.cls is None else ()
    fn = wrapped_chain(hook.fn)[-1]
    if isinstance(fn, partial):
        return (fn.args, fn.keywords)
    cells = [cell.cell_contents for cell in getattr(fn, "__closure__", None) or ()]
    owner = getattr(getattr(fn, "__self__", None), "__dict__", None)  # of a bound method
    return (cells, getattr(fn, "__defaults__", None), getattr(fn, "__kwdefaults__", None), owner)
