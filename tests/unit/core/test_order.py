"""The order within a point: for whatever constraints, the one that a reader would write down."""

from __future__ import annotations

from itertools import pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HookOrderError, HookRegistry, load_hooks

if TYPE_CHECKING:
    from collections.abc import Sequence


def a_function(name: str, module: str = "mod") -> Any:
    def fn(ctx: Any) -> None: ...

    made = FunctionType(fn.__code__, {"__name__": module}, name)
    made.__qualname__ = name
    return made


class Row(NamedTuple):
    """A hook, and what was written in its decorator."""

    name: str
    order: int = 0
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    module: str = "mod"


def registered(*rows: Row) -> HookRegistry:
    registry = HookRegistry()
    for row in rows:
        decorate: Any = registry.hook("on_before_init", order=row.order, before=row.before, after=row.after)
        decorate(a_function(row.name, row.module))
    return registry


def ordered(*rows: Row) -> list[str]:
    return [hook.name for hook in registered(*rows).hooks("on_before_init")]


# -- as examples --------------------------------------------------------------------------------------------------


def test_as_given_when_nothing_is_said() -> None:
    assert ordered(Row("c"), Row("a"), Row("b")) == ["c", "a", "b"]


def test_lower_order_is_earlier() -> None:
    assert ordered(Row("c", 1), Row("a"), Row("b", -1), Row("d")) == ["b", "a", "d", "c"]


def test_before_and_after_win_over_order() -> None:
    assert ordered(Row("a", 0, after=["b"]), Row("b", 9), Row("c", 1)) == ["c", "b", "a"]
    assert ordered(Row("a", 0), Row("b", 9, before=["a"])) == ["b", "a"]


def test_a_constraint_by_path() -> None:
    assert ordered(Row("a", after=["mod:b"]), Row("b")) == ["b", "a"]


def test_a_constraint_on_what_is_absent_is_met() -> None:
    assert ordered(Row("a", after=["nobody", "mod:nobody"]), Row("b", before=["nobody"])) == ["a", "b"]


def test_hooks_of_other_points_do_not_count() -> None:
    registry = registered(Row("a", after=["b"]))
    decorate: Any = registry.hook("on_after_init", after=["a"])
    decorate(a_function("b"))
    assert [hook.name for hook in registry.hooks()] == ["a", "b"]


def test_a_circle_is_written_out() -> None:
    with pytest.raises(HookOrderError) as caught:
        ordered(Row("a", before=["b"]), Row("b"), Row("c", after=["b"], before=["a"]))
    first, _, rest = str(caught.value).partition(": ")
    assert first == "before/after form a circle at on_before_init"
    circle, _, advice = rest.partition(" (")
    assert advice == "each must run before the next). Take one of these constraints away."
    assert circle in {
        "mod:a -> mod:b -> mod:c -> mod:a",
        "mod:b -> mod:c -> mod:a -> mod:b",
        "mod:c -> mod:a -> mod:b -> mod:c",
    }


def test_a_hook_after_itself_is_a_circle() -> None:
    with pytest.raises(HookOrderError, match="mod:a -> mod:a "):
        ordered(Row("a", after=["a"]))


def test_an_ambiguous_name_is_written_out() -> None:
    with pytest.raises(HookOrderError) as caught:
        ordered(Row("setup", module="one"), Row("setup", module="two"), Row("a", after=["setup"]))
    assert str(caught.value) == (
        "after='setup' of mod:a at on_before_init is ambiguous: one:setup, two:setup. "
        "Write one of these instead of the bare name."
    )


def test_a_path_is_not_ambiguous() -> None:
    assert ordered(Row("a", after=["two:setup"]), Row("setup", module="one"), Row("setup", module="two")) == [
        "setup",
        "setup",
        "a",
    ]


def test_a_name_means_a_function_with_all_its_parameters() -> None:
    registry = registered(Row("a", after=["fetch"]))

    @registry.hook("on_before_init")
    def fetch(ctx: Any, *, bucket: str = "") -> None: ...

    with_fetches = HookRegistry(registry)
    for bucket in ("one", "two"):
        with_fetches.add(next(hook for hook in registry if hook.name == "fetch").bind({"bucket": bucket}))
    assert [hook.name for hook in with_fetches.hooks()] == ["fetch", "fetch", "fetch", "a"]


# -- as properties ------------------------------------------------------------------------------------------------


