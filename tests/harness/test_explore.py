"""``explore_hooks``: what it finds, that it finds nothing where nothing is, and that a seed is a promise."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

import serve_llm_hooks_testing
from serve_llm_hooks import CallbackCtx, HookRegistry, NodeCtx
from serve_llm_hooks_testing import (
    FakeLLMConfig,
    HarnessError,
    Schedule,
    different_path,
    engine_fails,
    explore_hooks,
    failing_download,
    hook_fails,
    lost_node,
    replica_dies,
    slow_download,
)
from serve_llm_hooks_testing._explore.draw import Facts, draw
from serve_llm_hooks_testing._explore.shrink import shrink
from serve_llm_hooks_testing._explore.written import written
from serve_llm_hooks_testing.run import recent
from tests.docs_blocks import ROOT

from .good_hooks import GOOD
from .planted.found import PAGE, emptied, find_all, rows_of, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks_testing import FakeRun

    Module = Callable[[str, str], str]

CHECKED = sorted(file.stem for file in (ROOT / "tests" / "harness" / "checked" / "good").glob("[!_]*.py"))

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that all nodes have."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("PLANTED_SHARED", str(folder))
    return folder


# -- what it finds ----------------------------------------------------------------------------------------------------


@linux
def test_it_finds_what_is_planted_and_the_page_says_with_which_seed(shared: Path) -> None:
    findings = find_all()
    assert table(findings) == rows_of(PAGE.read_text()), "run `python -m tests.harness.planted`"
    for module, finding in findings.items():
        names: dict[str, Any] = {}
        exec(finding.test, names)
        names["RESET"] = partial(emptied, shared)
        with pytest.raises(AssertionError) as told:
            names[f"test_seed_{finding.seeds[0]}"]()
        assert module in str(told.value)
        assert f"planted.{module}:" in finding.problem


@linux
@pytest.mark.parametrize("what", GOOD)
def test_it_accuses_nobody_else(module: Module, shared: Path, what: str) -> None:
    name = module(f"good_{list(GOOD).index(what)}", GOOD[what])
    ref = f"{name}:Registration" if "class Registration" in GOOD[what] else name
    found = explore_hooks(ref, model_id="m", seeds=[8, 14], reset=lambda: emptied(shared))
    assert found.starts >= 4


@linux
@pytest.mark.parametrize("name", CHECKED)
def test_it_accuses_none_that_check_hooks_does_not(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook_registry: HookRegistry
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"{__package__}.checked.good.{name}"
    explore_hooks(*getattr(import_module(path), "HOOKS", [path]), seeds=[14])
    sys.modules.pop(path)


def test_a_start_that_never_ends(module: Module) -> None:
    source = """
    import asyncio
    @hook("on_after_download")
    async def wait_for_all(ctx):
        if len(ctx.nodes) > 1: await asyncio.Event().wait()
    """
    found = explore_hooks(module("endless_hooks", source), seeds=[0, 1, 2], check=False)
    [finding] = found.findings
    assert "the start never ends: " in finding.problem
    assert finding.schedule == Schedule(nodes=2)


def test_a_cancelled_node_that_goes_on(module: Module) -> None:
    source = """
    import asyncio
    @hook("on_before_node_download")
    async def stubborn(ctx):
        for _ in range(100):
            try:
                await asyncio.sleep(10)
            except BaseException:
                print("no")
    """
    schedule = Schedule(nodes=1, cancelled_after_s=5)
    [problem] = explore_hooks(module("stubborn_hooks", source), schedule=schedule, check=False).problems
    assert "stubborn_hooks:stubborn" in problem
    assert "although it was cancelled" in problem


def test_a_clean_up_that_fails_when_the_replica_stops(module: Module) -> None:
    name = module("stopping_hooks", '@hook("on_shutdown")\ndef give_back(ctx): ctx.custom_data["lease"]')
    with pytest.raises(AssertionError, match="give_back fails at on_shutdown, so it does not end what it should: KeyE"):
        explore_hooks(name, seeds=3)


def test_a_failure_may_follow_from_that_of_another_node(module: Module, shared: Path) -> None:
    name = module("waiting_hooks", GOOD["nodes that wait for what the first one writes"].replace("600", "8"))
    schedule = Schedule(nodes=2, faults=[failing_download("node-0", after_s=10)], download_s={"node-1": 5})
    assert explore_hooks(name, schedule=schedule, check=False).problems == []


def test_the_error_names_the_cause(module: Module) -> None:
    source = """
    @hook("on_before_node_download")
    def look(ctx): ctx.custom_data["found"] = 1

    @hook("on_before_init", on_error="warn")
    def set_up(ctx): ctx.custom_data["key"] = 1

    @hook("on_after_download")
    def add_up(ctx): ctx.custom_data["key"] + 1
    """
    name = module("hiding_hooks", source)
    schedule = Schedule(nodes=1, faults=[hook_fails(f"{name}:set_up")])
    with pytest.raises(AssertionError, match="the start fails, and not with what went wrong: hook hiding_hooks:add_up"):
        explore_hooks(name, schedule=schedule)
    assert explore_hooks(name, schedule=Schedule(nodes=3, faults=[hook_fails(f"{name}:look", node="node-2")])).starts


# -- the same seed, the same run --------------------------------------------------------------------------------------

SLEEPY = """
import asyncio
import random
import time

