"""Advice on what in a start could be shorter: each rule, where it is given and where it is not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, strategies as st

from serve_llm_hooks import (
    HOOK_POINTS,
    Advice,
    HookEvent,
    StartStep,
    Trace,
    advise,
    dump_traces,
    hook,
    load_hooks,
    load_traces,
)
from serve_llm_hooks._observe.advice import LEAST_S, LEAST_SHARE
from serve_llm_hooks._observe.facts import Facts, facts_of
from serve_llm_hooks._observe.summary import summary
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, slow_download
from tests.unit.core.test_saved_trace import EVENTS
from tests.unit.core.test_steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serve_llm_hooks import HookName
    from serve_llm_hooks._core.event import HookOutcome

LATE, CACHE, BLOCKS, PROCESS = "late-weights", "compile-cache", "blocking-hook", "node-process"


def step(name: str, start_s: float, end_s: float, node: str = "n0", process: str = "", **more: Any) -> StartStep:
    return StartStep(name, node, 7, start_s, end_s, process=process, **more)


def call(
    point: HookName,
    start_s: float,
    end_s: float,
    name: str = "acme:work",
    node: str = "n0",
    outcome: HookOutcome = "ok",
) -> HookEvent:
    return HookEvent(point, name, node, 7, start_s, end_s, outcome)


ENGINE = (
    step("engine", 20, 40),
    step("import", 20.5, 25, process="core"),
    step("import", 25, 30, process="worker-0"),
)
"""An engine that reads no weights in its first ten seconds."""


def trace_of(*parts: HookEvent | StartStep, end_s: float = 50, failed: bool = False) -> Trace:
    """Return the trace of a start of fifty seconds."""
    trace = Trace()
    trace.extend(part for part in parts if isinstance(part, HookEvent))
    trace.steps = (*(part for part in parts if isinstance(part, StartStep)), step("start", 0, end_s, failed=failed))
    return trace


def given_for(*parts: HookEvent | StartStep, **more: Any) -> dict[str, Advice]:
    found = advise(trace_of(*parts, **more))
    assert [each.saves_s for each in found] == sorted((each.saves_s for each in found), reverse=True)
    return {each.rule: each for each in found}


def node(end_s: float, name: str = "n0", start_s: float = 1) -> StartStep:
    return step("node", start_s, end_s, name)


# -- the weights ---------------------------------------------------------------------------------------------------


def test_a_download_that_could_be_beside_the_engines_imports() -> None:
    advice = given_for(node(18), step("download", 2, 18), *ENGINE)[LATE]
    assert advice.change == "weights: late"
    assert advice.saves_s == 10  # the engine's, of sixteen
    assert "The download took 16.0 s" in advice.why
    assert "first 10.0 s" in advice.why
    assert "on_after_node_download" not in advice.why


def test_a_short_download_saves_no_more_than_it_took() -> None:
    assert given_for(node(6), step("download", 2, 6), *ENGINE)[LATE].saves_s == 4


def test_of_several_nodes_the_slowest_decides() -> None:
    """The other has a hook, for which the start would wait all the same."""
    nodes = (node(18), step("download", 2, 18), node(12, "n1"))
    assert given_for(*nodes, *ENGINE)[LATE].saves_s == 6


def test_hooks_that_look_at_the_weights_are_minded() -> None:
    hooks = call("on_after_node_download", 18, 18.1)
    assert "on_after_node_download would find no weights" in (
        given_for(node(18), step("download", 2, 18), hooks, *ENGINE)[LATE].why
    )


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((node(18), step("download", 2, 18), ENGINE[0]), id="nothing is known of the engine's processes"),
        pytest.param((node(3), step("download", 2, 3), step("download", 4, 28), *ENGINE), id="they are late already"),
        pytest.param((node(18), *ENGINE), id="no download"),
        pytest.param((node(4), step("download", 2, 4), *ENGINE), id="4 %"),
    ],
)
def test_no_late_weights(parts: Iterable[Any]) -> None:
    assert LATE not in given_for(*parts)


def test_the_same_for_a_recipe() -> None:
    fetch = call("on_before_node_download", 2, 18, "serve_llm_hooks.recipes:FetchModel.on_before_node_download")
    found = given_for(node(18), fetch, *ENGINE)
    assert found["late-weights-instead-of-fetch-model"].saves_s == 10
    assert found["late-weights-instead-of-fetch-model"].change == "weights: late"
    assert BLOCKS not in found


# -- the engine ----------------------------------------------------------------------------------------------------


COMPILE = step("compile", 31, 38, process="worker-0")


def test_a_compile_that_a_cache_would_save() -> None:
    advice = given_for(*ENGINE, COMPILE)[CACHE]
    assert advice.saves_s == 7
    [entry] = yaml.safe_load(advice.change)
    assert next(each.name for each in load_hooks(entry)) == "on_before_init"


@pytest.mark.parametrize(
    "more",
    [
        step("load compiled", 32, 33, process="worker-0"),
        call("on_before_init", 0, 0, "serve_llm_hooks.recipes:CompileCache.on_before_init"),
    ],
    ids=["out of a cache", "with the recipe"],
)
def test_no_compile_cache(more: Any) -> None:
    assert CACHE not in given_for(*ENGINE, COMPILE, more)


def test_cuda_graphs() -> None:
    advice = given_for(*ENGINE, step("capture graphs", 31, 39, process="worker-0"))["cuda-graphs"]
    assert advice.saves_s == 4
    assert yaml.safe_load(advice.change)["engine_kwargs"]["cudagraph_capture_sizes"][-1] == 32


@pytest.mark.parametrize(("gib", "is_given"), [(2, True), (20, False), (None, False)])
def test_weights_that_were_read_slowly(gib: int | None, is_given: bool) -> None:
    size = None if gib is None else gib * 2**30
    loaded = (
        step("load weights", 30, 38, process="worker-0"),
        step("load model", 30, 39, process="worker-0", size_bytes=size),
    )
    found = given_for(*ENGINE, *loaded)
    assert ("prefetch-weights" in found) is is_given
    if is_given:
        assert found["prefetch-weights"].saves_s == 6
        assert len(load_hooks(*yaml.safe_load(found["prefetch-weights"].change))) == 1
    prefetched = call("on_after_node_download", 1, 9, "serve_llm_hooks.recipes:PrefetchWeights.on_after_node_download")
    assert "prefetch-weights" not in given_for(*ENGINE, *loaded, prefetched)


# -- nodes ---------------------------------------------------------------------------------------------------------


def test_nodes_that_waited_for_one_are_told_for_which_and_why() -> None:
    run = FakeCluster(nodes=3, faults=[slow_download("node-1", 300)]).run(
        FakeLLMConfig("m", hooks=[], model_loading_config={"model_source": "s3://models/m"})
    )
    [advice] = [each for each in advise(run.trace) if each.rule == "slow-node"]
    assert advice.saves_s == 280
    assert "2 nodes waited 280.0 s for node node-1 (10.0.0.2), where the download took 300.0 s." in advice.why
    assert advice.change == ""
    assert str(advice) == f"about 280.0 s: {advice.why}"


def test_a_hook_that_made_a_node_slow_is_named() -> None:
    hooks = [call("on_before_node_download", 1, end_s, "acme:unpack", name) for name, end_s in (("n0", 2), ("n1", 9))]
    assert "unpack took 8.0 s" in given_for(node(2), node(9, "n1"), *hooks, *ENGINE)["slow-node"].why


def test_nodes_that_are_ready_together_are_not_told() -> None:
    assert "slow-node" not in given_for(node(9), node(9.5, "n1"), *ENGINE)


PROCESSES = (step("nodes", 1, 5), node(5, start_s=4.9))


def test_a_process_on_the_only_node_for_hooks_that_take_no_time() -> None:
    advice = given_for(*PROCESSES, call("on_before_node_download", 4.9, 5, "acme:look"), *ENGINE)[PROCESS]
    assert advice.saves_s == pytest.approx(3.9)
    assert "for look, which took 0.1 s of the step's 4.0 s" in advice.why
    assert advice.change == '@hook("on_before_download")'


@pytest.mark.parametrize(
    "other",
    [
        call("on_before_node_download", 4.9, 5, "serve_llm_hooks.recipes:CheckNode.on_before_node_download"),
        call("on_before_node_download", 4.9, 5, "acme:skips", outcome="vetoed"),
    ],
    ids=["a recipe", "a veto"],
)
def test_no_process_to_save_for_what_cannot_move_to_the_replica(other: HookEvent) -> None:
    look = call("on_before_node_download", 4.9, 5, "acme:look")
    assert PROCESS not in given_for(*PROCESSES, look, other, *ENGINE)


def test_no_process_to_save_where_there_is_a_download_or_another_node() -> None:
    look = call("on_before_node_download", 4.9, 5, "acme:look")
    assert PROCESS not in given_for(*PROCESSES, look, step("download", 4.9, 5), *ENGINE)
    assert PROCESS not in given_for(*PROCESSES, node(5, "n1"), look, *ENGINE)
    assert PROCESS not in given_for(*PROCESSES, *ENGINE)


# -- hooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "until", "saves_s"),
    [
        ("on_before_init", "on_after_engine_init", 12),
        ("on_before_engine_init", "on_after_engine_init", 12),
        ("on_before_node_download", "on_after_engine_init", 12),
    ],
)
def test_a_hook_that_could_work_beside_the_engine(point: Any, until: HookName, saves_s: float) -> None:
    advice = given_for(call(point, 2, 14), node(14), *ENGINE)[BLOCKS]
    assert advice.saves_s == saves_s
    assert f"work at {point} took 12.0 s" in advice.why
    assert advice.change == f'@hook("{point}", until="{until}")'

    @hook(point, until=until)  # as is advised
    def work(ctx: Any) -> None: ...


def test_a_hook_saves_no_more_than_there_is_to_work_beside() -> None:
    assert given_for(call("on_before_init", 0, 20), step("engine", 20, 26), end_s=26)[BLOCKS].saves_s == 6


def test_a_hook_after_the_engine_works_beside_others_there() -> None:
    first, second = (call("on_after_engine_init", at_s, at_s + 4, f"acme:h{at_s}") for at_s in (40, 44))
    advice = given_for(*ENGINE, first, second)[BLOCKS]
    assert advice.saves_s == 4
    assert advice.change == '@hook("on_after_engine_init", until="on_after_init")'
    assert BLOCKS not in given_for(*ENGINE, first, end_s=44)


def test_a_method_is_told_how_methods_are_written() -> None:
    work = call("on_before_init", 2, 14, "acme:Disk.on_before_init")
    assert given_for(work, *ENGINE)[BLOCKS].change == '@hook_options(until="on_after_engine_init")'


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((call("on_before_init", 2, 32),), id="beside the engine already"),
        pytest.param((call("on_before_init", 2, 14), step("download", 2, 14)), id="beside a download"),
        pytest.param((call("on_before_download", 2, 14, outcome="vetoed"),), id="a veto"),
        pytest.param(
            (call("on_before_init", 2, 14), call("on_before_init", 41, 41)._replace(is_finish=True)), id="span"
        ),
        pytest.param((call("on_after_init", 41, 49),), id="nothing comes after it"),
        pytest.param((call("on_before_init", 2, 14, outcome="skipped"),), id="it did not run"),
        pytest.param((call("on_engine_process_start", 21, 39),), id="in the engine"),
        pytest.param((call("on_before_init", 2, 14, "serve_llm_hooks.recipes:Fetch.on_before_init"),), id="a recipe"),
    ],
)
def test_hooks_that_cannot_work_in_the_background(parts: Iterable[Any]) -> None:
    assert BLOCKS not in given_for(*parts, *ENGINE)


# -- all of them ---------------------------------------------------------------------------------------------------


def test_little_is_not_told() -> None:
    assert given_for(call("on_before_init", 2, 2 + LEAST_S / 2), *ENGINE, end_s=5) == {}
    assert given_for(call("on_before_init", 2, 2 + 49 * LEAST_SHARE), *ENGINE) == {}
    assert given_for(call("on_before_init", 2, 2 + 51 * LEAST_SHARE), *ENGINE) != {}


def test_a_start_that_failed_or_is_not_over_gets_none() -> None:
    work = call("on_before_init", 2, 14)
    assert given_for(work, *ENGINE) != {}
    assert given_for(work, *ENGINE, failed=True) == {}
    assert given_for(work, *ENGINE[1:]) == {}
    assert advise(Trace()) == ()


@given(st.lists(EVENTS, max_size=20), st.lists(STEPS, max_size=20), st.booleans())
def test_advice_has_seconds_and_words_whatever_has_happened(
    events: list[HookEvent], steps: list[StartStep], names: bool
) -> None:
    known = ("engine", "node", "nodes", "download", "import", "compile", "capture graphs", "load weights", "load model")
    steps = [each._replace(name=known[n % len(known)]) if names else each for n, each in enumerate(steps)]
    for each in advise(trace_of(*events, *steps)):
        assert each.saves_s >= LEAST_S
        assert each.why
        assert "\n" not in each.change


def alone_s(facts: Facts, event: HookEvent) -> float:
    """The plain model of ``Facts.alone_s``: compare a call with everything, one after the other."""
    on_node = HOOK_POINTS[event.point].on_node
    steps = [each for each in facts.steps if each.name not in ("start", "node", "nodes", "engine")]
    parts: list[HookEvent | StartStep] = [*facts.events, *steps]
    beside = sorted(
        (max(each.start_s, event.start_s), min(each.end_s, event.end_s))
        for each in parts
        if each is not event and (each.node_id == event.node_id or not on_node)
    )
    together_s, until_s = 0.0, float("-inf")
    for start_s, end_s in beside:
        together_s += max(0.0, end_s - max(until_s, start_s))
        until_s = max(until_s, end_s)
    return event.duration_s - together_s


def at_quarters(parts: st.SearchStrategy[Any], nodes: int, **more: st.SearchStrategy[Any]) -> Any:
    """Parts of a start on a few nodes, at quarters of seconds: sums of them are exact in any order."""
    quarters = st.integers(min_value=0, max_value=200).map(lambda quarter: quarter / 4)
    on = st.sampled_from([f"n{number}" for number in range(nodes)])
    more = {"start_s": quarters, "end_s": quarters, "node_id": on, **more}
    return st.builds(lambda part, **new: part._replace(**new), parts, **more)


NAMES = st.sampled_from(["m:a", "m:b", "m:C.on_before_init", "serve_llm_hooks.recipes:Fetch.on_before_node_download"])
STEP_NAMES = st.sampled_from(["node", "nodes", "download", "import", "compile", "load weights", "placement group"])


@given(
    st.lists(at_quarters(EVENTS, 3, hook=NAMES, outcome=st.sampled_from(["ok", "warned"])), max_size=15),
    st.lists(at_quarters(STEPS, 3, name=STEP_NAMES, failed=st.just(False)), max_size=15),
    st.integers(min_value=0, max_value=200),
)
def test_how_long_a_call_was_alone_is_what_comparing_it_with_each_other_gives(
    events: list[HookEvent], steps: list[StartStep], engine_at: int
) -> None:
    trace = trace_of(*events, *steps, step("engine", engine_at / 4, 45))
    facts = facts_of(trace)
    assert facts is not None
    assert [facts.alone_s(event) for event in facts.events] == [alone_s(facts, event) for event in facts.events]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Facts, "alone_s", alone_s)
        plain = advise(trace)
    assert advise(trace) == plain


def test_the_log_has_advice_on_a_start_of_many_calls() -> None:
    many = [call("on_before_init", 1 + n / 1000, 1 + n / 1000, f"acme:h{n}") for n in range(600)]
    assert summary("m", trace_of(*many, call("on_before_init", 2, 14), *ENGINE)).endswith(
        'about 12.0 s less with: @hook("on_before_init", until="on_after_engine_init")'
    )


def test_a_saved_start_gets_the_same_advice() -> None:
    trace = trace_of(node(18), step("download", 2, 18), *ENGINE, COMPILE)
    [loaded] = load_traces(dump_traces({"m": trace})).values()
    assert advise(loaded) == advise(trace)
    assert len(advise(trace)) == 2


def test_the_block_in_the_log_ends_with_two_lines_at_most() -> None:
    graphs = step("capture graphs", 31, 39, process="worker-0")
    trace = trace_of(node(18), step("download", 2, 18), *ENGINE, COMPILE, graphs)
    assert len(advise(trace)) == 3
    *_, before, first, second = summary("m", trace).splitlines()
    assert "less with" not in before
    assert first == "  about 10.0 s less with: weights: late"
    assert second.startswith("  about 7.0 s less with: - {hook: serve_llm_hooks.recipes:CompileCache, ")
    assert second.endswith("}}")


def test_a_real_start_on_a_fake_cluster_is_advised(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_init")
    async def licence(ctx: Any) -> None:
        await asyncio.sleep(20)

    @hook("on_before_init", until="on_after_engine_init")
    async def licence_beside(ctx: Any) -> None:
        await asyncio.sleep(20)

    caplog.set_level(logging.INFO)
    before = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[licence]))
    assert 'about 20.0 s less with: @hook("on_before_init", until="on_after_engine_init")' in caplog.text
    [advice] = advise(before.trace)
    after = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[licence_beside]))
    assert before.elapsed_s - after.elapsed_s == advice.saves_s == 20
    assert advise(after.trace) == ()
