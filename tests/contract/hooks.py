"""The hooks of the scenarios. Nodes import this module: it knows neither wing."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookRegistry, RayServeLLMCallback, ask, hook_options, skip

from . import wing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from serve_llm_hooks import CallbackCtx, EngineProcessCtx, NodeCtx, Skip

# Not the process's own: a test run must not find these registered.
_registry = HookRegistry()
hook = _registry.hook


def note(ctx: CallbackCtx | NodeCtx, what: str, value: object = True) -> None:
    """Leave a note for the result. What was noted before stays as it is: copies show."""
    ctx.custom_data["notes"] = {**ctx.custom_data.get("notes", {}), what: value}


def slot(ctx: NodeCtx | EngineProcessCtx) -> int:
    """Which of the run's nodes this is."""
    number: int = ctx.custom_data["slots"][ctx.node_id]
    return number


# -- every point ------------------------------------------------------------------------------------------------------


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> None:
    note(ctx, "at the start", [ctx.model_id, ctx.placement_group, ctx.model_path, ctx.engine, ctx.run_init_node])
    note(ctx, "mode at the start", [ctx.worker_node_download_model, ctx.local_node_download_model])


@hook("on_custom_init")
def custom_init(ctx: CallbackCtx) -> None:
    note(ctx, "custom init", [ctx.run_init_node, ctx.placement_group])


@hook("on_before_download")
async def before_download(ctx: CallbackCtx) -> None:
    note(ctx, "a group before the download", ctx.placement_group is not None)


@hook("on_before_node_download", order=1)
def before_node_second(ctx: NodeCtx) -> None:
    note(ctx, "second", [ctx.is_local, slot(ctx), ctx.download_model, ctx.model_path])


@hook("on_before_node_download")
async def before_node_first(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.01)
    note(ctx, "first", "second" in ctx.custom_data.get("notes", {}))


@hook("on_after_node_download")
def after_node(ctx: NodeCtx) -> None:
    note(ctx, "after", [ctx.model_path, ctx.model_id])


@hook("on_after_download")
def after_download(ctx: CallbackCtx) -> None:
    note(ctx, "after the download", {id_: sorted(node.custom_data) for id_, node in ctx.nodes.items()})


@hook("on_after_node_download")
def where_it_is(ctx: NodeCtx) -> None:
    note(ctx, "address and hostname", [bool(ctx.address), bool(ctx.hostname)])


@hook("on_after_download")
def where_nodes_are(ctx: CallbackCtx) -> None:
    places = {node.node_id: (node.address, node.hostname) for node in ctx.nodes.values()}
    note(ctx, "known", all(all(place) for place in places.values()))
    # That of a call was sent to the node, and came back.
    note(ctx, "in the trace", {(each.address, each.hostname) == places[each.node_id] for each in ctx.trace} == {True})


@hook("on_after_placement_group")
def after_placement_group(ctx: CallbackCtx) -> None:
    note(ctx, "after the group", [ctx.placement_group is not None, ctx.model_path])


@hook("on_before_engine_init")
async def before_engine_init(ctx: CallbackCtx) -> None:
    note(ctx, "before the engine", [ctx.engine, ctx.model_path])


@hook("on_engine_process_start")
def process_start(ctx: EngineProcessCtx) -> None:
    assert ctx.model_id == "m"


@hook("on_after_engine_init")
async def after_engine_init(ctx: CallbackCtx) -> None:
    note(ctx, "an engine", ctx.engine is not None)


@hook("on_after_node_engine_init")
def after_node_engine(ctx: NodeCtx) -> None:
    note(ctx, "behind the engine", [ctx.model_path, ctx.is_local, slot(ctx), ctx.download_model])


@hook("on_after_init")
def after_init(ctx: CallbackCtx) -> None:
    note(ctx, "points so far", list(dict.fromkeys(event.point for event in ctx.trace)))


@hook("on_shutdown")
async def shutdown(ctx: CallbackCtx) -> None:
    note(ctx, "at the end", [ctx.engine is not None, ctx.error, len(ctx.nodes), ctx.model_path])


@hook("on_node_failure")
def node_failure(ctx: NodeCtx) -> None:
    assert ctx.error is not None
    note(ctx, "node failure", [type(ctx.error).__name__, ctx.error.__cause__ is not None, ctx.model_path])


@hook("on_failure")
def failure(ctx: CallbackCtx) -> None:
    note(ctx, "failure", [type(ctx.error).__name__, ctx.engine is not None])
    note(ctx, "failed nodes", [id_ for id_, node in ctx.nodes.items() if node.error])


EVERY_POINT: list[Any] = [
    before_init, custom_init, before_download, before_node_second, before_node_first, after_node, after_download,
    after_placement_group, before_engine_init, process_start, after_engine_init, after_node_engine, after_init,
    shutdown, node_failure, failure,
]  # fmt: skip

# -- the engine's processes -------------------------------------------------------------------------------------------


@hook("on_before_engine_init")
def data_for_processes(ctx: CallbackCtx) -> None:
    ctx.custom_data["parser"] = {"name": "contract"}


@hook("on_engine_process_start", on_error="warn")
def tell_process(ctx: EngineProcessCtx) -> None:
    """Say in the trace what it has found: nothing else comes back."""
    raise LookupError(f"{ctx.process} {ctx.role} {ctx.rank} {slot(ctx)} {ctx.custom_data['parser']}")


@hook("on_engine_process_start", roles="worker")
def in_workers(ctx: EngineProcessCtx) -> None:
    assert ctx.role == "worker"


@hook("on_engine_process_start", roles=["core", "frontend"], order=-1)
def in_core_and_frontend(ctx: EngineProcessCtx) -> None:
    assert ctx.rank is None


@hook("on_engine_process_start", roles="inspection")
def in_inspection(ctx: EngineProcessCtx) -> None:
    raise AssertionError


@hook("on_engine_process_start")
def fails_in_second_worker(ctx: EngineProcessCtx) -> None:
    if ctx.process == "worker-1":
        raise LookupError("no such parser")


@hook("on_engine_process_start", roles="core")
def fails_in_core(ctx: EngineProcessCtx) -> None:
    sys.exit(3)


@hook("on_engine_process_start", roles="frontend")
def fails_in_frontend(ctx: EngineProcessCtx) -> None:
    raise LookupError("no such parser")


@hook("on_engine_process_start", roles="worker")
def changes_what_is_read_only(ctx: EngineProcessCtx) -> None:
    ctx.custom_data["parser"] = None  # type: ignore[index]  # what a checker refuses too


@hook("on_engine_process_start", roles="core")
def returns_what_means_nothing(ctx: EngineProcessCtx) -> Any:
    return False


@hook("on_engine_process_start")
def returns_a_coroutine(ctx: EngineProcessCtx) -> Any:
    return asyncio.sleep(0)


@hook("on_before_engine_init")
def too_much_data(ctx: CallbackCtx) -> None:
    ctx.custom_data["weights"] = random.Random(0).randbytes(200_000)


@hook("on_before_engine_init")
def data_that_stays(ctx: CallbackCtx) -> None:
    ctx.custom_data["lock"] = threading.Lock()


