"""The table of hook points, and all that must agree with it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from serve_llm_hooks import HOOK_POINTS, HookName, HookRegistry, UnknownHookError, points
from serve_llm_hooks.points import HOOK_NAMES, hook_point


def names_in(literal: Any) -> set[str]:
    """The strings of a ``Literal``, or of a union of several."""
    return {name for arg in get_args(literal) for name in ({arg} if isinstance(arg, str) else names_in(arg))}


def test_the_points_in_the_order_in_which_they_run() -> None:
    assert tuple(HOOK_POINTS) == HOOK_NAMES
    assert HOOK_NAMES == (
        "on_before_init",
        "on_custom_init",
        "on_before_download",
        "on_before_node_download",
        "on_after_node_download",
        "on_after_download",
        "on_after_placement_group",
        "on_before_engine_init",
        "on_after_engine_init",
        "on_after_init",
        "on_failure",
    )


def test_the_phases() -> None:
    assert {name: point.phase for name, point in HOOK_POINTS.items() if point.phase} == {
        "on_before_init": "pre_initialization",
        "on_custom_init": "custom_initialization",
        "on_before_download": "pre_download",
        "on_after_download": "post_download",
        "on_after_placement_group": "post_placement_group",
        "on_before_engine_init": "pre_engine_init",
        "on_after_engine_init": "post_engine_init",
        "on_after_init": "post_initialization",
    }


def test_the_static_types_are_those_of_the_table() -> None:
    assert names_in(HookName) == set(HOOK_NAMES)


@pytest.mark.parametrize(
    ("literal", "on_node", "may_veto"),
    [
        (points.ReplicaVetoHookName, False, True),
        (points.ReplicaHookName, False, False),
        (points.NodeVetoHookName, True, True),
        (points.NodeHookName, True, False),
    ],
)
def test_each_literal_holds_one_kind_of_point(literal: object, on_node: bool, may_veto: bool) -> None:
    of_the_kind = {name for name, row in HOOK_POINTS.items() if (row.on_node, row.may_veto) == (on_node, may_veto)}
    assert names_in(literal) == of_the_kind


def test_where_and_when_in_words() -> None:
    assert hook_point("on_before_init").runs == "once, in the replica"
    assert hook_point("on_custom_init").runs == "once, only when the defaults are skipped, in the replica"
    assert hook_point("on_after_node_download").runs == "on every node of the placement group"


def test_a_misspelt_point_is_told_at_decoration_with_the_list() -> None:
    wrong: Any = "on_before_downlod"
    with pytest.raises(UnknownHookError) as caught:
        HookRegistry().hook(wrong)
    assert str(caught.value) == (
        "'on_before_downlod' is not a hook point (did you mean 'on_before_download'?). In the order they run: "
        "on_before_init, on_custom_init, on_before_download, on_before_node_download, on_after_node_download, "
        "on_after_download, on_after_placement_group, on_before_engine_init, on_after_engine_init, on_after_init, "
        "on_failure."
    )


@pytest.mark.parametrize("name", ["zzz", None, [1, 2]])
def test_what_resembles_no_point_gets_no_suggestion(name: Any) -> None:
    with pytest.raises(UnknownHookError) as caught:
        HookRegistry().hook(name)
    assert f"{name!r} is not a hook point. In the order" in str(caught.value)


def test_hooks_cannot_be_listed_for_a_misspelt_point() -> None:
    wrong: Any = "on_after_int"
    with pytest.raises(UnknownHookError, match="did you mean 'on_after_init'"):
        HookRegistry().hooks(wrong)
