"""Functions that do not fit their point."""

from __future__ import annotations

from serve_llm_hooks import CallbackCtx, HookRegistry, NodeCtx, Skip, hook, skip

private = HookRegistry()

# -- what it is given ---------------------------------------------------------------------------------------------


@hook("on_before_init")  # error: ReplicaVetoFn
def node_ctx_in_the_replica(ctx: NodeCtx) -> None: ...


@hook("on_after_init")  # error: ReplicaFn
async def node_ctx_in_the_replica_async(ctx: NodeCtx) -> None: ...


@hook("on_before_node_download")  # error: NodeVetoFn
def callback_ctx_on_a_node(ctx: CallbackCtx) -> None: ...


@hook("on_after_node_download")  # error: NodeFn
async def callback_ctx_on_a_node_async(ctx: CallbackCtx) -> None: ...


@private.hook("on_after_node_download")  # error: NodeFn
def callback_ctx_on_a_node_in_a_private_registry(ctx: CallbackCtx) -> None: ...


@hook("on_before_init")  # error: ReplicaVetoFn
def no_argument() -> None: ...


@hook("on_after_node_download")  # error: NodeFn
def only_by_name(*, ctx: NodeCtx) -> None: ...


@hook("on_failure")  # error: ReplicaFn
@hook("on_after_node_download")
def in_two_places(ctx: NodeCtx) -> None: ...


class Hooks:
    """A method takes self first."""

    @hook("on_after_init")  # error: ReplicaFn
    def method(self, ctx: CallbackCtx) -> None: ...


# -- what it returns ----------------------------------------------------------------------------------------------


@hook("on_before_init")  # error: ReplicaVetoFn
def text_for_a_veto(ctx: CallbackCtx) -> str:
    return "yes"


@hook("on_before_download")  # error: ReplicaVetoFn
async def text_for_a_veto_async(ctx: CallbackCtx) -> str:
    return "yes"


@hook("on_before_node_download")  # error: NodeVetoFn
def number_for_a_veto(ctx: NodeCtx) -> int:
    return 0


@hook("on_after_init")  # error: ReplicaFn
def veto_where_there_is_none(ctx: CallbackCtx) -> bool:
    return False


@hook("on_after_engine_init")  # error: ReplicaFn
async def veto_where_there_is_none_async(ctx: CallbackCtx) -> bool:
    return False


@hook("on_after_node_download")  # error: NodeFn
def skip_where_there_is_nothing_to_skip(ctx: NodeCtx) -> Skip:
    return skip("no")


@hook("on_failure")  # error: ReplicaFn
@hook("on_before_init")
def veto_at_one_of_two(ctx: CallbackCtx) -> bool:
    return False


skip(3)  # error: "skip"
