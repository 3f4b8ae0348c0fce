"""The table of hook points. Docs, checks, messages, class methods and types follow it; tests hold them to it.

To add a point: one row here, its name in the ``Literal`` of its kind below, its call in ``_replica/initialize.py`` (or
``_node/work.py`` for one that runs on nodes), and its method in ``_sources/class_style.py``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .named_tuple import NamedTuple

# Five literals, because a hook's type depends on two things only: where it runs, and whether it may veto.
ReplicaVetoHookName: TypeAlias = Literal["on_before_init", "on_before_download"]
ReplicaHookName: TypeAlias = Literal[
    "on_custom_init",
    "on_after_download",
    "on_after_placement_group",
    "on_before_engine_init",
    "on_after_engine_init",
    "on_after_init",
    "on_shutdown",
    "on_failure",
]
NodeVetoHookName: TypeAlias = Literal["on_before_node_download"]
NodeHookName: TypeAlias = Literal["on_after_node_download", "on_after_node_engine_init", "on_node_failure"]
ProcessHookName: TypeAlias = Literal["on_engine_process_start"]
HookName: TypeAlias = ReplicaVetoHookName | ReplicaHookName | NodeVetoHookName | NodeHookName | ProcessHookName

Role: TypeAlias = Literal["frontend", "config", "core", "worker", "inspection"]
"""The part that a process has in an engine. What each is, ``docs/engine-processes.md`` says."""

ROLES: tuple[Role, ...] = ("frontend", "config", "core", "worker", "inspection")


class HookPoint(NamedTuple):
    """One row of the table: a moment of a replica's start at which hooks run.

    Attributes:
        name: what ``@hook("...")`` is given.
        purpose: what people use it for, in words.
        where: ``"replica"`` runs it once, in the replica; ``"node"`` on every node of the placement group;
            ``"process"`` in each process of the engine.
        phase: the name of this moment for phase callbacks; ``None`` where they are not called.
        veto: what a veto skips, in words; ``None`` where a hook may not veto.
        within: the point whose veto leaves this one out, with all that is within this one; ``None`` where it runs
            whatever is vetoed.
        when: under which condition it runs, in words: when in the replica, or on which of the nodes.
        after_engine: ``True`` for points after the engine's start, which Ray's own callbacks never reach.
        during: ``"start"`` for a step of a start; ``"shutdown"`` for the end of a replica that has started;
            ``"failure"`` for what runs only when a start fails.
    """

    name: HookName
    purpose: str
    where: Literal["replica", "node", "process"] = "replica"
    phase: str | None = None
    veto: str | None = None
    within: ReplicaVetoHookName | None = None
    when: str = ""
    after_engine: bool = False
    during: Literal["start", "shutdown", "failure"] = "start"

    @property
    def on_node(self) -> bool:
        """Return True if the hooks run on every node of the placement group."""
        return self.where == "node"

    @property
    def in_process(self) -> bool:
        """Return True if the hooks run in each process of the engine, and so cannot be async or limited in time."""
        return self.where == "process"

    @property
    def needs_server(self) -> bool:
        """Return True if the hooks need a server of ours: Ray's own callbacks end before the engine starts."""
        return self.after_engine or self.in_process

    @property
    def may_veto(self) -> bool:
        """Return True if a hook here may return ``False`` or ``skip("why")``."""
        return self.veto is not None

    @property
    def context(self) -> str:
        """Return the name of the class of ``ctx``."""
        return {"replica": "CallbackCtx", "node": "NodeCtx", "process": "EngineProcessCtx"}[self.where]

    @property
    def runs(self) -> str:
        """Return where and when the hooks run, in words."""
        if self.on_node:
            return f"on every node of the placement group{self.when and f' {self.when}'}"
        if self.in_process:
            return f"once in each process of the engine{self.when and f', {self.when}'}"
        return f"once{self.when and f', {self.when}'}, in the replica"


