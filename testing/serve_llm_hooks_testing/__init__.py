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
    from ._checks.result import HookCheck as HookCheck
    from ._explore.schedule import Schedule as Schedule
    from ._virtual_time.loop import VirtualLoop as VirtualLoop
    from .asserts import assert_not_run as assert_not_run, assert_order as assert_order, assert_ran_on as assert_ran_on
    from .calls import (
        acall_hook as acall_hook,
        call_hook as call_hook,
        callback_ctx as callback_ctx,
        engine_process_ctx as engine_process_ctx,
        node_ctx as node_ctx,
    )
    from .check import check_hooks as check_hooks
    from .cluster import FakeCluster as FakeCluster
    from .config import FakeLLMConfig as FakeLLMConfig
    from .engine import FakeAnswer as FakeAnswer, FakeEngine as FakeEngine
    from .engine_faults import engine_process_dies as engine_process_dies, missing_plugin as missing_plugin
    from .errors import (
        DeadlockError as DeadlockError,
        HarnessError as HarnessError,
        HarnessWarning as HarnessWarning,
        RayInFakeRunError as RayInFakeRunError,
    )
    from .explore import explore_hooks as explore_hooks
    from .fake_store import FakeStore as FakeStore
    from .faults import (
        Fault as Fault,
        different_path as different_path,
        engine_answers_error as engine_answers_error,
        engine_fails as engine_fails,
        failing_download as failing_download,
        hook_fails as hook_fails,
        lost_node as lost_node,
        missing_module as missing_module,
        node_process_dies as node_process_dies,
        replica_dies as replica_dies,
        slow_download as slow_download,
        unschedulable as unschedulable,
    )
    from .placement_group import FakePlacementGroup as FakePlacementGroup
    from .run import FakeNode as FakeNode, FakeRun as FakeRun
else:  # a checker that sees a __getattr__ takes every name for existing

    def _attach() -> None:
        from serve_llm_hooks import _lazy_imports  # not at once: pytest imports this package in every session

        globals()["__getattr__"], globals()["__dir__"] = _lazy_imports.attach(__name__)

    def __getattr__(name: str) -> Any:
        _attach()
        return globals()["__getattr__"](name)

    def __dir__() -> list[str]:
        _attach()
        return globals()["__dir__"]()