@hook("on_before_node_download")
def sync(ctx):
    time.sleep(random.random())
    ctx.custom_data["at"] = time.monotonic() % 1

@hook("on_before_node_download")
async def in_threads(ctx):
    await asyncio.gather(*(asyncio.to_thread(time.sleep, n) for n in (0, 0, 1)))

@hook("on_after_node_download")
async def wait(ctx): await asyncio.sleep(random.random())
"""
PRINT = (
    "from serve_llm_hooks_testing import explore_hooks; from serve_llm_hooks_testing.run import recent\n"
    "found = explore_hooks('{}', seeds=[{}], check=False)\n"
    "print(found, *[event._replace(process_id=0) for run in recent for event in run.trace], sep='\\n')"
)


def test_a_seed_gives_the_same_run_in_any_process(module: Module, tmp_path: Path) -> None:
    source = SLEEPY + "\n@hook('on_shutdown')\ndef fails(ctx): ctx.nodes['node-9']\n"
    name = module("sleepy_hooks", source)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "testing")])
    seeds = "0, 1"

    def printed(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed}
        code = PRINT.format(name, seeds)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = printed("1")
    assert "fails at on_shutdown, so it does not end what it should: KeyError" in first
    assert "HookEvent(point='on_before_node_download'" in first
    assert printed("2") == first


def test_sync_hooks_that_begin_together_take_turns(module: Module) -> None:
    source = """
    import time
    seen = []

    @hook("on_before_node_download")
    def look(ctx):
        seen.append(f"{ctx.node_id} begins")
        sum(range(20_000))
        seen.append(f"{ctx.node_id} goes to sleep")
        time.sleep(1)
        seen.append(f"{ctx.node_id} ends")

    @hook("on_after_download")
    def tell(ctx):
        raise RuntimeError(" ".join(seen))
    """
    problem = explore_hooks(module("turns_hooks", source), schedule=Schedule(nodes=3), check=False).findings[0].problem
    begun = [f"node-{n} begins node-{n} goes to sleep" for n in range(3)]
    ended = [f"node-{n} ends" for n in range(3)]
    assert problem.endswith(" ".join([*begun, *ended]))


def test_what_one_history_leaves_another_does_not_find(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
    import os
    import random
    import tempfile
    from functools import cache
    from pathlib import Path

    STATE = {"starts": 0, "nested": []}
    count = 0

    class Client:
        made = []
        def __init__(self): self.asked = 0

    client = Client()

    @cache
    def first(): return random.random()

    def default(seen=[]): seen.append(1); return len(seen)

    @hook("on_before_init")
    def look(ctx):
        global count
        count += 1
        STATE["starts"] += 1
        STATE["nested"].append(count)
        STATE[count] = 1
        client.asked += 1
        Client.made.append(1)
        os.environ["EXPLORED"] = os.environ.get("EXPLORED", "") + "x"
        there = Path(tempfile.gettempdir(), "seen").exists()
        seen = (count, len(STATE), STATE["nested"], client.asked, Client.made, os.environ["EXPLORED"], default())
        assert seen == (1, 3, [1], 1, [1], "x", 1), seen
        first()

    @hook("on_after_init")
    def leave(ctx): Path(tempfile.gettempdir(), "seen").touch()
    """
    monkeypatch.delenv("EXPLORED", raising=False)
    folder, state = tempfile.gettempdir(), random.getstate()
    explore_hooks(module("leaving_hooks", source), seeds=3, model_id="m")
    left = sys.modules["leaving_hooks"]
    assert (left.count, left.STATE, left.client.asked) == (0, {"starts": 0, "nested": []}, 0)
    assert "EXPLORED" not in os.environ
    assert (tempfile.gettempdir(), random.getstate()) == (folder, state)


