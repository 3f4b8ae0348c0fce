"""Misspelt points and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import CallbackCtx, HookRegistry, NodeCtx, hook, registry

if TYPE_CHECKING:
    from serve_llm_hooks import HookName


def plain(ctx: CallbackCtx) -> None: ...


@hook("on_before_downlod")  # error: No overload
def misspelt(ctx: CallbackCtx) -> None: ...


@HookRegistry().hook("on_before_downlod")  # error: No overload
def misspelt_in_a_private_registry(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", ordr=1)  # error: No overload
def misspelt_option(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order="1")  # error: No overload
def order_is_a_number(ctx: CallbackCtx) -> None: ...


@hook("on_before_node_download", timeout_s="3")  # error: No overload
def timeout_is_a_number(ctx: NodeCtx) -> None: ...


@hook("on_after_init", on_error="ignore")  # error: No overload
def on_error_is_one_of_two(ctx: CallbackCtx) -> None: ...


@hook("on_after_init", after=plain)  # error: No overload
def after_takes_names(ctx: CallbackCtx) -> None: ...


@hook("on_after_init", once_per_node=True)  # error: No overload
def once_per_node_is_for_nodes(ctx: CallbackCtx) -> None: ...


@hook("on_after_node_download", once_per_node=3)  # error: No overload
def once_per_node_is_a_text(ctx: NodeCtx) -> None: ...


@hook("on_after_init", model_id=7)  # error: No overload
def model_id_is_text(ctx: CallbackCtx) -> None: ...


@hook()  # error: at least one argument
def no_point(ctx: CallbackCtx) -> None: ...


@hook  # error: No overload
def not_called(ctx: CallbackCtx) -> None: ...


registry.hooks("on_after_int")  # error: 'on_after_int'
name: HookName = "on_after_int"  # error: 'on_after_int'
