"""Files for the type checkers that have every hook point in them: their text is made of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS

if TYPE_CHECKING:
    from serve_llm_hooks import HookPoint

HEAD = """
from serve_llm_hooks import CallbackCtx, EngineProcessCtx, HookName, NodeCtx, RayServeLLMCallback, Skip, hook
"""

HOOK = """
@hook("{point}"){decorator}
{a_sync}def hook_{number}(ctx: {ctx}) -> {answer}:
    raise NotImplementedError

class Callback{number}(RayServeLLMCallback):
    {a_sync}def {point}(self, ctx: {ctx}) -> {answer}:{method}
        raise NotImplementedError
"""

NAME = """
{point}: HookName = "{point}"
def {point}_of(callback: RayServeLLMCallback) -> object:
    return callback.{point}
"""

# Where a function does not fit, mypy names the type variable of its kind of point: (where, with a veto).
KINDS = {
    ("replica", True): "ReplicaVetoFn",
    ("replica", False): "ReplicaFn",
    ("node", True): "NodeVetoFn",
    ("node", False): "NodeFn",
    ("process", False): "ProcessFn",
}


def right() -> str:
    """Every point in the sync and the async form, as a function and as a method, returning each that it may."""
    text = HEAD
    for point, row in HOOK_POINTS.items():
        text += NAME.format(point=point)
        for answer in ("None", "bool", "Skip", "bool | Skip | None") if row.may_veto else ("None",):
            text += _hooks(row, ctx=row.context, answer=answer)
    return text


def wrong() -> str:
    """Every point with the other ctx, and with an answer that it does not take; the lines that must fail are marked."""
    text = HEAD
    for point, row in HOOK_POINTS.items():
        ours, other = row.context, "NodeCtx" if row.where == "replica" else "CallbackCtx"
        for ctx, answer in [(other, "None"), (ours, "str" if row.may_veto else "bool")]:
            text += _hooks(
                row,
                ctx=ctx,
                answer=answer,
                decorator=f"  # error: {KINDS[row.where, row.may_veto]}",
                method=f'  # error: "{point}"',
            )
    return text


def _hooks(row: HookPoint, *, ctx: str, answer: str, decorator: str = "", method: str = "") -> str:
    return "".join(
        HOOK.format(
            point=row.name,
            number=f"{row.name}_{ctx}_{answer.replace(' | ', '_or_')}{'_async' if a_sync else ''}",
            a_sync=a_sync,
            ctx=ctx,
            answer=answer,
            decorator=decorator,
            method=method,
        )
        for a_sync in (("",) if row.in_process else ("", "async "))
    )