class InProcesses(RayServeLLMCallback):
    """A class whose object each process has for itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        self.seen = True

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        assert hasattr(self, "seen") == (ctx.role == "frontend"), ctx.process
        assert self.name == "contract"


class AsyncInProcesses:
    """A class that no process can call."""

    async def on_engine_process_start(self, ctx: EngineProcessCtx) -> None: ...


# -- vetoes -----------------------------------------------------------------------------------------------------------


@hook("on_before_init")
def skip_defaults(ctx: CallbackCtx) -> bool:
    return False


@hook("on_before_init")
async def skip_defaults_with_a_reason(ctx: CallbackCtx) -> Skip:
    return skip("all is there already")


@hook("on_custom_init")
def own_group_on_second_and_first(ctx: CallbackCtx) -> None:
    ctx.placement_group = wing.make_group([1, 0])
    ctx.model_path = "/own/model"


@hook("on_before_download")
def no_download(ctx: CallbackCtx) -> bool:
    return False


@hook("on_before_init")
def changes_the_config(ctx: CallbackCtx) -> None:
    ctx.llm_config.engine_kwargs["seed"] = 7


@hook("on_before_init")
def changes_the_environment(ctx: CallbackCtx) -> None:
    ctx.llm_config.runtime_env = {"env_vars": {"TOKEN": "secret"}}


@hook("on_before_init")
def changes_the_hooks(ctx: CallbackCtx) -> None:
    ctx.llm_config.hooks.append("my_company.llm_hooks")


@hook("on_before_engine_init")
def removes_from_the_config(ctx: CallbackCtx) -> None:
    del ctx.llm_config.engine_kwargs["max_model_len"]


@hook("on_before_init")
def parallel_in_both_places(ctx: CallbackCtx) -> None:
    ctx.llm_config.engine_kwargs["tensor_parallel_size"] = 2
    ctx.extra_init_kwargs["tensor_parallel_size"] = 2


@hook("on_before_download")
def changes_the_source(ctx: CallbackCtx) -> None:
    ctx.llm_config.model_loading_config.model_source = "/elsewhere/model"


@hook("on_before_download")
def mode_none(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "NONE"


@hook("on_before_download")
async def no_download_with_a_reason(ctx: CallbackCtx) -> Skip:
    return skip("baked into the image")


@hook("on_before_download")
def go_on(ctx: CallbackCtx) -> bool:
    note(ctx, "asked after a veto")
    return True


@hook("on_before_download")
def no_init_node(ctx: CallbackCtx) -> None:
    ctx.run_init_node = False


@hook("on_before_node_download")
def baked_in(ctx: NodeCtx) -> Skip:
    ctx.model_path = "/baked/in"
    return skip("baked into the image")


@hook("on_before_node_download")
def not_on_second(ctx: NodeCtx) -> bool:
    return slot(ctx) != 1


@hook("on_after_download")
def veto_where_there_is_none(ctx: CallbackCtx) -> Any:
    return False


@hook("on_after_init")
def returns_a_number(ctx: CallbackCtx) -> Any:
    return 42


@hook("on_after_node_download")
def returns_a_number_on_second(ctx: NodeCtx) -> Any:
    return 42 if slot(ctx) == 1 else None


# -- modes ------------------------------------------------------------------------------------------------------------


@hook("on_before_download")
def local_only(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "NONE"
    ctx.local_node_download_model = "TOKENIZER_ONLY"


@hook("on_before_node_download")
def mode_of_its_own(ctx: NodeCtx) -> None:
    ctx.download_model = "TOKENIZER_ONLY" if slot(ctx) == 1 else "NONE"


@hook("on_before_download")
def no_such_mode(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "TOKENISER_ONLY"  # type: ignore[assignment]  # that is the point


@hook("on_before_download")
def no_such_field(ctx: CallbackCtx) -> None:
    ctx.model_paht = "/m"  # type: ignore[attr-defined]  # that is the point


# -- placement groups -------------------------------------------------------------------------------------------------


@hook("on_before_init")
def group_on_third_and_first(ctx: CallbackCtx) -> None:
    ctx.placement_group = wing.make_group([2, 0])


@hook("on_before_init")
def group_without_our_node(ctx: CallbackCtx) -> None:
    ctx.placement_group = wing.make_group([1, 2])


@hook("on_before_init")
def two_bundles_on_second(ctx: CallbackCtx) -> None:
    ctx.placement_group = wing.make_group([1, 1])


@hook("on_after_placement_group")
def group_on_all(ctx: CallbackCtx) -> None:
    note(ctx, "before it is replaced", list(ctx.nodes))
    ctx.placement_group = wing.make_group([0, 1, 2])


@hook("on_before_init")
def group_none(ctx: CallbackCtx) -> None:
    ctx.placement_group = None


@hook("on_before_engine_init")
def group_too_late(ctx: CallbackCtx) -> None:
    ctx.placement_group = wing.make_group([0])


# -- order, models, parameters ----------------------------------------------------------------------------------------


@hook("on_before_init")
async def third(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.01)


@hook("on_before_init", before="third")
def second(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order=-1)
async def first(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", after="third", order=-5)
def fourth(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order=3)
def fifth(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order=3)
async def sixth(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", after="circle_b")
def circle_a(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", after="circle_a")
def circle_b(ctx: CallbackCtx) -> None: ...


@hook("on_after_node_download", model_id="meta-llama/*")
def for_llamas(ctx: NodeCtx) -> None:
    note(ctx, "for", "llamas")


@hook("on_after_node_download", model_id=["qwen", "gemma-?"])
async def for_others(ctx: NodeCtx) -> None:
    note(ctx, "for", "others")


@hook("on_before_init", model_id="nobody")
def for_nobody(ctx: CallbackCtx) -> None:
    raise AssertionError("not my model")


@hook("on_before_init")
def with_parameters(ctx: CallbackCtx, *, bucket: str, count: int = 1) -> None:
    note(ctx, "parameters", [bucket, count])


@hook("on_after_node_download")
async def with_parameters_on_nodes(ctx: NodeCtx, *, folder: str) -> None:
    note(ctx, "parameters", folder)


@hook("on_before_init")
def returns_an_awaitable(ctx: CallbackCtx) -> Awaitable[None]:
    async def later() -> None:
        note(ctx, "awaited")

    return later()


# -- what crosses -----------------------------------------------------------------------------------------------------


@dataclass
class Parcel:
    """Something of our own that crosses."""

    words: list[str]


@hook("on_before_download")
def send(ctx: CallbackCtx) -> None:
    ctx.custom_data["parcel"] = Parcel(["from the replica"])
    ctx.custom_data["tuple"] = (1, 2)


@hook("on_before_node_download")
def receive(ctx: NodeCtx) -> None:
    parcel = ctx.custom_data["parcel"]
    parcel.words.append(f"on {slot(ctx)}")
    note(ctx, "tuple", isinstance(ctx.custom_data["tuple"], tuple))
    ctx.custom_data["only of"] = slot(ctx)


@hook("on_after_node_download")
def look_again(ctx: NodeCtx) -> None:
    note(ctx, "parcel", ctx.custom_data["parcel"].words)


@hook("on_after_download")
def count_parcels(ctx: CallbackCtx) -> None:
    mine = ctx.custom_data["parcel"]
    note(ctx, "mine", [mine.words, "only of" in ctx.custom_data])
    note(ctx, "theirs", [node.custom_data["parcel"].words for node in ctx.nodes.values()])
    note(ctx, "a copy", all(node.custom_data["parcel"] is not mine for node in ctx.nodes.values()))


@hook("on_before_download")
def send_a_lock(ctx: CallbackCtx) -> None:
    ctx.custom_data["lock"] = threading.Lock()


@hook("on_after_node_download")
def answer_with_a_lock(ctx: NodeCtx) -> None:
    ctx.custom_data["lock"] = threading.Lock()


class Here:
    """Can leave a process, and not arrive in another."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_refuse, ())


def _refuse() -> None:
    raise ValueError("not here")


@hook("on_before_download")
def send_what_does_not_arrive(ctx: CallbackCtx) -> None:
    ctx.custom_data["here"] = Here()


def _holding_a_lock() -> Any:
    lock = threading.Lock()

    @hook("on_before_node_download")
    def holds_a_lock(ctx: NodeCtx) -> None:
        with lock:
            pass

    return holds_a_lock


holds_a_lock = _holding_a_lock()