@st.composite
def rows_with_constraints(draw: st.DrawFn) -> tuple[list[Row], set[tuple[int, int]]]:
    """Hooks with any constraints, on absent ones too; and what the constraints mean, as (earlier, later) pairs."""
    count = draw(st.integers(0, 8))
    orders = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    # One name more than there are hooks: a constraint on an absent one.
    anyone = st.integers(0, count)
    owner = st.integers(0, max(count - 1, 0))
    constraint = st.tuples(owner, st.sampled_from(["before", "after"]), anyone, st.booleans())
    constraints = draw(st.lists(constraint, max_size=10)) if count else []
    said: dict[tuple[int, str], list[str]] = {}
    meant = set()
    for index, side, other, by_path in constraints:
        said.setdefault((index, side), []).append(f"mod:h{other}" if by_path else f"h{other}")
        if other < count:
            meant.add((index, other) if side == "before" else (other, index))
    rows = [
        Row(f"h{index}", order, said.get((index, "before"), ()), said.get((index, "after"), ()))
        for index, order in enumerate(orders)
    ]
    return rows, meant


def by_hand(rows: list[Row], meant: set[tuple[int, int]]) -> list[int] | None:
    """Sort as the design says, again and again the first in base order of those whose constraints are met."""
    left = sorted(range(len(rows)), key=lambda index: (rows[index].order, index))
    result: list[int] = []
    while left:
        free = [index for index in left if not any((other, index) in meant for other in left)]
        if not free:
            return None  # a circle
        result.append(free[0])
        left.remove(free[0])
    return result


@given(rows_with_constraints())
def test_the_order_is_that_of_the_rule_and_a_circle_is_always_told_and_only_then(
    case: tuple[list[Row], set[tuple[int, int]]],
) -> None:
    rows, meant = case
    expected = by_hand(rows, meant)
    if expected is None:
        with pytest.raises(HookOrderError, match="form a circle"):
            ordered(*rows)
    else:
        assert ordered(*rows) == [rows[index].name for index in expected]


@given(rows_with_constraints())
def test_every_constraint_is_kept_and_nothing_else_turns_neighbours_round(
    case: tuple[list[Row], set[tuple[int, int]]],
) -> None:
    rows, meant = case
    try:
        names = ordered(*rows)
    except HookOrderError:
        return
    result = [int(name[1:]) for name in names]
    assert sorted(result) == list(range(len(rows)))
    place = {index: position for position, index in enumerate(result)}
    assert all(place[earlier] < place[later] for earlier, later in meant)
    for one, following in pairwise(result):
        turned_round = (rows[one].order, one) > (rows[following].order, following)
        assert not turned_round or (one, following) in meant


@given(rows_with_constraints())
def test_the_same_again(case: tuple[list[Row], set[tuple[int, int]]]) -> None:
    rows, _ = case

    def outcome(registry: HookRegistry) -> str:
        try:
            return ", ".join(hook.name for hook in registry.hooks("on_before_init"))
        except HookOrderError as error:
            return str(error)

    registry = registered(*rows)
    assert outcome(registry) == outcome(registry) == outcome(registered(*rows))


@given(rows_with_constraints())
def test_a_circle_that_is_told_is_one(case: tuple[list[Row], set[tuple[int, int]]]) -> None:
    rows, meant = case
    try:
        ordered(*rows)
    except HookOrderError as error:
        shown = str(error).partition(": ")[2].partition(" (")[0].split(" -> ")
        circle = [int(path.removeprefix("mod:h")) for path in shown]
        assert circle[0] == circle[-1]
        assert len(circle) > 1
        assert all(pair in meant for pair in pairwise(circle))


@given(rows_with_constraints(), st.integers(0, 8))
def test_hooks_that_constrain_nothing_do_not_change_the_others(
    case: tuple[list[Row], set[tuple[int, int]]], where: int
) -> None:
    rows, meant = case
    if by_hand(rows, meant) is None:
        return
    names = ordered(*rows[:where], Row("loner"), *rows[where:])
    names.remove("loner")
    assert names == ordered(*rows)


@pytest.mark.parametrize(
    ("background", "other"),
    [({}, {"after": "fetch"}), ({}, {"before": "fetch"}), ({"after": "use"}, {}), ({"before": "use"}, {})],
)
def test_an_order_that_processes_side_by_side_cannot_keep_is_told_when_hooks_are_loaded(
    background: dict[str, Any], other: dict[str, Any]
) -> None:
    registry = HookRegistry()
    decorate: Any = registry.hook("on_before_node_download", until="on_after_download", **background)
    fetch = decorate(a_function("fetch"))
    decorate = registry.hook("on_before_node_download", **other)
    use = decorate(a_function("use"))
    (side,) = {**background, **other}
    with pytest.raises(HookOrderError, match=rf"{side}=.* cannot be kept: .*\(mod:fetch\) has a process of its own"):
        load_hooks(fetch, use)
