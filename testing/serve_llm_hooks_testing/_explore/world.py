"""Begin each history alike: this process as it was, an empty temporary folder, the same random numbers."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .state import ModuleState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from serve_llm_hooks import Hook


class World:
    """The state that is put back before a history, and before each start in it.

    Args:
        hooks: the hooks, whose modules are put back.
        reset: puts back what is outside of this process; ``None``: nothing is.

    Attributes:
        folder: the temporary folder of the history.
    """

    def __init__(self, hooks: Iterable[Hook], reset: Callable[[], object] | None) -> None:
        names = dict.fromkeys(hook.path.partition(":")[0] for hook in hooks)
        modules = [module for name in names if isinstance(module := sys.modules.get(name), ModuleType)]
        self._state = ModuleState(modules)
        self._environ = dict(os.environ)
        self._reset = reset
        self.folder: str = ""

    @contextmanager
    def history(self) -> Iterator[None]:
        """Let a history begin and end with nothing that another has left."""
        with ExitStack() as stack:
            stack.callback(random.setstate, random.getstate())
            random.seed(0)
            own_folder = tempfile.TemporaryDirectory(prefix="explore-hooks-", ignore_cleanup_errors=True)
            self.folder = folder = stack.enter_context(own_folder)
            stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
            tempfile.tempdir = folder
            stack.callback(self.new_process)
            self._environ, before = {**self._environ, "TMPDIR": folder}, self._environ
            stack.callback(setattr, self, "_environ", before)
            if self._reset is not None:
                self._reset()
            yield

    def new_process(self) -> None:
        """Forget what the processes of a start have kept: they have ended."""
        self._state.restore()
        if dict(os.environ) != self._environ:
            os.environ.clear()
            os.environ.update(self._environ)


def modules_of(hooks: Iterable[Hook]) -> list[str]:
    """Return the names of the modules of hooks that a node imports, and that may be missing there."""
    names: dict[str, Any] = dict.fromkeys(hook.path.partition(":")[0] for hook in hooks)
    return [name for name in names if all(part.isidentifier() for part in name.split("."))]
