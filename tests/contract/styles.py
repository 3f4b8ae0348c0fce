"""Callbacks in every way to write one, for ``test_styles.py``. Nodes import this module: it knows neither wing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookRegistry, InitializeNodeOutput, RayServeLLMCallback, skip

from . import wing

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from serve_llm_hooks import CallbackCtx, NodeCtx, Skip


def note(ctx: CallbackCtx | NodeCtx, who: str) -> None:
    """Leave a note; copies show."""
    ctx.custom_data["notes"] = [*ctx.custom_data.get("notes", []), who]


class Lean(RayServeLLMCallback):
    """State on self, on both sides."""

    def __init__(self, name: str = "lean") -> None:
        self.name = name
        self.calls = 0

    def say(self, ctx: CallbackCtx | NodeCtx) -> None:
        self.calls += 1
        note(ctx, f"{self.name} {self.calls}")

    async def on_before_init(self, ctx: CallbackCtx) -> None:
        self.say(ctx)

    def on_custom_init(self, ctx: CallbackCtx) -> None:
        self.say(ctx)
        ctx.placement_group = wing.make_group([2])

    def on_before_node_download(self, ctx: NodeCtx) -> Skip | None:
        self.say(ctx)
        return None if ctx.is_local else skip(f"{self.name} has it")

    async def on_after_node_download(self, ctx: NodeCtx) -> None:
        self.say(ctx)

    async def on_after_init(self, ctx: CallbackCtx) -> None:
        self.say(ctx)


class Counts:
    """An object for phases, with state."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    async def __call__(self, phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any]:
        self.phases.append(phase)
        return {"phases": self.phases, "skipped": data["skip_default"]}


def phase_function(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    """Changes what comes next."""
    if phase in ("pre_initialization", "post_placement_group", "custom_initialization"):
        data["notes"] = [*data.get("notes", []), phase]
    if phase == "post_download":
        data["result"] = [data["download_result"].is_local, data["download_result"].path]
    if phase == "pre_engine_init":
        data["extra_init_kwargs"]["enforce_eager"] = True
        return {"extra_init_kwargs": {"max_model_len": 128}}
    return None


def skips(phase: str, config: Any, data: MutableMapping[str, Any]) -> None:
    """Skips the defaults."""
    if phase == "pre_initialization":
        data["skip_default"] = True


def too_late(phase: str, config: Any, data: MutableMapping[str, Any]) -> None:
    """Skips them when they have run."""
    if phase == "post_download":
        data["skip_default"] = True


def returns_a_list(phase: str, config: Any, data: MutableMapping[str, Any]) -> Any:
    """Returns what cannot be merged."""
    return [phase]


class Replaces:
    """Replaces the initialization."""

    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput(wing.make_group([1]), None, {"max_model_len": 64})


functions = HookRegistry()


@functions.hook("on_before_init")
def function(ctx: CallbackCtx) -> None:
    """A function beside them."""
    note(ctx, "function")


@functions.hook("on_before_node_download", order=-1)
def function_on_node(ctx: NodeCtx) -> None:
    """Before the class's method."""
    note(ctx, "function on the node")


class Object:
    """An object whose methods are hooks, each decorated on its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def here(self, ctx: CallbackCtx) -> None:
        note(ctx, self.name)

    def on_node(self, ctx: NodeCtx, *, secret: Secret | None = None) -> None:
        note(ctx, f"{self.name} {secret.value if secret else ''}")


class Secret:
    """Prints like every other."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return "***"


first, second = Object("first"), Object("second")
for each in (first, second):
    HookRegistry().hook("on_before_init")(each.here)
    HookRegistry().hook("on_before_node_download")(each.on_node)
