"""The table of hook points, and all that must agree with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest

from serve_llm_hooks import HOOK_POINTS, HookName, HookRegistry, UnknownHookError
from serve_llm_hooks._core import points
from serve_llm_hooks._core.messages import describe
from serve_llm_hooks._core.points import HOOK_NAMES, hook_point

if TYPE_CHECKING:
    from serve_llm_hooks import HookPoint


def names_in(literal: Any) -> set[str]:
    """The strings of a ``Literal``, or of a union of several."""
    return {name for arg in get_args(literal) for name in ({arg} if isinstance(arg, str) else names_in(arg))}


def test_the_names_are_in_the_tables_order() -> None:
    assert tuple(HOOK_POINTS) == HOOK_NAMES == tuple(row.name for row in HOOK_POINTS.values())


# What a user relies on. That a start runs them in the table's order is shown by `replica/test_start.py`, of every one.
@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("on_before_init", "on_custom_init"),
        ("on_custom_init", "on_before_download"),
        ("on_before_download", "on_before_node_download"),
        ("on_after_node_download", "on_after_download"),
        ("on_after_download", "on_after_placement_group"),
        ("on_after_placement_group", "on_before_engine_init"),
        ("on_before_engine_init", "on_engine_process_start"),
        ("on_engine_process_start", "on_after_engine_init"),
        ("on_after_engine_init", "on_after_init"),
    ],
)
def test_one_point_runs_before_another(earlier: Any, later: Any) -> None:
    assert HOOK_NAMES.index(earlier) < HOOK_NAMES.index(later)


def test_before_runs_before_after() -> None:
    for earlier in HOOK_NAMES:
        later = earlier.replace("_before_", "_after_")
        assert later not in HOOK_NAMES or HOOK_NAMES.index(earlier) <= HOOK_NAMES.index(later)


def test_a_start_begins_and_ends_with() -> None:
    assert HOOK_NAMES[0] == "on_before_init"
    assert [row.name for row in HOOK_POINTS.values() if row.during == "start"][-1] == "on_after_init"
    assert HOOK_NAMES[-1] == "on_failure"


@pytest.mark.parametrize("row", HOOK_POINTS.values(), ids=HOOK_NAMES)
def test_a_phase_has_its_points_name(row: HookPoint) -> None:
    """As ``post_initialization`` is ``on_after_init``."""
    if row.phase is not None:
        time, _, what = row.phase.partition("_")
        at = {"pre": "before", "custom": "custom", "post": "after"}[time]
        assert row.name == f"on_{at}_{what.replace('initialization', 'init')}"
        assert not row.on_node  # a phase-style callback sees the replica


def test_the_static_types_are_those_of_the_table() -> None:
    assert names_in(HookName) == set(HOOK_NAMES)


@pytest.mark.parametrize(
    ("literal", "where", "may_veto"),
    [
        (points.ReplicaVetoHookName, "replica", True),
        (points.ReplicaHookName, "replica", False),
        (points.NodeVetoHookName, "node", True),
        (points.NodeHookName, "node", False),
        (points.ProcessHookName, "process", False),
    ],
)
def test_each_literal_holds_one_kind_of_point(literal: object, where: str, may_veto: bool) -> None:
    of_the_kind = {name for name, row in HOOK_POINTS.items() if (row.where, row.may_veto) == (where, may_veto)}
    assert names_in(literal) == of_the_kind


def test_where_and_when_in_words() -> None:
    assert hook_point("on_before_init").runs == "once, in the replica"
    assert hook_point("on_custom_init").runs == "once, only when the defaults are skipped, in the replica"
    assert hook_point("on_after_node_download").runs == "on every node of the placement group"
    assert hook_point("on_engine_process_start").runs == (
        "once in each process of the engine, before it looks at the model"
    )
    assert hook_point("on_node_failure").runs == (
        "on every node of the placement group whose own work has failed or was cancelled"
    )


def test_a_misspelt_point_is_told_at_decoration_with_the_list() -> None:
    wrong: Any = "on_before_downlod"
    with pytest.raises(UnknownHookError) as caught:
        HookRegistry().hook(wrong)
    assert str(caught.value) == (
        "'on_before_downlod' is not a hook point (did you mean 'on_before_download'?). In the order they run: "
        f"{', '.join(HOOK_NAMES)}."
    )


@pytest.mark.parametrize("name", ["zzz", None, [1, 2]])
def test_what_resembles_no_point_gets_no_suggestion(name: Any) -> None:
    with pytest.raises(UnknownHookError) as caught:
        HookRegistry().hook(name)
    assert f"{describe(name)} is not a hook point. In the order" in str(caught.value)


def test_hooks_cannot_be_listed_for_a_misspelt_point() -> None:
    wrong: Any = "on_after_int"
    with pytest.raises(UnknownHookError, match="did you mean 'on_after_init'"):
        HookRegistry().hooks(wrong)
