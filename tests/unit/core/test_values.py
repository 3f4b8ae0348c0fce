"""Parameters are told apart by their values."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, load_hooks
from serve_llm_hooks._core.values import same_values

if TYPE_CHECKING:
    from collections.abc import Iterator


class Secret:
    """Prints like every other, as pydantic's ``SecretStr`` does."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return "**********"


class Array:
    """Compares item by item, as numpy's does, and prints like every other long one."""

    def __init__(self) -> None:
        self.compared = 0

    def __eq__(self, other: object) -> Any:
        return [True]

    __hash__ = None  # type: ignore[assignment]  # as numpy's

    def __repr__(self) -> str:
        return "[0, ..., 0]"


class Broken:
    def __eq__(self, other: object) -> bool:
        raise OSError("no")

    def __hash__(self) -> int:
        raise OSError("no")

    def __repr__(self) -> str:
        return "broken"


def fetch(ctx: Any, **parameters: Any) -> None: ...


HookRegistry().hook("on_before_init")(fetch)


class Fetch:
    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters

    def on_before_init(self, ctx: Any) -> None: ...


@pytest.mark.parametrize("hook", [fetch, Fetch])
@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [
        ({"key": Secret("a")}, {"key": Secret("b")}, 2),
        ({"key": Secret("a")}, {"key": Secret("a")}, 1),
        ({"rows": Array()}, {"rows": Array()}, 2),
        ({"it": Broken()}, {"it": Broken()}, 2),
        ({"a": 1, "b": [2, {"c": 3, "d": 4}]}, {"b": [2, {"d": 4, "c": 3}], "a": 1}, 1),
        ({"a": (1, 2)}, {"a": [1, 2]}, 2),
        ({"on": True}, {"on": 1}, 2),
        ({"rows": [True]}, {"rows": [1]}, 2),
        ({"a": 1}, {}, 2),
    ],
)
def test_two_entries_are_one_if_their_values_are(hook: Any, ours: Any, theirs: Any, count: int) -> None:
    found = load_hooks({"hook": hook, "kwargs": ours}, {"hook": hook, "kwargs": theirs})
    # A function without parameters is replaced by the same with some.
    assert len(found) == (1 if hook is fetch and not theirs else count)


def test_a_value_that_cannot_be_compared_is_equal_to_itself() -> None:
    array = Array()
    assert len(load_hooks(*({"hook": fetch, "kwargs": {"rows": array}} for _ in range(2)))) == 1
    one, same, other = (
        next(iter(load_hooks({"hook": fetch, "kwargs": {"rows": rows}}))) for rows in (array, array, Array())
    )
    assert one == same
    assert one != other
    assert one in {one}


def itself() -> list[Any]:
    """Return a list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


def nested(depth: int, last: int) -> list[Any]:
    """Return a number in a list, in a list …"""
    made: list[Any] = [last]
    for _ in range(depth):
        made = [made]
    return made


def doubled(depth: int) -> list[Any]:
    """Return a list that has the same list twice, which has the same list twice …"""
    made: list[Any] = []
    for _ in range(depth):
        made = [made, made]
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (itself(), itself(), True),
        (itself(), [itself(), 1], False),
        (nested(100_000, 1), nested(100_000, 1), True),
        (nested(100_000, 1), nested(100_000, 2), False),
        (doubled(60), doubled(60), True),
    ],
    ids=["itself", "itself-and-more", "deep", "deep-other", "doubled"],
)
def test_no_shape_is_too_deep_to_compare(raised_limit: None, ours: list[Any], theirs: list[Any], same: bool) -> None:
    assert same_values({"a": ours}, {"a": theirs}) is same
    assert len(load_hooks(*({"hook": fetch, "kwargs": {"a": each}} for each in (ours, theirs)))) == (1 if same else 2)


@pytest.fixture
def raised_limit() -> Iterator[None]:
    """Let Python recurse further than the stack goes, as mypy and torch do in their processes."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    yield
    sys.setrecursionlimit(before)


def test_parameters_of_one_closure_do_not_replace_another_closure() -> None:
    def make(name: str) -> Any:
        def closure(ctx: Any, *, bucket: str = name) -> None: ...

        return HookRegistry().hook("on_before_init")(closure)

    first, second = make("a"), make("b")
    found = load_hooks(first, {"hook": second, "kwargs": {"bucket": "c"}})
    assert [one.fn for one in found] == [first, second]


def test_few_parameters_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []

    def counting(ours: Any, theirs: Any) -> bool:
        compared.append(ours == theirs)
        return compared[-1]

    monkeypatch.setattr("serve_llm_hooks._core.values.same_values", counting)
    load_hooks(*({"hook": fetch, "kwargs": {"rows": [number]}} for number in range(500)))
    assert len(compared) <= 500
