"""Keep fake runs from connecting to a real Ray cluster."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .._virtual_time.locations import locate_frame
from ..errors import RayInFakeRunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class RayGuard:
    """Makes ``ray.init`` raise, which all of Ray's API calls first.

    Also an import hook (``find_spec``), for a Ray that is imported while the guard is in place.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()

    def install(self) -> None:
        """Put the guard in place."""
        if "ray" in sys.modules:
            self._replace_init(sys.modules["ray"])
        else:
            sys.meta_path.insert(0, self)
            self._undo.callback(sys.meta_path.remove, self)

    def remove(self) -> None:
        """Restore ``ray.init``."""
        self._undo.close()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find Ray as usual, with a loader that replaces its ``init``."""
        if name != "ray":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def exec_and_replace(module: ModuleType) -> None:
                exec_module(module)
                self._replace_init(module)

            spec.loader.exec_module = exec_and_replace  # type: ignore[method-assign]  # undone with the guard
        return spec

    def _replace_init(self, ray: ModuleType) -> None:
        real_init = getattr(ray, "init", None)
        if real_init is None:
            return

        def init(*args: Any, **kwargs: Any) -> Any:
            location = locate_frame(sys._getframe(1))
            raise RayInFakeRunError(
                f"ray.init() was called inside a fake run, by {location or 'somebody'}: no test touches a real cluster "
                "by accident. Replace what needs Ray in the test, with monkeypatch for example"
            )

        ray.init = init  # type: ignore[attr-defined]  # a module, of which checkers know no names
        self._undo.callback(setattr, ray, "init", real_init)