# -- schedules --------------------------------------------------------------------------------------------------------

HOOKS = HookRegistry()


@HOOKS.hook("on_before_node_download")
def on_a_node(ctx: NodeCtx) -> None: ...


@HOOKS.hook("on_before_init")
def in_the_replica(ctx: CallbackCtx) -> None: ...


def no_run(schedule: Schedule) -> FakeRun:
    raise AssertionError("it is not cancelled")


def drawn(seed: int) -> Schedule:
    def run(schedule: Schedule) -> FakeRun:
        return serve_llm_hooks_testing.FakeRun("m", {}, serve_llm_hooks_testing.FakeCluster().run(CONFIG).trace)

    return draw(seed, Facts(4, tuple(HOOKS), ["my_company.llm_hooks"]), run)


CONFIG = FakeLLMConfig("m", [])


@given(st.integers())
def test_a_schedule_is_written_as_what_makes_it(seed: int) -> None:
    schedule = drawn(seed)
    assert drawn(seed).given().keys() == schedule.given().keys()
    again = eval(written(schedule), vars(serve_llm_hooks_testing) | _names())
    assert written(again) == written(schedule)
    assert again.given().keys() == schedule.given().keys()


def _names() -> dict[str, object]:
    return {name: getattr(serve_llm_hooks_testing, name) for name in dir(serve_llm_hooks_testing)}


@given(st.integers())
def test_the_smallest_schedule_is_the_smallest(seed: int) -> None:
    assert shrink(drawn(seed), lambda schedule: True, 300) == Schedule(nodes=1)
    assert shrink(drawn(seed), lambda schedule: False, 300).given() == drawn(seed).given() or drawn(seed).faults

    def is_slow(schedule: Schedule) -> bool:
        return schedule.nodes >= 2 and schedule.begins_s.get("node-1", 0) > 1.5

    big = drawn(seed)
    if is_slow(big):
        assert shrink(big, is_slow, 300) == Schedule(nodes=2, begins_s={"node-1": 2})


