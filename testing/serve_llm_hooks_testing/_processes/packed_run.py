"""A ``FakeRun`` that leaves the process of its replica."""

from __future__ import annotations

import ast
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from serve_llm_hooks import CallbackCtx, Trace
from serve_llm_hooks._core.context import close, set_read_only
from serve_llm_hooks._core.messages import one_line

from ..errors import HarnessError
from ..run import FakeNode, FakeRun
from .packing import NotSent, Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve_llm_hooks import HookEvent, HookName, StartStep
    from serve_llm_hooks._core.node import Node

    from ..run import Ended
    from .packing import Packed

_CUSTOM_DATA = "run.ctx.custom_data"
# Fields that the run has too, or that are made again.
_NOT_PACKED = ("custom_data", "trace", "error", "_refuse")


class PackedRun(NamedTuple):
    """The result of a replica's process, as far as it can travel.

    Attributes:
        values: the error, the nodes, the output, the engine and the fields of the context.
        is_closed: whether the context takes no assignments any more; ``None`` if there is none.
        error_text: the error's traceback.
        texts_at_its_end: the tracebacks of what failed when the replica was stopped.
    """

    model_id: str
    elapsed_s: float
    reached: HookName | None
    events: tuple[HookEvent, ...]
    steps: tuple[StartStep, ...]
    process_id: int
    node: Node
    values: Packed
    is_closed: bool | None
    error_text: str
    texts_at_its_end: tuple[str, ...]


def pack_run(run: FakeRun, known: Sequence[object], at_its_end: Sequence[Exception] = ()) -> PackedRun:
    """Pack a run. What both sides know arrives as it is there.

    Args:
        run: the run.
        known: what both sides know.
        at_its_end: the failures of the replica's hooks when it was stopped.
    """
    values: dict[str, Any] = {"run.error": run.error, "run.output": run.output, "run.engine": run.engine}
    values |= {f"run.nodes[{node_id!r}]": node for node_id, node in run.nodes.items()}
    values |= {_failure(number): error for number, error in enumerate(at_its_end)}
    ctx = run.ctx
    if ctx is not None:
        fields = {name: value for name, value in vars(ctx).items() if name not in _NOT_PACKED}
        values |= {f"run.ctx.{name}": _plain(value) for name, value in fields.items()}
        values |= {f"{_CUSTOM_DATA}[{key!r}]": value for key, value in ctx.custom_data.items()}
    return PackedRun(
        model_id=run.model_id,
        elapsed_s=run.elapsed_s,
        reached=run.reached,
        events=tuple(run.trace),
        steps=run.trace.steps,
        process_id=run.trace.process_id,
        node=run.trace.node,
        values=Packer(known).pack(values),
        is_closed=None if ctx is None else "_refuse" in vars(ctx),
        error_text="" if run.error is None else _traceback_of(run.error),
        texts_at_its_end=tuple(map(_traceback_of, at_its_end)),
    )


def unpack_run(packed: PackedRun, known: Sequence[object], node_ids: Sequence[str]) -> FakeRun:
    """Return the run in the test's process.

    Raises:
        HarnessError: it has something that this process cannot make.
    """
    try:
        values = Packer(known).unpack(packed.values)
    except Exception as failure:  # of any kind: it is some value's own code
        raise HarnessError(
            f"what the replica's process gives back cannot be unpickled in the test's: {one_line(failure)}. Is there a "
            "class that only the replica has? Leave the replica in the test's process, with processes='nodes' or False"
        ) from failure
    trace = Trace(**packed.node._asdict(), clock=float, epoch_s=0.0)
    trace.process_id = packed.process_id
    trace.extend(packed.events)
    trace.steps = packed.steps
    error = values.pop("run.error")
    if error is not None:
        _note_where(error, packed.error_text, known)
    at_its_end = [values.pop(_failure(number)) for number in range(len(packed.texts_at_its_end))]
    for each, text in zip(at_its_end, packed.texts_at_its_end, strict=True):
        _note_where(each, text, known)
    nodes = {node_id: values.pop(f"run.nodes[{node_id!r}]") for node_id in node_ids}
    run = FakeRun(
        model_id=packed.model_id,
        nodes=MappingProxyType(
            {node_id: FakeNode(node_id) if isinstance(node, NotSent) else node for node_id, node in nodes.items()}
        ),
        trace=trace,
        output=values.pop("run.output"),
        error=error,
        elapsed_s=packed.elapsed_s,
        engine=values.pop("run.engine"),
        reached=packed.reached,
    )
    if at_its_end:
        run._stop = _told_once(tuple(at_its_end))
    if packed.is_closed is not None:
        run.ctx = _unpacked_ctx(values, is_closed=packed.is_closed)
        set_read_only(run.ctx, trace=trace, error=error)
    return run


def _failure(number: int) -> str:
    """Return the name of one of the failures of a replica's end, among the values of its run."""
    return f"run.shut_down()[{number}]"


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _note_where(error: BaseException, text: str, known: Sequence[object]) -> None:
    """Give an error that has come from the replica's process its traceback there."""
    if not any(error is each for each in known):
        error.add_note(f"In the replica's process:\n{text.rstrip()}")


def _told_once(failures: tuple[Exception, ...]) -> Callable[[float | None], Ended]:
    """Return a ``shut_down`` for a replica that was stopped in its own process: the first call tells its failures."""
    left = [failures]

    def stop(budget_s: float | None) -> Ended:
        return (left.pop() if left else ()), ()

    return stop


def _unpacked_ctx(values: dict[str, Any], *, is_closed: bool) -> CallbackCtx:
    ctx = object.__new__(CallbackCtx)
    custom_data: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(f"{_CUSTOM_DATA}["):
            custom_data[_key(name)] = value
        else:
            vars(ctx)[name.removeprefix("run.ctx.")] = value
    fields = vars(ctx)
    fields["custom_data"] = custom_data
    fields["nodes"] = _read_only(fields["nodes"])
    if is_closed:
        close(ctx)
    return ctx


def _key(name: str) -> str:
    key: str = ast.literal_eval(name.removeprefix(f"{_CUSTOM_DATA}[").removesuffix("]"))
    return key


def _plain(value: Any) -> Any:
    """Return a value as pickle takes it."""
    return dict(value) if isinstance(value, MappingProxyType) else value


def _read_only(value: Any) -> Any:
    return MappingProxyType(value) if isinstance(value, dict) else value