_ROWS = (
    HookPoint(
        "on_before_init", "set up `ctx` before anything happens", phase="pre_initialization", veto="the defaults"
    ),
    HookPoint(
        "on_custom_init",
        "take over: own placement group, runtime env, files",
        phase="custom_initialization",
        when="only when the defaults are skipped",
    ),
    HookPoint(
        "on_before_download",
        "choose what each node downloads",
        phase="pre_download",
        within="on_before_init",
        veto="all downloads and per-node hooks",
    ),
    HookPoint(
        "on_before_node_download",
        "per-node work: extra files, caches, disk checks",
        where="node",
        within="on_before_download",
        veto="the download on this node",
    ),
    HookPoint("on_after_node_download", "verify, unpack, warm", where="node", within="on_before_download"),
    HookPoint(
        "on_after_download",
        "see every node's result in `ctx.nodes`",
        phase="post_download",
        within="on_before_init",
    ),
    HookPoint(
        "on_after_placement_group",
        "last word on `ctx.placement_group`",
        phase="post_placement_group",
        within="on_before_init",
    ),
    HookPoint(
        "on_before_engine_init",
        "last word on `ctx.extra_init_kwargs`, `ctx.model_path`",
        phase="pre_engine_init",
    ),
    HookPoint(
        "on_engine_process_start",
        "own architectures, tool and reasoning parsers, logits processors, patches",
        where="process",
        when="before it looks at the model",
    ),
    HookPoint(
        "on_after_engine_init",
        "`ctx.engine` answers: warm-up requests, save caches",
        phase="post_engine_init",
        after_engine=True,
    ),
    HookPoint(
        "on_after_node_engine_init",
        "save the caches that the engine has written here, register the node",
        where="node",
        within="on_before_download",
        when="once the engine is up",
        after_engine=True,
    ),
    HookPoint(
        "on_after_init",
        "metrics, registration; the last of a good start",
        phase="post_initialization",
        after_engine=True,
    ),
    HookPoint(
        "on_shutdown",
        "`ctx.engine` still answers: drain, deregister, save; its failure is logged",
        when="when Serve stops a replica that has started",
        after_engine=True,
        during="shutdown",
    ),
    HookPoint(
        "on_node_failure",
        "`ctx.error`: unmount, remove half a download; its own failure is logged, the first one is raised",
        where="node",
        when="whose own work has failed or was cancelled",
        during="failure",
    ),
    HookPoint(
        "on_failure",
        "`ctx.error`: metrics, clean-up; its own failure is logged, the first one is raised",
        when="when any of the above failed",
        during="failure",
    ),
)

HOOK_POINTS: dict[str, HookPoint] = {row.name: row for row in _ROWS}
"""Every hook point by name, in the order in which they run."""

HOOK_NAMES: tuple[HookName, ...] = tuple(row.name for row in _ROWS)
"""The names of all hook points, in the order in which they run."""

PHASES: tuple[str, ...] = tuple(row.phase for row in _ROWS if row.phase is not None)
"""The phases at which phase callbacks are called, in the order in which they run."""


def left_out_by(veto: HookName) -> tuple[HookName, ...]:
    """Return the points that a veto at this one leaves out, in the order in which they run.

    Example:
        >>> left_out_by("on_before_download")
        ('on_before_node_download', 'on_after_node_download', 'on_after_node_engine_init')
    """
    found: list[HookName] = []
    for row in _ROWS:  # a row comes after the one that it is within
        if row.within == veto or row.within in found:
            found.append(row.name)
    return tuple(found)


def hook_point(name: object) -> HookPoint:
    """Return the row of a hook point.

    Raises:
        UnknownHookError: there is no such point; the message suggests one and lists all.

    Example:
        >>> hook_point("on_before_download").phase
        'pre_download'
    """
    point = HOOK_POINTS.get(name) if isinstance(name, str) else None
    if point is None:
        from .errors import UnknownHookError  # only a mistake pays for these imports
        from .messages import describe, did_you_mean

        hint = did_you_mean(name, HOOK_NAMES) if isinstance(name, str) else ""
        if callable(name):
            hint = ', but @hook needs one: write @hook("on_before_download") above the function'
        raise UnknownHookError(
            f"{describe(name)} is not a hook point{hint}. In the order they run: {', '.join(HOOK_NAMES)}."
        )
    return point