@hook("on_after_node_download")
def asks_for_the_config(ctx: NodeCtx) -> None:
    note(ctx, "the config's model", ctx.llm_config.model_id)


@hook("on_before_download")
def other_runtime_env(ctx: CallbackCtx) -> None:
    ctx.runtime_env = {"env_vars": {"CONTRACT": "changed"}}


# -- failures ---------------------------------------------------------------------------------------------------------


@hook("on_before_init")
def breaks_at_the_start(ctx: CallbackCtx) -> None:
    raise OSError(28, "No space left on device")


@hook("on_after_init")
async def breaks_at_the_end(ctx: CallbackCtx) -> None:
    raise LookupError("nowhere to register")


@hook("on_after_download")
def exits(ctx: CallbackCtx) -> None:
    sys.exit(3)


@hook("on_after_node_download")
def breaks_on_second(ctx: NodeCtx) -> None:
    if slot(ctx) == 1:
        raise OSError(28, "No space left on device")


@hook("on_before_node_download")
async def breaks_on_second_and_third(ctx: NodeCtx) -> None:
    if slot(ctx):
        raise ConnectionError("the store does not answer")


class Panic(BaseException):
    """A panic in Rust code is raised as something like this, and is no ``Exception``."""


@hook("on_after_download")
async def panics(ctx: CallbackCtx) -> None:
    raise Panic("index out of range")


@hook("on_before_node_download")
async def panics_on_its_node(ctx: NodeCtx) -> None:
    raise Panic("index out of range")


@hook("on_before_node_download")
def exits_on_its_node(ctx: NodeCtx) -> None:
    sys.exit(3)


@hook("on_before_node_download")
def raises_what_cannot_be_pickled(ctx: NodeCtx) -> None:
    class Odd(ValueError):
        lock = threading.Lock()

    raise Odd("with a lock inside")


@hook("on_failure", order=1)
def failure_that_fails(ctx: CallbackCtx) -> None:
    note(ctx, "tried")
    raise RuntimeError("no clean-up today")


@hook("on_failure", order=2)
async def failure_after_that(ctx: CallbackCtx) -> None:
    note(ctx, "the error stays", type(ctx.error).__name__)


@hook("on_before_init", on_error="warn")
def breaks_and_warns(ctx: CallbackCtx) -> None:
    note(ctx, "before it broke")
    raise OSError("never mind")


@hook("on_before_node_download", on_error="warn")
async def breaks_and_warns_on_nodes(ctx: NodeCtx) -> None:
    raise OSError("never mind")


@hook("on_before_node_download", on_error="raise")
def breaks_and_raises(ctx: NodeCtx) -> None:
    raise OSError("mind")


@hook("on_before_init", timeout_s=0.2, on_error="warn")
async def slow_and_warns(ctx: CallbackCtx) -> None:
    await asyncio.sleep(60)


# -- time -------------------------------------------------------------------------------------------------------------


@hook("on_before_download", timeout_s=0.3)
async def slow(ctx: CallbackCtx) -> None:
    note(ctx, "begun")
    await asyncio.sleep(60)
    note(ctx, "never")


@hook("on_before_download", timeout_s=0.3)
def blocks(ctx: CallbackCtx) -> None:
    note(ctx, "begun")
    time.sleep(1.5)


@hook("on_before_node_download", timeout_s=0.3)
async def slow_on_second(ctx: NodeCtx) -> None:
    await asyncio.sleep(60 if slot(ctx) == 1 else 0)


@hook("on_after_node_download", timeout_s=0.3)
def blocks_on_its_node(ctx: NodeCtx) -> None:
    time.sleep(1.5)


@hook("on_before_node_download", timeout_s=60)
async def in_time(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.05)
    note(ctx, "in time")


@hook("on_before_node_download")
async def never_ends_but_on_second(ctx: NodeCtx) -> None:
    if slot(ctx) == 1:
        await asyncio.sleep(0.5)
        raise OSError("the first to fail")
    await asyncio.sleep(1000)


@hook("on_before_node_download")
async def never_ends_on_second(ctx: NodeCtx) -> None:
    if slot(ctx) == 1:
        await asyncio.sleep(1000)


# -- nodes, once the engine is up ------------------------------------------------------------------------------------


@hook("on_after_engine_init")
def the_replica_adds(ctx: CallbackCtx) -> None:
    ctx.custom_data.update(status="warm", late=True)


@hook("on_before_download")
def the_replica_sends(ctx: CallbackCtx) -> None:
    ctx.custom_data.update(status="cold", mine="the replica's")


@hook("on_after_node_download")
def the_node_changes(ctx: NodeCtx) -> None:
    ctx.custom_data["mine"] = f"node {slot(ctx)}'s"


@hook("on_after_node_engine_init")
async def the_node_sees(ctx: NodeCtx) -> None:
    ctx.custom_data["seen"] = [ctx.custom_data[key] for key in ("status", "late", "mine")]


@hook("on_after_init")
def the_replica_gets(ctx: CallbackCtx) -> None:
    note(ctx, "what nodes saw", [node.custom_data["seen"] for node in ctx.nodes.values()])


@hook("on_after_node_engine_init")
def breaks_on_second_behind_the_engine(ctx: NodeCtx) -> None:
    note(ctx, "tried")
    if slot(ctx) == 1:
        raise OSError(28, "No space left on device")


@hook("on_after_node_engine_init")
def changes_the_path_too_late(ctx: NodeCtx) -> None:
    ctx.model_path = "/elsewhere"


# -- clean-up on nodes ------------------------------------------------------------------------------------------------


@hook("on_before_init")
def make_a_folder(ctx: CallbackCtx) -> None:
    ctx.custom_data["folder"] = tempfile.mkdtemp()


@hook("on_before_node_download")
async def works_until_second_fails(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.5)
    if slot(ctx) == 1:
        raise OSError("the first to fail")
    Path(ctx.custom_data["folder"], f"{slot(ctx)} works").touch()
    try:
        await asyncio.sleep(1000)
    finally:
        Path(ctx.custom_data["folder"], f"{slot(ctx)} is cancelled").touch()


@hook("on_node_failure")
async def cleans_up_but_third_is_too_slow(ctx: NodeCtx) -> None:
    folder = Path(ctx.custom_data.pop("folder"))
    (folder / f"{slot(ctx)} cleans up after {type(ctx.error).__name__}").touch()
    await asyncio.sleep(6 if slot(ctx) == 2 else 0.1)
    (folder / f"{slot(ctx)} is clean").touch()


@hook("on_failure")
def look_into_the_folder(ctx: CallbackCtx) -> None:
    folder = ctx.custom_data.pop("folder")
    note(ctx, "in the folder", sorted(os.listdir(folder)))
    shutil.rmtree(folder)


@hook("on_node_failure")
def node_clean_up_that_fails(ctx: NodeCtx) -> None:
    note(ctx, "tried")
    raise RuntimeError("no clean-up today")


@hook("on_node_failure")
async def node_clean_up_after_that(ctx: NodeCtx) -> None:
    note(ctx, "the error stays", type(ctx.error).__name__)


@hook("on_before_node_download", timeout_s=0.3)
def blocks_its_thread(ctx: NodeCtx) -> None:
    time.sleep(20)


# -- the end ----------------------------------------------------------------------------------------------------------


@hook("on_shutdown", order=-1)
def shutdown_that_fails(ctx: CallbackCtx) -> None:
    note(ctx, "tried to deregister")
    raise ConnectionError("the registry does not answer")


