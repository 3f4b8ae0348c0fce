"""The table of hook points. Everything else that lists them is made from it: the docs' table, the registry's
checks, the CLI, the harness; and a test holds the static types (``HookName`` and the overloads of ``hook``) to it.

To add a point, add one row here, its name to the right ``Literal`` below, and its call to ``initialize.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "HOOK_NAMES",
    "HOOK_POINTS",
    "HookName",
    "HookPoint",
    "NodeHookName",
    "NodeVetoHookName",
    "ReplicaHookName",
    "ReplicaVetoHookName",
    "did_you_mean",
    "hook_point",
]

# Four literals, because a hook's type depends on two things only: where it runs, and whether it may veto.
ReplicaVetoHookName: TypeAlias = Literal["on_before_init", "on_before_download"]
ReplicaHookName: TypeAlias = Literal[
    "on_custom_init",
    "on_after_download",
    "on_after_placement_group",
    "on_before_engine_init",
    "on_after_engine_init",
    "on_after_init",
    "on_failure",
]
NodeVetoHookName: TypeAlias = Literal["on_before_node_download"]
NodeHookName: TypeAlias = Literal["on_after_node_download"]
HookName: TypeAlias = ReplicaVetoHookName | ReplicaHookName | NodeVetoHookName | NodeHookName


class HookPoint(NamedTuple):
    """One row of the table: a moment of a replica's start at which hooks run.

    Attributes:
        name: what ``@hook("...")`` is given.
        phase: what a phase-style callback sees this moment as; ``None`` where it sees nothing.
        on_node: whether the hooks run on every node of the placement group; otherwise once, in the replica.
        when: "once", or the condition, in words.
        veto: what a veto skips, in words; ``None`` where a hook may not veto.
        purpose: what people use it for.
    """

    name: HookName
    phase: str | None
    on_node: bool
    when: str
    veto: str | None
    purpose: str

    @property
    def may_veto(self) -> bool:
        """Whether a hook here may return ``False`` or ``skip("why")``."""
        return self.veto is not None

    @property
    def runs(self) -> str:
        """Where and when the point's hooks run, in words."""
        return "on every node of the placement group" if self.on_node else f"{self.when}, in the replica"


_ROWS = (
    HookPoint(
        "on_before_init",
        "pre_initialization",
        False,
        "once",
        "the defaults",
        "set up `ctx` before anything happens",
    ),
    HookPoint(
        "on_custom_init",
        "custom_initialization",
        False,
        "once, only when the defaults are skipped",
        None,
        "take over: own placement group, runtime env, files",
    ),
    HookPoint(
        "on_before_download",
        "pre_download",
        False,
        "once",
        "all downloads and per-node hooks",
        "choose what each node downloads",
    ),
    HookPoint(
        "on_before_node_download",
        None,
        True,
        "once per node",
        "the download on this node",
        "per-node work: extra files, caches, disk checks",
    ),
    HookPoint("on_after_node_download", None, True, "once per node", None, "verify, unpack, warm"),
    HookPoint("on_after_download", "post_download", False, "once", None, "see every node's result in `ctx.nodes`"),
    HookPoint(
        "on_after_placement_group",
        "post_placement_group",
        False,
        "once",
        None,
        "last word on `ctx.placement_group`",
    ),
    HookPoint(
        "on_before_engine_init",
        "pre_engine_init",
        False,
        "once",
        None,
        "last word on `ctx.extra_init_kwargs`, `ctx.model_path`",
    ),
    HookPoint(
        "on_after_engine_init",
        "post_engine_init",
        False,
        "once",
        None,
        "`ctx.engine` answers: warm-up requests, save caches",
    ),
    HookPoint(
        "on_after_init",
        "post_initialization",
        False,
        "once",
        None,
        "metrics, registration; the last of a good start",
    ),
    HookPoint(
        "on_failure",
        None,
        False,
        "once, when any of the above failed",
        None,
        "`ctx.error`: metrics, clean-up; its own failure is logged, the first one is raised",
    ),
)

HOOK_POINTS: dict[str, HookPoint] = {row.name: row for row in _ROWS}
"""Every hook point by name, in the order in which they run."""

HOOK_NAMES: tuple[HookName, ...] = tuple(row.name for row in _ROWS)
"""The names alone, in the order in which they run."""


def hook_point(name: object) -> HookPoint:
    """The row of a hook point.

    Raises:
        UnknownHookError: there is no such point; the message suggests one and lists all.

    Example:
        >>> hook_point("on_before_download").phase
        'pre_download'
    """
    point = HOOK_POINTS.get(name) if isinstance(name, str) else None
    if point is None:
        from .errors import UnknownHookError  # only a mistake pays for this import

        raise UnknownHookError(
            f"{name!r} is not a hook point{did_you_mean(name, HOOK_NAMES)}. "
            f"In the order they run: {', '.join(HOOK_NAMES)}."
        )
    return point


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest of ``choices``, or nothing when none is near.

    Example:
        >>> did_you_mean("on_before_downlod", HOOK_NAMES)
        " (did you mean 'on_before_download'?)"
    """
    from difflib import get_close_matches  # only a mistake pays for this import

    near = get_close_matches(str(name), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
