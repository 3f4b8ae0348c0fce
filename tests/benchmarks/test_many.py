"""Hooks by the thousand: loading them, and resolving their order. `make bench` holds the seconds to their reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from serve_llm_hooks import HookRegistry, load_hooks
from tests.benchmarks.test_dispatch import no_ops

if TYPE_CHECKING:
    from collections.abc import Callable

POINT: Final = "on_before_init"

LOADED: dict[str, Callable[[int], dict[str, Any]]] = {
    "ids": lambda index: {"model_id": f"org/model-{index}"},
    "globs": lambda index: {"model_id": f"org/model-{index}-*"},
    "ids_and_after": lambda index: {"model_id": f"org/model-{index}", "after": f"hook_{index - 1}"},
    "globs_and_after": lambda index: {"model_id": f"org/model-{index}-*", "after": f"hook_{index - 1}"},
    # Half of them for all models, and so met by each of the others.
    "all_and_ids_and_after": lambda index: {
        "model_id": f"org/model-{index}" if index >= 500 else None,
        "after": f"hook_{index - 1}",
    },
}
ORDERED: dict[str, Callable[[int], dict[str, Any]]] = {
    "after": lambda index: {"after": f"hook_{index - 1}"} if index else {},
    "before": lambda index: {"before": f"hook_{index - 1}"} if index else {},
}


def registered(count: int, options: Callable[[int], dict[str, Any]]) -> HookRegistry:
    hooks = HookRegistry()
    for index, function in enumerate(no_ops(count)):
        hooks.hook(POINT, **options(index))(function)
    return hooks


@pytest.mark.parametrize("side", LOADED)
def test_load_1000(benchmark: Any, side: str) -> None:
    hooks = registered(1000, LOADED[side])
    assert len(benchmark.pedantic(load_hooks, (hooks,), rounds=5)) == 1000


@pytest.mark.parametrize("side", ["values"])
def test_load_1000_parameters(benchmark: Any, side: str) -> None:
    """Load one function with a thousand sets of parameters."""

    def fetch(ctx: object, *, rows: list[int]) -> None: ...

    HookRegistry().hook(POINT)(fetch)
    refs = [{"hook": fetch, "kwargs": {"rows": [index]}} for index in range(1000)]
    assert len(benchmark.pedantic(load_hooks, refs, rounds=5)) == 1000


@pytest.mark.parametrize("side", ORDERED)
def test_order_8000(benchmark: Any, side: str) -> None:
    hooks = registered(8000, ORDERED[side])
    assert len(benchmark.pedantic(hooks.hooks, (POINT,), rounds=5)) == 8000