@hook("on_shutdown", order=-2, timeout_s=0.2)
async def shutdown_that_takes_too_long(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_shutdown")
async def shutdown_without_an_end(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_shutdown")
def shutdown_that_blocks(ctx: CallbackCtx) -> None:
    time.sleep(4)


@hook("on_shutdown", order=1)
def shutdown_after_that(ctx: CallbackCtx) -> None:
    note(ctx, "there was time left")


# -- spans ------------------------------------------------------------------------------------------------------------


def say(ctx: CallbackCtx | NodeCtx, what: str) -> None:
    """Add a line to what the spans of a start, or of a node, have said."""
    note(ctx, "said", [*ctx.custom_data.get("notes", {}).get("said", ()), what])


def told_error(error: BaseException | None) -> str:
    return "nothing" if error is None else type(error).__name__


@hook("on_before_init")
def outer_span(ctx: CallbackCtx) -> Iterator[None]:
    say(ctx, "outer begins")
    try:
        yield
    except BaseException as error:
        say(ctx, f"outer ends after {told_error(error)}, {ctx.error is error}")
        raise
    say(ctx, "outer ends")


@hook("on_before_download")
async def inner_span(ctx: CallbackCtx) -> AsyncIterator[None]:
    await asyncio.sleep(0.01)
    say(ctx, "inner begins")
    try:
        yield
    except BaseException as error:
        say(ctx, f"inner ends after {told_error(error)}, {ctx.error is error}")
        return  # as if it were none of its business: the start fails all the same
    await asyncio.sleep(0.01)
    say(ctx, "inner ends")


@hook("on_after_init")
def last_of_a_start(ctx: CallbackCtx) -> None:
    say(ctx, "the start is done")


@hook("on_failure")
def last_of_a_failure(ctx: CallbackCtx) -> None:
    say(ctx, f"the start has failed: {told_error(ctx.error)}")


@hook("on_shutdown")
def last_of_all(ctx: CallbackCtx) -> None:
    say(ctx, "the replica stops")


@hook("on_before_init", until="on_before_engine_init")
async def until_the_engine(ctx: CallbackCtx) -> AsyncIterator[None]:
    say(ctx, "begins")
    yield
    say(ctx, f"ends at {ctx.model_path}")
    ctx.extra_init_kwargs["seed"] = 7


@hook("on_before_engine_init")
def behind_the_span(ctx: CallbackCtx) -> None:
    say(ctx, f"before the engine, with seed {ctx.extra_init_kwargs['seed']}")


@hook("on_after_init", until="on_shutdown")
async def lifespan(ctx: CallbackCtx) -> AsyncIterator[None]:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(beat())
    yield
    task.cancel()
    await asyncio.wait([task])
    say(ctx, f"the heart has beaten: {beats > 0}, the engine answers: {ctx.engine is not None}")


@hook("on_before_init", until="on_shutdown")
def lifespan_of_old(ctx: CallbackCtx) -> Iterator[None]:
    try:
        yield
    finally:
        say(ctx, f"released after {told_error(ctx.error)}")


@hook("on_before_init", until="on_shutdown", timeout_s=0.2)
async def lifespan_without_an_end(ctx: CallbackCtx) -> AsyncIterator[None]:
    yield
    await asyncio.sleep(1000)


@hook("on_before_download")
def span_that_breaks(ctx: CallbackCtx) -> Iterator[None]:
    yield
    raise OSError("cannot be released")


@hook("on_before_download", on_error="warn")
def span_that_breaks_and_is_warned_of(ctx: CallbackCtx) -> Iterator[None]:
    yield
    raise OSError("cannot be released")


@hook("on_before_download", timeout_s=0.2)
async def span_without_an_end(ctx: CallbackCtx) -> AsyncIterator[None]:
    yield
    await asyncio.sleep(1000)


@hook("on_before_download", timeout_s=0.2)
def span_that_never_comes_to_its_yield(ctx: CallbackCtx) -> Iterator[None]:
    time.sleep(4)
    yield


@hook("on_before_download")
def yields_twice(ctx: CallbackCtx) -> Iterator[None]:
    try:
        yield
        yield
    finally:
        say(ctx, "closed")


@hook("on_before_download")
async def yields_twice_async(ctx: CallbackCtx) -> AsyncIterator[None]:
    yield
    yield


@hook("on_before_download")
def yields_never(ctx: CallbackCtx) -> Iterator[None]:
    if ctx.model_id == "somebody else's":
        yield


@hook("on_before_download")
async def yields_never_async(ctx: CallbackCtx) -> AsyncIterator[None]:
    if ctx.model_id == "somebody else's":
        yield


@hook("on_before_download")
def span_that_vetoes(ctx: CallbackCtx) -> Iterator[Skip]:
    yield skip("its files are here")
    say(ctx, "ends")


@hook("on_before_download")
async def span_that_yields_something(ctx: CallbackCtx) -> AsyncIterator[Any]:
    try:
        yield 5
    except BaseException as error:
        say(ctx, f"ends after {told_error(error)}")
        raise


@hook("on_before_download")
async def holds_a_task_group(ctx: CallbackCtx) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(_breaks_soon())
        yield


async def _breaks_soon() -> None:
    await asyncio.sleep(0.01)
    raise OSError("in the task group")


@hook("on_after_download")
async def waits_a_little(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.2)


variable: ContextVar[str] = ContextVar("variable", default="unset")


@hook("on_before_init")
def sets_a_variable(ctx: CallbackCtx) -> Iterator[None]:
    token = variable.set("sync")
    yield
    variable.reset(token)
    say(ctx, f"sync: {variable.get()}")


@hook("on_before_init")
async def sets_a_variable_async(ctx: CallbackCtx) -> AsyncIterator[None]:
    token = variable.set("async")
    yield
    variable.reset(token)
    say(ctx, f"async: {variable.get()}")


@hook("on_before_download")
async def sees_the_variable(ctx: CallbackCtx) -> None:
    say(ctx, f"between: {variable.get()}")


class Spans:
    """Methods with a ``yield``: what is set on ``self`` is there in both parts."""

    def __init__(self, name: str = "object") -> None:
        self.name = name

    def on_before_init(self, ctx: CallbackCtx) -> Iterator[None]:
        say(ctx, f"{self.name} begins")
        yield
        say(ctx, f"{self.name} ends")

    async def on_before_download(self, ctx: CallbackCtx) -> AsyncIterator[None]:
        self.name = "changed"
        yield
        say(ctx, f"{self.name} ends, async")

    def on_before_node_download(self, ctx: NodeCtx) -> Iterator[None]:
        say(ctx, f"{self.name} begins")
        yield
        say(ctx, f"{self.name} ends")


@hook("on_before_node_download")
async def span_on_nodes(ctx: NodeCtx) -> AsyncIterator[None]:
    say(ctx, "begins")
    try:
        yield
    except Exception as error:
        say(ctx, f"ends after {told_error(error)}, {ctx.error is error}")
        raise
    say(ctx, "ends")


@hook("on_before_node_download", until="on_after_node_download")
def span_around_the_download(ctx: NodeCtx) -> Iterator[None]:
    say(ctx, "the download begins")
    yield
    say(ctx, f"the download ends: {ctx.model_path is not None}")


@hook("on_after_node_download")
def says_it_is_downloaded(ctx: NodeCtx) -> None:
    say(ctx, "downloaded")


@hook("on_after_node_engine_init")
def span_behind_the_engine(ctx: NodeCtx) -> Iterator[None]:
    say(ctx, "caches are looked at")
    yield
    say(ctx, "caches are saved")


@hook("on_after_node_download")
def span_that_breaks_on_nodes(ctx: NodeCtx) -> Iterator[None]:
    yield
    raise OSError("cannot be unmounted")


@hook("on_node_failure")
def says_it_has_failed(ctx: NodeCtx) -> None:
    say(ctx, f"failed: {told_error(ctx.error)}")


# -- in the background ------------------------------------------------------------------------------------------------


@hook("on_before_init", until="on_before_engine_init")
async def background_fetches(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.5)
    ctx.custom_data["fetched"] = ctx.model_id


@hook("on_before_init", until="on_before_engine_init")
def background_fetches_in_a_thread(ctx: CallbackCtx) -> None:
    time.sleep(0.5)
    ctx.custom_data["fetched too"] = "from" in ctx.custom_data


@hook("on_before_download")
def not_yet(ctx: CallbackCtx) -> None:
    say(ctx, f"before: {'fetched' in ctx.custom_data}")


@hook("on_before_engine_init")
async def by_now(ctx: CallbackCtx) -> None:
    say(ctx, f"by now: {ctx.custom_data.get('fetched')}, {ctx.custom_data.get('fetched too')}")


@hook("on_before_engine_init", until="on_after_engine_init")
async def background_ticks(ctx: CallbackCtx) -> None:
    seen = [monotonic()]
    for _ in range(6):
        await asyncio.sleep(0.05)
        seen.append(monotonic())
    ctx.custom_data["no gap"] = max(b - a for a, b in itertools.pairwise(seen)) < 0.5
    ctx.custom_data["no engine"] = ctx.engine is None


@hook("on_after_engine_init")
def looks_at_the_ticks(ctx: CallbackCtx) -> None:
    say(ctx, f"no gap: {ctx.custom_data['no gap']}, no engine: {ctx.custom_data['no engine']}")


@hook("on_before_init", until="on_after_init")
async def background_breaks(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.1)
    raise OSError("nothing there")


@hook("on_before_init", until="on_after_init")
def background_breaks_in_a_thread(ctx: CallbackCtx) -> None:
    time.sleep(0.1)
    raise OSError("nothing there")


@hook("on_before_init", until="on_before_engine_init", on_error="warn")
async def background_breaks_and_is_warned_of(ctx: CallbackCtx) -> None:
    raise OSError("nothing there")


@hook("on_before_download")
async def waits_for_long(ctx: CallbackCtx) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        say(ctx, "no longer")


@hook("on_before_node_download")
async def waits_for_long_on_nodes(ctx: NodeCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_before_init", until="on_before_engine_init", timeout_s=0.2)
async def background_without_an_end(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_before_init", until="on_after_init")
async def background_waits_for_long(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_before_init", until="on_before_engine_init")
async def background_one(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.2)
    ctx.custom_data["key"] = 1


@hook("on_before_init", until="on_before_engine_init")
async def background_other(ctx: CallbackCtx) -> None:
    ctx.custom_data["key"] = 2


@hook("on_before_download")
def sets_the_key(ctx: CallbackCtx) -> None:
    ctx.custom_data["key"] = "the replica's"


@hook("on_before_init", after="background_one")
def after_one(ctx: CallbackCtx) -> None:
    say(ctx, f"after it: {ctx.custom_data['key']}")


@hook("on_before_init", until="on_before_engine_init", after="background_one")
async def background_after_one(ctx: CallbackCtx) -> None:
    ctx.custom_data["seen"] = ctx.custom_data["key"]


@hook("on_before_init", until="on_before_engine_init")
async def background_vetoes(ctx: CallbackCtx) -> Skip:
    await asyncio.sleep(0.3)
    return skip("too late")


@hook("on_before_init", until="on_before_engine_init")
async def background_assigns(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.3)
    ctx.model_path = "/elsewhere"


@hook("on_before_init", until="on_before_engine_init")
def background_changes_arguments(ctx: CallbackCtx) -> None:
    time.sleep(0.3)
    ctx.extra_init_kwargs["seed"] = 7


@hook("on_before_node_download", until="on_after_engine_init")
async def background_on_nodes(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.5)
    ctx.custom_data["arrived"] = slot(ctx)


@hook("on_after_node_download", until="on_after_init")
def background_after_the_download(ctx: NodeCtx) -> None:
    ctx.custom_data["also"] = [ctx.model_path, ctx.custom_data.get("from front")]


@hook("on_before_node_download")
def in_front_on_nodes(ctx: NodeCtx) -> None:
    ctx.custom_data["from front"] = slot(ctx)


@hook("on_after_download")
def has_not_arrived(ctx: CallbackCtx) -> None:
    say(ctx, f"arrived: {['arrived' in node.custom_data for node in ctx.nodes.values()]}")


@hook("on_after_engine_init")
def has_arrived(ctx: CallbackCtx) -> None:
    say(ctx, f"arrived: {[node.custom_data['arrived'] for node in ctx.nodes.values()]}")


@hook("on_after_node_engine_init")
def sees_what_has_arrived(ctx: NodeCtx) -> None:
    say(ctx, f"arrived: {ctx.custom_data['arrived'] == slot(ctx)}")


@hook("on_before_node_download", until="on_after_init")
async def background_breaks_on_second(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.1)
    if slot(ctx) == 1:
        raise OSError(28, "No space left on device")


@hook("on_after_download")
async def waits_for_long_behind_the_nodes(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_before_node_download", until="on_after_download")
def background_assigns_on_nodes(ctx: NodeCtx) -> None:
    time.sleep(0.3)
    ctx.model_path = "/elsewhere"


@hook("on_before_node_download", until="on_after_download")
def background_vetoes_on_nodes(ctx: NodeCtx) -> bool:
    time.sleep(0.3)
    return False


@hook("on_before_node_download", until="on_after_download")
def background_key_on_nodes(ctx: NodeCtx) -> None:
    ctx.custom_data["key"] = 1


@hook("on_before_node_download", until="on_after_download")
def background_key_once_more_on_nodes(ctx: NodeCtx) -> None:
    ctx.custom_data["key"] = 2


@hook("on_engine_process_start", roles="core")
def core_begins(ctx: EngineProcessCtx) -> None:
    Path(ctx.custom_data["folder"], "core").touch()


async def _core_has_begun(folder: str) -> None:
    while not Path(folder, "core").exists():
        await asyncio.sleep(0.05)


@hook("on_before_node_download", until="on_engine_process_start", timeout_s=60)
async def background_until_workers_on_nodes(ctx: NodeCtx) -> None:
    await _core_has_begun(ctx.custom_data["folder"])  # it does not wait for this
    await asyncio.sleep(0.3)
    Path(ctx.custom_data["folder"], f"weights {slot(ctx)}").touch()
    ctx.custom_data["weights"] = "there"


@hook("on_before_init", until="on_engine_process_start", timeout_s=60)
async def background_until_workers(ctx: CallbackCtx) -> None:
    await asyncio.sleep(0.1)
    ctx.custom_data["index"] = "there"


@hook("on_engine_process_start", roles="worker")
def finds_weights(ctx: EngineProcessCtx) -> None:
    found = sorted(path.name for path in Path(ctx.custom_data["folder"]).glob("weights *"))
    assert found == ["weights 0", "weights 1"], found


@hook("on_after_engine_init")
def finds_what_workers_waited_for(ctx: CallbackCtx) -> None:
    say(ctx, f"{ctx.custom_data['index']}: {[node.custom_data['weights'] for node in ctx.nodes.values()]}")
    look_into_the_folder(ctx)


@hook("on_before_download", until="on_engine_process_start")
async def background_breaks_before_workers(ctx: CallbackCtx) -> None:
    await _core_has_begun(ctx.custom_data["folder"])
    raise OSError("nothing there")


@hook("on_before_node_download", until="on_engine_process_start")
async def background_breaks_before_workers_on_second(ctx: NodeCtx) -> None:
    await _core_has_begun(ctx.custom_data["folder"])
    if slot(ctx) == 1:
        raise OSError(28, "No space left on device")


@hook("on_before_engine_init", until="on_engine_process_start", timeout_s=0.5)
async def background_that_workers_wait_for_too_long(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1000)


@hook("on_before_download", until="on_engine_process_start")
async def background_vetoes_before_workers(ctx: CallbackCtx) -> Skip:
    await _core_has_begun(ctx.custom_data["folder"])
    return skip("too late")


@hook("on_before_node_download", after="background_key_on_nodes")
def after_the_background_on_nodes(ctx: NodeCtx) -> None: ...


# -- clocks -----------------------------------------------------------------------------------------------------------


@hook("on_before_init")
def backs_off(ctx: CallbackCtx) -> None:
    clocks = (time.monotonic, time.perf_counter, time.time)
    begun = [clock() for clock in clocks]
    for attempt in range(4):
        time.sleep(0.05 * 2**attempt)
    took = [clock() - begun_s for clock, begun_s in zip(clocks, begun, strict=True)]
    note(ctx, "as long as it slept", [took_s > 0.749 for took_s in took])
    note(ctx, "clocks agree", max(took) - min(took) < 0.2)


@hook("on_after_node_download")
def polls_until_a_deadline(ctx: NodeCtx) -> None:
    deadline_s = monotonic() + 0.3
    looks = 0
    while monotonic() < deadline_s:
        looks += 1
        sleep(0.04)
    note(ctx, "looked more than once", looks > 1)
    note(ctx, "came to the deadline", monotonic() >= deadline_s)


@hook("on_before_download")
async def sleeps_until_a_deadline(ctx: CallbackCtx) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + 0.1 + 0.2
    while loop.time() < deadline_s:
        await asyncio.sleep(deadline_s - loop.time())
    note(ctx, "came to the deadline", loop.time() >= deadline_s)


@hook("on_before_download")
async def makes_timers(ctx: CallbackCtx) -> None:
    loop = asyncio.get_running_loop()
    fired: list[int] = []
    for number in range(20):
        loop.call_later(0.2, fired.append, number)
    await asyncio.sleep(0.5)
    note(ctx, "fired", fired)


@hook("on_before_download")
async def wakes_tasks_together(ctx: CallbackCtx) -> None:
    woken: list[int] = []

    async def nap(number: int) -> None:
        await asyncio.sleep(0.2)
        woken.append(number)

    await asyncio.gather(*(nap(number) for number in range(20)))
    note(ctx, "woken", woken)


@hook("on_before_download")
async def sleeps_in_its_loop(ctx: CallbackCtx) -> None:
    seen: list[str] = []
    asyncio.get_running_loop().call_later(0.1, seen.append, "the timer, late")
    time.sleep(0.4)
    seen.append("slept")
    await asyncio.sleep(0.01)
    note(ctx, "seen", seen)


@hook("on_after_node_download")
def starts_threads_that_sleep(ctx: NodeCtx) -> None:
    ended: list[float] = []

    def nap(seconds: float) -> None:
        time.sleep(seconds)
        ended.append(seconds)

    threads = [threading.Thread(target=nap, args=(seconds,)) for seconds in (0.6, 0.2, 0.4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    note(ctx, "ended", ended)


@hook("on_before_download")
def reads_a_queue(ctx: CallbackCtx) -> None:
    filled: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    beats: list[str] = []

    def fill() -> None:
        while not stop.wait(0.5):
            beats.append("a beat")
            filled.put("full")

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        note(ctx, "too early", filled.get(timeout=0.1))
    except queue.Empty:
        note(ctx, "too early", "empty")
    note(ctx, "in time", filled.get(timeout=30))
    stop.set()
    thread.join()
    note(ctx, "beats", beats)


@hook("on_before_download", timeout_s=0.3)
def polls_for_too_long(ctx: CallbackCtx) -> None:
    for _ in range(40):
        time.sleep(0.05)


@hook("on_before_download")
async def runs_a_subprocess(ctx: CallbackCtx) -> None:
    try:
        async with asyncio.timeout(60):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
            note(ctx, "exit status", await process.wait())
    except TimeoutError:
        note(ctx, "exit status", "none in time")


@hook("on_before_download")
async def hands_work_to_threads(ctx: CallbackCtx) -> None:
    """They are idle afterwards, and a sleep of the hook is over all the same."""
    unread: queue.Queue[int] = queue.Queue()
    threading.Thread(target=unread.get, daemon=True).start()
    note(ctx, "sum", await asyncio.to_thread(sum, (1, 2)))
    await asyncio.sleep(0.1)
    note(ctx, "went on")


_left: dict[str, Any] = {}


@hook("on_before_engine_init")
async def ticks_in_task_and_thread(ctx: CallbackCtx) -> None:
    stop = threading.Event()
    ticks: dict[str, list[str]] = {"task": [], "thread": []}

    async def tick() -> None:
        while not stop.is_set():
            await asyncio.sleep(0.2)
            ticks["task"].append("a tick")

    def tick_in_thread() -> None:
        while not stop.is_set():
            time.sleep(0.2)
            ticks["thread"].append("a tick")

    _left.update(stop=stop, ticks=ticks, task=asyncio.create_task(tick()))
    threading.Thread(target=tick_in_thread).start()


@hook("on_after_engine_init")
async def counts_ticks(ctx: CallbackCtx) -> None:
    """At once, before the loop comes to the timers that are late."""
    _left["stop"].set()
    note(ctx, "ticks in the loop", len(_left["ticks"]["task"]))
    note(ctx, "ticks in the thread", len(_left["ticks"]["thread"]) > 1)


@hook("on_after_node_download")
async def makes_timers_on_its_node(ctx: NodeCtx) -> None:
    loop = asyncio.get_running_loop()
    fired: list[int] = []
    for number in range(20):
        timer = loop.call_later(0.2, fired.append, number)
        if number % 5 == 0:
            timer.cancel()
    loop.call_at(loop.time() - 1, fired.append, -1)
    await asyncio.sleep(0.5)
    note(ctx, "fired", fired)


@hook("on_before_download")
async def ends_what_takes_too_long(ctx: CallbackCtx) -> None:
    ended: list[str] = []
    try:
        async with asyncio.timeout(0.2):
            await asyncio.sleep(60)
    except TimeoutError:
        ended.append("timeout")
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.2)
    except TimeoutError:
        ended.append("wait_for")
    done, pending = await asyncio.wait([asyncio.create_task(asyncio.sleep(s)) for s in (0.1, 60)], timeout=1)
    ended.append(f"wait: {len(done)} and {len(pending)}")
    pending.pop().cancel()
    async with asyncio.timeout(0.1) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + 30)
        await asyncio.sleep(0.3)
        ended.append("not too long")
    note(ctx, "ended", ended)


@hook("on_before_download")
def waits_for_a_timer_in_a_thread(ctx: CallbackCtx) -> None:
    fired, never = threading.Event(), threading.Event()
    timer = threading.Timer(0.2, fired.set)
    timer.start()
    note(ctx, "too early", fired.wait(0.01))
    note(ctx, "in time", fired.wait(30))
    note(ctx, "never", never.wait(0.2))
    timer.join()
    ready = threading.Condition()
    with ready:
        note(ctx, "nobody notifies", ready.wait_for(lambda: False, timeout=0.2))


@hook("on_after_node_download")
async def leaves_a_task_that_beats(ctx: NodeCtx) -> None:
    beats: list[str] = []

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.5)
            beats.append("a beat")

    task = asyncio.create_task(beat())
    await asyncio.sleep(1.25)
    note(ctx, "beats", len(beats))
    task.cancel()


# -- processes --------------------------------------------------------------------------------------------------------


class Remembers:
    """Has an object for each start, and each process."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def see(self, ctx: CallbackCtx | NodeCtx, what: str) -> None:
        self.seen.append(what)
        note(ctx, "seen", self.seen)

    def on_before_init(self, ctx: CallbackCtx) -> None:
        note(ctx, "begins with", sorted(ctx.custom_data))
        self.see(ctx, "the beginning")

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        self.see(ctx, "a download")

    async def on_after_node_download(self, ctx: NodeCtx) -> None:
        self.see(ctx, "its end")

    async def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        self.see(ctx, "an engine")

    def on_after_node_engine_init(self, ctx: NodeCtx) -> None:
        self.see(ctx, "a node behind the engine")

    def on_after_init(self, ctx: CallbackCtx) -> None:
        self.see(ctx, "the end")


_variable: ContextVar[str] = ContextVar("_variable", default="nobody was here")
_calls: list[str] = []


@hook("on_before_init")
async def sets_a_context_variable(ctx: CallbackCtx) -> None:
    note(ctx, "the variable", _variable.get())
    _variable.set("somebody was here")


@lru_cache
def _cached() -> list[str]:
    return []


def _state_of_this_process() -> list[Any]:
    """Return what hooks have left in this process so far."""
    return [
        list(_calls),
        list(_cached()),
        os.environ.get("CONTRACT_LEFT"),
        Path.cwd() == Path("/"),
        "/left" in sys.path,
    ]


def _leave(what: str) -> None:
    _calls.append(what)
    _cached().append(what)
    os.environ["CONTRACT_LEFT"] = what
    os.chdir("/")
    sys.path.append("/left")


@hook("on_before_node_download")
def leaves_its_mark_on_its_node(ctx: NodeCtx) -> None:
    note(ctx, "found", _state_of_this_process())
    _leave(f"by {slot(ctx)}")


@hook("on_after_node_download")
def finds_the_mark_on_its_node(ctx: NodeCtx) -> None:
    note(ctx, "found later", _state_of_this_process())


@hook("on_after_download")
def looks_for_marks_in_the_replica(ctx: CallbackCtx) -> None:
    note(ctx, "found in the replica", _state_of_this_process()[:3])


@hook("on_after_node_engine_init")
def looks_for_marks_behind_the_engine(ctx: NodeCtx) -> None:
    note(ctx, "found behind the engine", _state_of_this_process())


_lock = asyncio.Lock()


@hook("on_before_download")
async def waits_at_a_lock_of_its_module(ctx: CallbackCtx) -> None:
    order: list[int] = []

    async def one(number: int) -> None:
        async with _lock:
            await asyncio.sleep(0.05)
            order.append(number)

    await asyncio.gather(*map(one, range(3)))
    note(ctx, "order", order)


@hook("on_before_init")
async def sets_a_signal_handler_in_the_replica(ctx: CallbackCtx) -> None:
    note(ctx, "in the main thread", threading.current_thread() is threading.main_thread())
    for refused in (_sets_a_signal_handler, _lets_its_loop_set_one):
        try:
            refused()
        except (ValueError, RuntimeError):  # which of them depends on the loop: Ray's is uvloop's
            note(ctx, f"it {refused.__name__.strip('_')}", "no")


def _sets_a_signal_handler() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _lets_its_loop_set_one() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, print)


_starts: list[str] = []


@hook("on_before_init")
def counts_starts_of_this_process(ctx: CallbackCtx) -> None:
    _starts.append("a start")
    note(ctx, "starts", len(_starts))


@hook("on_before_node_download")
async def leaves_tasks_behind(ctx: NodeCtx) -> None:
    """One that cleans up when it is cancelled, and one that goes on."""
    folder, begun = Path(ctx.custom_data.pop("folder")), asyncio.Event()

    async def tidy() -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.1)
            (folder / f"{slot(ctx)} is tidy").touch()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            (folder / f"{slot(ctx)} goes on").touch()
            await asyncio.sleep(2.5)
            (folder / f"{slot(ctx)} outlives its node's task").touch()

    _left["tasks"] = [asyncio.create_task(stubborn()), asyncio.create_task(tidy())]
    await begun.wait()


@hook("on_before_engine_init")
async def waits_and_looks_into_the_folder(ctx: CallbackCtx) -> None:
    await asyncio.sleep(3)
    look_into_the_folder(ctx)


@hook("on_before_node_download")
async def cleans_up_when_it_is_cancelled(ctx: NodeCtx) -> None:
    """In time on the first node, and for ever on the third."""
    folder = Path(ctx.custom_data.pop("folder"))
    await asyncio.sleep(0.5)
    try:
        if slot(ctx) == 1:
            raise OSError("the first to fail")
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        (folder / f"{slot(ctx)} begins").touch()
        await asyncio.sleep(1 if slot(ctx) == 0 else 1000)
        (folder / f"{slot(ctx)} ends").touch()
        raise
    finally:
        (folder / f"{slot(ctx)} has ended").touch()


# -- what a process has to itself -------------------------------------------------------------------------------------

_module_lock = asyncio.Lock()


@hook("on_before_node_download")
async def holds_a_lock_of_its_module(ctx: NodeCtx) -> None:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    async with _module_lock:
        note(ctx, "waited for another node", loop.time() - begun_s > 0.9)
        await asyncio.sleep(1)


@hook("on_before_node_download")
async def sets_signal_handlers(ctx: NodeCtx) -> None:
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGUSR2, print)
    note(ctx, "in the main thread", threading.current_thread() is threading.main_thread())


@hook("on_after_node_download")
def sets_a_signal_handler_in_its_thread(ctx: NodeCtx) -> None:
    note(ctx, "a sync hook in the main thread", threading.current_thread() is threading.main_thread())
    try:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    except ValueError as error:
        note(ctx, "refused", str(error))


def _variables() -> list[str | None]:
    return [os.environ.get(f"CONTRACT_{name}") for name in ("CONFIG", "HOOK", "BOTH", "REPLICA", "NODE")]


@hook("on_before_download")
def sets_variables_in_the_replica(ctx: CallbackCtx) -> None:
    assert ctx.runtime_env is not None
    ctx.runtime_env["env_vars"].update(CONTRACT_HOOK="by the hook", CONTRACT_BOTH="by the hook")
    os.environ["CONTRACT_REPLICA"] = "by the replica"


@hook("on_before_node_download")
async def sets_variables_on_its_node(ctx: NodeCtx) -> None:
    note(ctx, "found", _variables())
    os.environ["CONTRACT_NODE"] = f"by {slot(ctx)}"
    del os.environ["CONTRACT_CONFIG"]
    await asyncio.sleep(0.5)
    note(ctx, "found later", _variables())


@hook("on_after_node_download")
def has_variables_in_its_thread(ctx: NodeCtx) -> None:
    note(ctx, "found in a thread", _variables())


@hook("on_after_download")
def looks_for_the_nodes_variables(ctx: CallbackCtx) -> None:
    note(ctx, "of the nodes", _variables()[-1])
    del os.environ["CONTRACT_REPLICA"]


@hook("on_before_node_download")
def leaves_a_daemon_behind(ctx: NodeCtx) -> None:
    folder = Path(ctx.custom_data.pop("folder"))

    def beat() -> None:
        for number in range(20):
            (folder / f"{slot(ctx)} {'begins' if number == 0 else 'goes on'}").touch()
            time.sleep(0.5 + number)

    threading.Thread(target=beat, daemon=True).start()
    while not any(folder.glob(f"{slot(ctx)} *")):
        time.sleep(0.01)


@hook("on_before_engine_init")
async def waits_for_threads_and_looks(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1)  # Ray ends a node's process after its report
    folder = Path(ctx.custom_data["folder"])
    for file in folder.glob("* goes on"):
        file.unlink()
    await asyncio.sleep(4)
    look_into_the_folder(ctx)


# -- the engine -------------------------------------------------------------------------------------------------------


@hook("on_before_engine_init")
def engine_arguments(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["max_model_len"] = 128
    ctx.extra_init_kwargs["chat_template"] = "{{ messages }}"


@hook("on_before_init")
def engine_arguments_early(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs = {"max_num_seqs": 2, "max_model_len": 64}


@hook("on_before_engine_init")
def sets_argument(ctx: CallbackCtx, *, name: str, value: Any) -> None:
    ctx.extra_init_kwargs[name] = value


@hook("on_after_placement_group")
def path_of_its_own(ctx: CallbackCtx) -> None:
    note(ctx, "downloaded to", ctx.model_path)
    ctx.model_path = "/own/path"


@hook("on_after_engine_init")
def argument_too_late(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["max_model_len"] = 64


@hook("on_after_engine_init")
def path_too_late(ctx: CallbackCtx) -> None:
    ctx.model_path = "/too/late"


@hook("on_after_engine_init")
def notes_are_never_too_late(ctx: CallbackCtx) -> None:
    note(ctx, "still open")
    ctx.custom_data = {**ctx.custom_data, "replaced": True}


@hook("on_before_init")
def writes_what_is_read_only(ctx: CallbackCtx) -> None:
    ctx.engine = "mine"  # type: ignore[misc]  # that is the point


# -- failures that are hard to tell, and endings that nobody asked for -------------------------------------------------


class Unreadable(ValueError):
    """An exception without a text."""

    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


@hook("on_before_init", order=1)
def raises_what_cannot_be_read(ctx: CallbackCtx) -> None:
    raise Unreadable


@hook("on_before_init", on_error="warn")
def raises_what_cannot_be_read_and_warns(ctx: CallbackCtx) -> None:
    raise Unreadable


@hook("on_before_node_download")
def raises_what_cannot_be_read_on_its_node(ctx: NodeCtx) -> None:
    raise Unreadable


class HostileError(Exception):
    """An exception of which nothing at all can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise LookupError(f"no {name}")


@hook("on_before_node_download", on_error="warn")
async def raises_what_cannot_be_asked_and_warns_on_its_node(ctx: NodeCtx) -> None:
    raise HostileError("the text")


@hook("on_after_placement_group")
async def raises_what_cannot_be_asked(ctx: CallbackCtx) -> None:
    raise HostileError("the text")


@hook("on_before_node_download")
def raises_groups_that_are_shared(ctx: NodeCtx) -> None:
    error: Exception = ValueError("the innermost")
    for _ in range(40):
        error = ExceptionGroup("shared", [error, error])
    raise error


@hook("on_after_placement_group")
async def closes(ctx: CallbackCtx) -> None:
    raise GeneratorExit("of its own")


@hook("on_before_node_download")
async def closes_on_its_node(ctx: NodeCtx) -> None:
    raise GeneratorExit("of its own")


@hook("on_after_placement_group")
async def cancels(ctx: CallbackCtx) -> None:
    raise asyncio.CancelledError("of its own")


async def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


# -- the engine and groups --------------------------------------------------------------------------------------------


@hook("on_after_engine_init")
async def asks(ctx: CallbackCtx) -> None:
    answer = await ask(ctx, "Where is the Eiffel tower?")
    choice = answer.choices[0]
    note(ctx, "answer", [choice.message.content, choice.finish_reason, answer.usage.completion_tokens, answer.model])


@hook("on_after_engine_init")
async def asks_for_another_model(ctx: CallbackCtx) -> None:
    await ask(ctx, "Hello!", model="another")


@hook("on_after_engine_init")
async def asks_with_a_dict(ctx: CallbackCtx) -> None:
    try:
        async for _ in ctx.engine.chat({"model": ctx.model_id, "messages": [{"role": "user", "content": "Hello!"}]}):
            note(ctx, "an answer")
    except AttributeError:
        note(ctx, "a dict is no request")


@hook("on_after_engine_init")
def looks_for_what_the_fake_records(ctx: CallbackCtx) -> None:
    note(ctx, "found", [name for name in ("requests", "kwargs", "model_path", "generate") if hasattr(ctx.engine, name)])


@hook("on_after_engine_init")
def changes_the_config_behind_the_engine(ctx: CallbackCtx) -> None:
    ctx.llm_config.engine_kwargs["seed"] = 7
    ctx.llm_config.engine_kwargs["compilation_config"]["mode"] = 3


@hook("on_after_engine_init")
async def looks_at_answers(ctx: CallbackCtx) -> None:
    embedding = [answer async for answer in ctx.engine.embeddings(None)]
    note(ctx, "embedding", [len(embedding), embedding[0].error.code, embedding[0].error.message])
    await ctx.engine.check_health()
    await ctx.engine.reset_prefix_cache()


@hook("on_after_placement_group")
async def looks_at_its_group(ctx: CallbackCtx) -> None:
    group = ctx.placement_group
    bundles = [{name: amount for name, amount in each.items() if name == "CPU"} for each in group.bundle_specs]
    note(ctx, "group", [group.bundle_count, bundles, group.is_empty, len(group.id.hex()) > 0, group.wait(30)])
    await group.ready()
    note(ctx, "ready")


@hook("on_after_placement_group")
def takes_a_group_like_its_own(ctx: CallbackCtx) -> None:
    mine, other = wing.make_group([0]), wing.make_group([0])
    note(ctx, "equal", [mine == mine, mine == other, len({mine, other})])


@hook("on_before_engine_init")
def streams(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["load_format"] = "runai_streamer"


@hook("on_before_node_download")
def checks_its_gpu(ctx: NodeCtx) -> None:
    note(ctx, "gpu", True)


@hook("on_before_engine_init")
def changes_an_argument_in_place(ctx: CallbackCtx) -> None:
    ctx.llm_config.engine_kwargs["compilation_config"]["mode"] = 3


@hook("on_after_placement_group")
async def cancels_itself(ctx: CallbackCtx) -> None:
    await cancel_this_task()


@hook("on_before_node_download")
async def cancels_itself_on_its_node(ctx: NodeCtx) -> None:
    await cancel_this_task()


@hook("on_before_node_download", on_error="warn")
async def cancels_itself_and_warns_on_its_node(ctx: NodeCtx) -> None:
    await cancel_this_task()


# -- once per node ----------------------------------------------------------------------------------------------------


@hook("on_before_node_download", once_per_node="contract-{model_id}")
def fetches_once(ctx: NodeCtx) -> Skip:
    ctx.model_path = "/own/path"
    note(ctx, "fetched", ctx.unfinished)
    return skip("fetched it")


@hook("on_after_node_download")
def looks_at_what_was_fetched(ctx: NodeCtx) -> None:
    note(ctx, "finds", ctx.model_path)


@hook("on_after_node_download", once_per_node=True)
async def notes_once(ctx: NodeCtx) -> None:
    await asyncio.sleep(0)
    note(ctx, "unfinished", ctx.unfinished)


@hook("on_before_node_download", once_per_node=True)
def fails_at_first(ctx: NodeCtx) -> None:
    has_failed = Path(os.environ["SERVE_LLM_HOOKS_NODE_DIR"], "has failed")
    if not has_failed.exists():
        has_failed.parent.mkdir(exist_ok=True)
        has_failed.touch()
        raise OSError("no space left")
    note(ctx, "unfinished", ctx.unfinished)


@hook("on_before_node_download", once_per_node=True, timeout_s=0.5)
async def hangs_at_first(ctx: NodeCtx) -> None:
    if not ctx.unfinished:
        await asyncio.sleep(60)
    note(ctx, "unfinished", ctx.unfinished)


@hook("on_before_node_download", once_per_node=True)
def keeps_a_lock(ctx: NodeCtx) -> None:
    ctx.custom_data["lock"] = threading.Lock()


@hook("on_before_node_download", once_per_node=True, until="on_after_engine_init")
async def background_once(ctx: NodeCtx) -> None:
    note(ctx, "in the background")


@hook("on_after_node_engine_init", once_per_node=True)
def collects_once(ctx: NodeCtx) -> None:
    note(ctx, "collected", ctx.model_path)


class FillsOnce(RayServeLLMCallback):
    """A class whose method has an option."""

    @hook_options(once_per_node=True)
    def on_after_node_download(self, ctx: NodeCtx) -> None:
        note(ctx, "filled")
