"""A Ray cluster for tests of hooks: no Ray, no GPU, virtual time, and the production code above it.

>>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
>>> run = FakeCluster(nodes=4).run(FakeLLMConfig("llama-2-7b", hooks=[]))
>>> run.elapsed_s
50.0

Everything here is imported when it is first asked for, since pytest imports this package in every test session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._virtual_time.loop import VirtualLoop
    from .asserts import assert_not_run, assert_order, assert_ran_on
    from .calls import acall_hook, call_hook, callback_ctx, node_ctx
    from .check import HookCheck, check_hooks
    from .cluster import FakeCluster
    from .config import FakeLLMConfig
    from .engine import FakeAnswer, FakeEngine
    from .errors import DeadlockError, HarnessError, HarnessWarning, RayInFakeRunError
    from .faults import (
        Fault,
        different_path,
        engine_fails,
        failing_download,
        lost_node,
        missing_module,
        replica_dies,
        slow_download,
        unschedulable,
    )
    from .placement_group import FakePlacementGroup
    from .run import FakeNode, FakeRun

__all__ = [
    "DeadlockError",
    "FakeAnswer",
    "FakeCluster",
    "FakeEngine",
    "FakeLLMConfig",
    "FakeNode",
    "FakePlacementGroup",
    "FakeRun",
    "Fault",
    "HarnessError",
    "HarnessWarning",
    "HookCheck",
    "RayInFakeRunError",
    "VirtualLoop",
    "acall_hook",
    "assert_not_run",
    "assert_order",
    "assert_ran_on",
    "call_hook",
    "callback_ctx",
    "check_hooks",
    "different_path",
    "engine_fails",
    "failing_download",
    "lost_node",
    "missing_module",
    "node_ctx",
    "replica_dies",
    "slow_download",
    "unschedulable",
]

_MODULES = {
    "_virtual_time.loop": ("VirtualLoop",),
    "asserts": ("assert_not_run", "assert_order", "assert_ran_on"),
    "calls": ("acall_hook", "call_hook", "callback_ctx", "node_ctx"),
    "check": ("HookCheck", "check_hooks"),
    "cluster": ("FakeCluster",),
    "config": ("FakeLLMConfig",),
    "engine": ("FakeAnswer", "FakeEngine"),
    "errors": ("DeadlockError", "HarnessError", "HarnessWarning", "RayInFakeRunError"),
    "faults": (
        "Fault",
        "different_path",
        "engine_fails",
        "failing_download",
        "lost_node",
        "missing_module",
        "replica_dies",
        "slow_download",
        "unschedulable",
    ),
    "placement_group": ("FakePlacementGroup",),
    "run": ("FakeNode", "FakeRun"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # where they see it, checkers let any name be imported

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