def test_faults_are_written_as_they_are_made() -> None:
    faults = [
        slow_download("node-1", 30),
        different_path("node-1", "/other"),
        failing_download("node-0", 'it\'s "403"', quietly=True),
        lost_node("node-1", "on_after_node_download", noticed_after_s=None),
        replica_dies("on_before_init", times=2),
        hook_fails("a:b", OSError("disk full"), node="node-1"),
        engine_fails(),
    ]
    assert written(Schedule(nodes=2, faults=faults)).replace("\n", "").replace("    ", "") == (
        'Schedule(nodes=2,faults=[slow_download("node-1", 30),different_path("node-1", "/other"),'
        'failing_download("node-0", error=\'it\\\'s "403"\', quietly=True),'
        'lost_node("node-1", at="on_after_node_download", noticed_after_s=None),'
        'replica_dies("on_before_init", times=2),hook_fails("a:b", error="disk full", node="node-1"),engine_fails(),],)'
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"nodes": 0}, "nodes= is a whole number, 1 or more"),
        ({"faults": [failing_download("node-3")]}, "'node-3', which is no node of this cluster"),
        ({"begins_s": {"node-1": 3}}, "begins_s= names 'node-1', which is no node of this schedule"),
        ({"download_s": 20}, "download_s= has a number of seconds for each node, as in {'node-1': 60}, not 20"),
        ({"awaits_s": {"node-0": -1}}, r"awaits_s\['node-0'\]"),
        ({"cancelled_after_s": "soon"}, "cancelled_after_s"),
        ({"dies_after_s": -1}, "dies_after_s"),
    ],
)
def test_a_schedule_that_is_none(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        Schedule(**fields)


# -- how it is called -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seeds": 0}, "seeds= is a whole number, 1 or more"),
        ({"seeds": "17"}, r"seeds= is how many, or which: 200, or \[17\], not"),
        ({"seeds": []}, "seeds= is how many"),
        ({"nodes": 0}, "nodes= is a whole number"),
        ({"schedule": {}}, r"schedule= is a Schedule\(\.\.\.\), not"),
        ({"reset": 1}, "reset= is a function without parameters"),
        ({"real_sleep_limit_s": 0}, "real_sleep_limit_s"),
        ({"model_id": "m"}, "leave model_id= out"),
    ],
)
def test_arguments_that_are_none(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        explore_hooks(FakeLLMConfig("m", [HOOKS]), **arguments)


def test_hooks_that_are_none(module: Module) -> None:
    with pytest.raises(HarnessError, match="there are no hooks to explore"):
        explore_hooks()
    with pytest.raises(HarnessError, match="no_such_hooks"):
        explore_hooks("no_such_hooks")
    name = module("for_llama", '@hook("on_before_init", model_id="llama")\ndef one(ctx): pass')
    with pytest.raises(HarnessError, match="no hook runs for model 'qwen'"):
        explore_hooks(name, model_id="qwen")


def test_configs_and_yaml_files(module: Module, tmp_path: Path) -> None:
    source = '@hook("on_failure")\ndef tell(ctx, *, first): ctx.nodes[first]'
    entry = {"hook": f"{module('configured', source)}:tell", "kwargs": {"first": "node-0"}}
    found = explore_hooks(FakeLLMConfig("llama", [entry]), seeds=range(4, 30), check=False)
    assert "HOOKS = [...]  # what explore_hooks was given" in found.findings[0].test
    file = tmp_path / "serve.yaml"
    file.write_text("model_id: llama\nhooks: [{hook: 'configured:tell', kwargs: {first: node-0}}]")
    [finding] = explore_hooks(file, seeds=range(4, 30), check=False).findings
    assert finding.model_id == "llama"
    assert f'explore_hooks("{file}", schedule=' in finding.test.replace("\n        ", " ").replace("( ", "(")


def test_the_plugin_shows_the_smallest_start(module: Module) -> None:
    recent.clear()
    name = module("shown_hooks", '@hook("on_before_init")\ndef one(ctx): 1 / 0')
    explore_hooks(name, seeds=2, check=False)
    assert [len(run.nodes) for run in recent] == [1]


def test_a_good_result_says_what_was_done() -> None:
    assert str(explore_hooks(HOOKS, seeds=2)) == "no problem found with 2 seeds in 4 starts"


@linux
@pytest.mark.parametrize("in_processes", [False, True])
def test_a_replica_that_is_killed_is_started_again(module: Module, in_processes: bool) -> None:
    from serve_llm_hooks_testing._processes.remote_replica import run_in_processes
    from serve_llm_hooks_testing._simulation.replica import run_replica

    source = """
    import asyncio
    @hook("on_before_init")
    async def look(ctx): await asyncio.sleep(30)
    """
    settings = Schedule(nodes=2, awaits_s={"node-0": 0}, dies_after_s=12).settings(0.25)
    start = run_in_processes if in_processes else run_replica
    run = start(settings, FakeLLMConfig("m", [module("killed_hooks", source)]))
    assert run.error is None
    [died] = run.earlier_starts
    assert (died.elapsed_s, run.elapsed_s) == (12, 12 + 30 + 20 + 30)
    assert [event.outcome for event in run.trace] == ["ok"]


@linux
def test_a_start_in_processes_is_cancelled_too(module: Module) -> None:
    from serve_llm_hooks_testing._processes.remote_replica import run_in_processes
    from serve_llm_hooks_testing._simulation.timing import StartCancelledError

    source = """
    import asyncio
    @hook("on_before_node_download")
    async def look(ctx):
        for _ in range(4): await asyncio.sleep(0)
        await asyncio.sleep(30)
    """
    schedule = Schedule(nodes=2, begins_s={"node-1": 3}, awaits_s={"node-1": 1}, cancelled_after_s=12)
    run = run_in_processes(schedule.settings(0.25), FakeLLMConfig("m", [module("cancelled_hooks", source)]))
    assert isinstance(run.error, StartCancelledError)
    assert (run.error.at_s, run.elapsed_s) == (12, 12)
    assert str(run.error) == "the start was cancelled after 12 s"
