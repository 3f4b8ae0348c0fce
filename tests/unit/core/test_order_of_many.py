"""Thousands of hooks: what is looked at grows with them, and not with their square; what is found is the same."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st

from serve_llm_hooks import HookOrderError, HookRegistry, load_hooks
from serve_llm_hooks._core import order
from serve_llm_hooks._core.options import HookOptions, start_of
from tests.unit.core.test_order import a_function

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = "abcd"
MODELS = [(), ("m",), ("n",), ("m*",), ("?",), ("[mn]", "other"), ("mm",)]


def many(count: int, options: Callable[[int], dict[str, Any]]) -> HookRegistry:
    hooks = HookRegistry()
    for index in range(count):
        hooks.hook("on_before_init", **options(index))(a_function(f"f{index}"))
    return hooks


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often an id was compared with a glob, and a hook sorted."""
    seen: list[str] = []
    glob, in_order = fnmatch.fnmatchcase, order.in_order

    def counting_glob(name: str, pattern: str) -> bool:
        seen.append("glob")
        return glob(name, pattern)

    def counting_order(hooks: Any) -> Any:
        given = list(hooks)
        seen.extend("sorted" for _ in given)
        return in_order(given)

    monkeypatch.setattr(fnmatch, "fnmatchcase", counting_glob)
    monkeypatch.setattr(order, "in_order", counting_order)
    return seen


@pytest.mark.parametrize("constraint", [{}, {"after": "f7"}, {"before": ("f7", "f8")}])
@pytest.mark.parametrize("model_id", ["org/m{}", "org/m{}-*", "other/*", None])
def test_hooks_for_a_model_each_are_looked_at_once(
    looked_at: list[str], model_id: str | None, constraint: dict[str, Any]
) -> None:
    count = 400
    hooks = many(
        count,
        lambda index: {
            "model_id": model_id and model_id.format(index),
            **(constraint if index not in (7, 8) else {}),
        },
    )
    looked_at.clear()
    load_hooks(hooks)
    assert len(looked_at) <= 5 * count


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("own_name", ["f{}", "own"])
def test_hooks_for_all_models_are_not_looked_at_again_for_each(looked_at: list[str], side: str, own_name: str) -> None:
    count = 400
    hooks = many(count, lambda index: {side: f"f{index - 1}"} if index else {})
    for index in range(count):
        own = a_function(own_name.format(count + index), f"module{index}")
        options: dict[str, Any] = {"model_id": f"org/m{index}", side: "f0"}
        hooks.hook("on_before_init", **options)(own)
    looked_at.clear()
    load_hooks(hooks)
    assert len(looked_at) <= 10 * count


def test_what_each_model_calls_alike_is_found_for_each(looked_at: list[str]) -> None:
    count = 400
    hooks = many(count, lambda index: {"after": "own"})
    for index in range(count):
        hooks.hook("on_before_init", model_id=f"org/m{index}")(a_function("own", f"module{index}"))
    looked_at.clear()
    load_hooks(hooks)
    assert len(looked_at) <= 10 * count
    hooks.hook("on_before_init", model_id="org/m7")(a_function("own", "another"))
    with pytest.raises(
        HookOrderError, match=r"after='own' of \S+ at on_before_init is ambiguous: another:own, module7"
    ):
        load_hooks(hooks)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_chain_looks_each_name_up_once(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    count = 400
    hooks = many(count, lambda index: {side: f"f{index - 1}"} if index else {})
    found: list[int] = []
    resolve = order._resolve

    def counting(*args: Any) -> list[int]:
        indices = resolve(*args)
        found.append(len(indices))
        return indices

    monkeypatch.setattr(order, "_resolve", counting)
    ran = [int(hook.name[1:]) for hook in hooks.hooks("on_before_init")]
    assert ran == (list(range(count)) if side == "after" else list(range(count))[::-1])
    assert sum(found) == len(found) == count - 1


class Name(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_a_chain_compares_no_name_with_all() -> None:
    count = 400
    hooks = many(count, lambda index: {"after": Name(f"f{index - 1}")} if index else {})
    Name.compared = 0
    hooks.hooks("on_before_init")
    assert Name.compared <= 3 * count


@settings(max_examples=300)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(MODELS),
            st.lists(st.sampled_from(NAMES), max_size=2),
            st.lists(st.sampled_from(NAMES), max_size=2),
        ),
        max_size=8,
    )
)
def test_the_check_finds_what_sorting_for_each_model_finds(rows: list[tuple[Any, ...]]) -> None:
    hooks = HookRegistry()
    for index, (name, models, before, after) in enumerate(rows):
        decorate: Any = hooks.hook("on_before_init", model_id=models or None, before=before, after=after)
        decorate(a_function(name, f"module{index}"))
    models = ["", *(model for row in rows for model in row[1])]
    assert _fails(lambda: [hooks.hooks(model_id=model) for model in models]) == _fails(lambda: order.check_order(hooks))


def _fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except HookOrderError:
        return True
    return False


@given(model_id=st.text("ab*?[]!", max_size=4), pattern=st.text("ab*?[]!", max_size=4))
def test_a_model_matches_as_fnmatch_says(model_id: str, pattern: str) -> None:
    matches = fnmatch.fnmatchcase(model_id, pattern) or model_id == pattern
    assert HookOptions("on_before_init", (pattern,)).matches(model_id) is matches
    assert not matches or model_id.startswith(start_of(pattern))
