"""``serve-llm-hooks trace``, of files; of a running application: tests/integration."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from serve_llm_hooks import HookEvent, ServeLLMHooksError, StartStep, Trace, dump_traces
from serve_llm_hooks.cli.compared import compared
from tests.unit.core.test_saved_trace import EVENTS, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import HookName
    from serve_llm_hooks._core.event import HookOutcome

    from .conftest import Answer

    Cli = Callable[..., Answer]
    Save = Callable[..., Path]


def event(
    point: HookName, hook: str, node: str, start_s: float, took_s: float, outcome: HookOutcome = "ok", detail: str = ""
) -> HookEvent:
    return HookEvent(point, f"acme:{hook}", node, 7, 1e9 + start_s, 1e9 + start_s + took_s, outcome, detail)


GOOD = trace_of(
    event("on_before_node_download", "look", "a1b2c3d4e5f6", 0, 2),
    event("on_before_node_download", "look", "b1b2c3d4e5f6", 1, 4),
    event("on_after_init", "tell", "a1b2c3d4e5f6", 9, 1),
)
SLOW = trace_of(
    event("on_before_node_download", "look(size=…)", "a1b2c3d4e5f6", 0, 12.5),
    event("on_before_engine_init", "tune", "a1b2c3d4e5f6", 15, 0, outcome="skipped", detail="vetoed"),
    event("on_after_init", "tell", "a1b2c3d4e5f6", 20, 0.5, outcome="warned", detail="OSError: full"),
)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save traces."""

    def save(name: str, **traces: Trace) -> Path:
        file = tmp_path / name
        file.write_text(dump_traces(traces))
        return file

    return save


def test_a_timeline(cli: Cli, save: Save) -> None:
    save("good.json", llama=GOOD)
    lines = cli("trace", "good.json").out.splitlines()
    assert lines[0] == "llama, 3 hook calls"
    assert [line.split()[:5] for line in lines[1:]] == [
        ["0.000", "s", "2.000", "s", "a1b2c3d4"],
        ["1.000", "s", "4.000", "s", "b1b2c3d4"],
        ["9.000", "s", "1.000", "s", "replica"],
    ]
    bars = [line.split()[5] for line in lines[1:]]
    for bar, begins, lasts in zip(bars, (0, 0.1, 0.9), (0.2, 0.4, 0.1), strict=True):
        assert abs(bar.index("█") - len(bar) * begins) < 1
        assert abs(bar.count("█") - len(bar) * lasts) <= 1


def test_why_a_start_failed(cli: Cli, write_module: Save, tmp_path: Path) -> None:
    """What `dry-run --json` has saved of it is shown; of a model that could not start there is nothing else."""
    write_module("acme_good", "@hook('on_before_init')\ndef look(ctx): ...")
    write_module("acme_bad", "import acme_missing")
    for name, *options in (("good", "acme_good"), ("failed", "acme_good", "--fail", "engine"), ("bad", "acme_bad")):
        (tmp_path / f"{name}.json").write_text(cli("dry-run", *options, "--json").out)
    assert "problem" not in cli("trace", "good.json").out
    assert cli("trace", "failed.json").out.endswith("  problem: RuntimeError: CUDA out of memory (--fail)\n")
    bad = cli("trace", "bad.json").out
    assert bad.startswith("any-model, 0 hook calls\n  no hook ran\n  problem: hooks module 'acme_bad' fails while")
    for name in ("good", "failed", "bad"):
        assert cli("trace", f"{name}.json", "--json").out == (tmp_path / f"{name}.json").read_text()

    assert "problem" not in cli("trace", "--diff", "good.json", "good.json").out
    lines = cli("trace", "--diff", "failed.json", "bad.json").out
    assert "  problem of A: RuntimeError: CUDA out of memory (--fail)\n" in lines
    assert "  problem of B: hooks module 'acme_bad' fails while it is imported" in lines
    [start] = cli("trace", "--diff", "good.json", "failed.json", "--json").json["starts"]
    assert start["problems"] == {"a": None, "b": "RuntimeError: CUDA out of memory (--fail)"}


@pytest.mark.parametrize("starts", [None, 7, [7], [{}], [{"trace": "llama", "problem": 7}]])
def test_what_is_not_said_of_a_start_is_not_shown(cli: Cli, save: Save, starts: object) -> None:
    file = save("good.json", llama=GOOD)
    file.write_text(json.dumps({**json.loads(file.read_text()), "starts": starts}))
    answer = cli("trace", file)
    assert (answer.code, "problem" in answer.out) == (0, False)


def test_how_a_hook_ended(cli: Cli, save: Save) -> None:
    save("slow.json", llama=SLOW)
    lines = [line.strip() for line in cli("trace", "slow.json").out.splitlines()]
    assert "skipped: vetoed" in lines
    assert "warned: OSError: full" in lines


def test_json_is_what_was_saved(cli: Cli, save: Save) -> None:
    file = save("good.json", llama=GOOD, other=SLOW)
    assert cli("trace", file, "--json").out.strip() == file.read_text()


def test_a_trace_whose_text_is_no_utf_8(cli: Cli, save: Save) -> None:
    save("odd.json", llama=trace_of(event("on_after_init", "tell", "a1", 0, 1, "warned", "OSError: caf\udce9")))
    for options in (["odd.json"], ["odd.json", "--json"], ["--diff", "odd.json", "odd.json", "--json"]):
        assert cli("trace", *options).code == 0


def test_two_starts_side_by_side(cli: Cli, save: Save) -> None:
    save("good.json", llama=GOOD)
    save("slow.json", llama=SLOW)
    answer = cli("trace", "--diff", "good.json", "slow.json")
    assert answer.code == 0
    assert [" ".join(line.split()) for line in answer.out.splitlines()] == [
        "A is good.json, B is slow.json",
        "llama",
        "A at took B at took B - A what",
        "0.000 s 4.000 s 0.000 s 12.50 s +8.500 s look (on_before_node_download), differs most",
        "A, the longest of 2 calls (b1b2c3d4)",
        "not there 15.00 s 0.000 s tune (on_before_engine_init)",
        "B, skipped",
        "9.000 s 1.000 s 20.00 s 0.500 s -0.500 s tell (on_after_init)",
        "B, warned",
    ]
    rows = cli("trace", "--diff", "good.json", "slow.json", "--json").json["starts"][0]["rows"]
    assert [(row["hook"], row["difference_s"]) for row in rows] == [
        ("acme:look", 8.5),
        ("acme:tune", None),
        ("acme:tell", -0.5),
    ]
    assert rows[1]["a"] is None
    assert rows[0]["a"] == {"calls": 2, "start_s": 0.0, "took_s": 4.0, "longest": "b1b2c3d4", "outcomes": ["ok"]}


def test_what_was_slower_is_seen_side_by_side(cli: Cli, write_module: Save, tmp_path: Path) -> None:
    """A slow download is in no hook: it is in the whole start, in the wait for the nodes, and on the node."""
    write_module("acme_good", "@hook('on_before_init')\ndef look(ctx): ...")
    for name, *options in (("a",), ("b", "--fail", "slow-download:node-1:300")):
        (tmp_path / f"{name}.json").write_text(cli("dry-run", "acme_good", *options, "--json").out)
    answer = cli("trace", "--diff", "a.json", "b.json")
    assert [" ".join(line.split()) for line in answer.out.splitlines()[2:]] == [
        "A at took B at took B - A what",
        "0.000 s 50.00 s 0.000 s 330.0 s +280.0 s the whole start",
        "0.000 s 0.000 s 0.000 s 0.000 s +0.000 s look (on_before_init)",
        "0.000 s 20.00 s 0.000 s 300.0 s +280.0 s nodes, differs most",
        "0.000 s 20.00 s 0.000 s 300.0 s +280.0 s download, differs most",
        "A, the longest of 4",
        "B, the longest of 4 (node-1)",
        "20.00 s 30.00 s 300.0 s 30.00 s +0.000 s engine",
    ]
    rows = cli("trace", "--diff", "a.json", "b.json", "--json").json["starts"][0]["rows"]
    assert [(row["step"] or row["hook"], row["difference_s"], row["differs_most"]) for row in rows] == [
        ("start", 280, False),
        ("acme_good:look", 0, False),
        ("nodes", 280, True),
        ("download", 280, True),
        ("engine", 0, False),
    ]


def with_steps(trace: Trace, *steps: tuple[str, float, float, str]) -> Trace:
    """Return a trace with steps: of each the name, when it began and ended, and the engine's process."""
    trace.steps = tuple(
        StartStep(name, "a1b2c3d4e5f6", 7, 1e9 + start_s, 1e9 + end_s, process=process)
        for name, start_s, end_s, process in steps
    )
    return trace


def test_the_workers_of_an_engine_are_one_row_and_what_was_short_is_none() -> None:
    """Of the workers the slowest counts; what is in one start alone may be what differs most."""
    workers = ("compile", 20, 27, "worker-0"), ("compile", 20, 57, "worker-1")
    a = with_steps(trace_of(), ("start", 0, 40, ""), ("imports", 0, 0.01, ""), ("compile", 20, 27, "worker-0"))
    b = with_steps(trace_of(), ("start", 0, 120, ""), ("imports", 0, 0.04, ""), *workers, ("profile", 57, 99, "core"))
    rows = compared(a, b)
    assert [(row.what.title, row.difference_s, row.differs_most) for row in rows] == [
        ("the whole start", 80, False),
        ("compile (worker)", 30, False),
        ("profile (core)", None, True),
    ]
    assert rows[1].b is not None
    assert (rows[1].b.calls, rows[1].b.longest) == (2, "worker-1")


def test_a_short_step_is_shown_only_if_it_failed(cli: Cli, save: Save) -> None:
    trace = trace_of()
    trace.steps = tuple(
        StartStep(name, "a1b2c3d4e5f6", 7, 1e9, 1e9 + 0.01, failed=failed)
        for name, failed in (("imports", False), ("engine", True))
    )
    save("short.json", llama=trace)
    shown = cli("trace", "short.json").out
    assert "engine" in shown
    assert "imports" not in shown


def test_hooks_that_are_written_alike_are_compared_each_with_itself() -> None:
    def started(second_s: float) -> Trace:
        return trace_of(
            event("on_after_init", "fetch(size=…)", "a1", 0, 10),
            event("on_after_init", "fetch(size=…)#2", "a1", 10, second_s),
        )

    rows = compared(started(1), started(9))
    assert [(row.what.hook, row.difference_s) for row in rows] == [("acme:fetch", 0), ("acme:fetch#2", 8)]


def test_hooks_are_called_as_the_timeline_calls_them(cli: Cli, write_module: Save, tmp_path: Path) -> None:
    source = """
        class Setup:
            def on_before_init(self, ctx): ...

        @hook("on_before_engine_init")
        def span(ctx):
            yield
        """
    write_module("acme_hooks", source)
    (tmp_path / "a.json").write_text(cli("dry-run", "acme_hooks:Setup", "acme_hooks:span", "--json").out)
    titles = ["Setup (on_before_init)", "span (on_before_engine_init)", "span (on_before_engine_init, finish)"]
    for options in (["a.json"], ["--diff", "a.json", "a.json"]):
        lines = cli("trace", *options).out.splitlines()
        assert sorted(line.split("  ")[-1] for line in lines if " (on_" in line) == sorted(titles)


def test_where_the_longest_call_was_is_told_whatever_followed_there() -> None:
    """List one hook twice, with other parameters: it is called twice on each node."""
    calls = (("slow=…", "b1", 9.0), ("slow=…", "a1", 2.0), ("n=…", "b1", 1.0), ("n=…", "a1", 2.0))
    trace = trace_of(
        *(
            event("on_before_node_download", f"sl({given})", node, at, took)
            for at, (given, node, took) in enumerate(calls)
        )
    )
    [row] = compared(trace, trace)
    assert row.a is not None
    assert (row.a.calls, row.a.took_s, row.a.longest) == (4, 9, "b1")


def test_hooks_of_a_file_with_brackets_in_its_name() -> None:
    starts = [
        trace_of(
            *(HookEvent("on_after_init", f"hooks (1):{name}", "a1", 7, 0.0, took_s) for name in ("first", "second"))
        )
        for took_s in (1.0, 3.0)
    ]
    assert [(row.what.hook, row.difference_s) for row in compared(*starts)] == [
        ("hooks (1):first", 2),
        ("hooks (1):second", 2),
    ]


def test_a_hooks_file_that_has_moved_is_the_same_file(
    cli: Cli, write_module: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Move a hooks file, as each upload of a `working_dir` does."""
    source = write_module("disk", "@hook('on_after_init')\ndef ok(ctx): ...").read_text()
    for name in ("a", "b"):
        (tmp_path / name / "hooks").mkdir(parents=True)
        (tmp_path / name / "hooks/disk.py").write_text(source)
        monkeypatch.chdir(tmp_path / name)
        Path("start.json").write_text(cli("dry-run", "hooks/disk.py", "--json").out)
    monkeypatch.chdir(tmp_path)
    rows = cli("trace", "--diff", "a/start.json", "b/start.json", "--json").json["starts"][0]["rows"]
    assert [(row["hook"], row["difference_s"]) for row in rows if row["hook"]] == [("disk:ok", 0)]


def test_which_of_two_files_of_one_name_has_moved_where_is_not_guessed() -> None:
    def started(*modules: str) -> Trace:
        return trace_of(*(HookEvent("on_after_init", f"{module}:ok", "a1", 7, 0.0, 1.0) for module in modules))

    def hooks(a: Trace, b: Trace) -> list[tuple[str, bool, bool]]:
        return [(row.what.hook, row.a is not None, row.b is not None) for row in compared(a, b)]

    here, there, elsewhere = "disk_11111111", "disk_22222222", "disk_33333333"
    assert hooks(started(here, there), started(here, elsewhere)) == [
        (f"{here}:ok", True, True),
        ("disk:ok", True, True),
    ]
    assert hooks(started(here, there), started(elsewhere)) == [
        (f"{elsewhere}:ok", False, True),
        (f"{here}:ok", True, False),
        (f"{there}:ok", True, False),
    ]
    assert hooks(started("disk", here), started("disk", there)) == [
        ("disk:ok", True, True),
        (f"{there}:ok", False, True),
        (f"{here}:ok", True, False),
    ]


def test_several_starts_side_by_side_by_their_names(cli: Cli, save: Save) -> None:
    save("a.json", llama=GOOD, qwen=GOOD, only=GOOD)
    save("b.json", llama=SLOW, qwen=SLOW)
    out = cli("trace", "--diff", "a.json", "b.json").out
    assert out.count("A at") == 2
    assert "only in a.json: only" in out
    save("c.json", other=GOOD)
    answer = cli("trace", "--diff", "a.json", "c.json")
    assert answer.code == 2
    assert "no name is in both: a.json has llama, qwen, only; c.json has other" in answer.err
    save("d.json", llama=SLOW)
    assert cli("trace", "--diff", "c.json", "d.json").out.splitlines()[1] == "other and llama"


def test_a_start_that_only_one_source_has_is_told(cli: Cli, save: Save) -> None:
    """Compare files that have one start in common, and files that have none."""
    save("two.json", llama=GOOD, qwen=GOOD)
    save("one.json", llama=SLOW)
    save("other.json", other=SLOW)
    for sources, said, only_in in (
        (("two.json", "one.json"), "only in two.json: qwen", {"a": ["qwen"], "b": []}),
        (("one.json", "two.json"), "only in two.json: qwen", {"a": [], "b": ["qwen"]}),
    ):
        assert cli("trace", "--diff", *sources).out.splitlines()[-1] == said
        assert cli("trace", "--diff", *sources, "--json").json["only_in"] == only_in
    assert "only in" not in cli("trace", "--diff", "one.json", "other.json").out  # of one each, these two are compared
    assert cli("trace", "--diff", "one.json", "other.json", "--json").json["only_in"] == {"a": [], "b": []}


@pytest.mark.parametrize("width", [20, 40, 71, 72, 120])
@pytest.mark.parametrize("options", [["slow.json"], ["--diff", "good.json", "slow.json"]])
def test_it_is_as_wide_as_the_terminal(
    cli: Cli, save: Save, monkeypatch: pytest.MonkeyPatch, width: int, options: list[str]
) -> None:
    save("good.json", llama=with_steps(trace_of(*GOOD), ("start", 0, 10, ""), ("compile", 5, 9, "worker-0")))
    save("slow.json", llama=with_steps(trace_of(*SLOW), ("start", 0, 21, ""), ("compile", 15, 20, "worker-0")))
    monkeypatch.setenv("COLUMNS", str(width))
    answer = cli("trace", *options)
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= width


@given(trace=st.lists(EVENTS), other=st.lists(EVENTS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_any_trace_can_be_shown(cli: Cli, save: Save, trace: list[HookEvent], other: list[HookEvent]) -> None:
    save("a.json", m=trace_of(*trace))
    save("b.json", m=trace_of(*other))
    for options in (["a.json"], ["--diff", "a.json", "b.json"]):
        answer = cli("trace", *options)
        assert answer.code == 0
        assert "\x1b" not in answer.out


@given(events=st.lists(EVENTS))
def test_a_start_beside_itself_has_no_difference(events: list[HookEvent]) -> None:
    trace = trace_of(*events)
    assert [row for row in compared(trace, trace) if row.difference_s != 0 or row.differs_most] == []


def test_files_that_cannot_be_read(cli: Cli, save: Save, tmp_path: Path) -> None:
    good = save("good.json", llama=GOOD)
    (tmp_path / "cut.json").write_text(good.read_text()[:300])
    (tmp_path / "later.json").write_text(good.read_text().replace('"version": 1', '"version": 9'))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "none.json").write_text(dump_traces({}))
    (tmp_path / "folder.json").mkdir()
    for name, why in (
        ("cut.json", "cut.json: it was cut off: its end is missing"),
        ("later.json", "later.json: it is of version 9, and this serve-llm-hooks reads up to 1"),
        ("bytes.json", "bytes.json: it is no text"),
        ("none.json", "none.json: there is no trace in it"),
        ("folder.json", "folder.json is a folder, and no start is saved in it"),
        ("missing.json", "No such file"),
    ):
        answer = cli("trace", name)
        assert (answer.code, answer.out) == (2, "")
        assert why in answer.err


def test_the_newest_start_in_a_folder_is_named(
    cli: Cli, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder cannot be shown, but what is probably meant is said: what was saved in it last."""
    (tmp_path / "traces").mkdir()
    for age, name in enumerate(["new.html", "old.json", "older.json"]):
        os.utime(save(f"traces/{name}", llama=GOOD), (1e9 - age, 1e9 - age))
    for name in (".half.json", "notes.txt"):
        (tmp_path / "traces" / name).write_text("")
    fake = types.ModuleType("serve_llm_hooks.ray")
    monkeypatch.setitem(sys.modules, "serve_llm_hooks.ray", fake)

    def hook_trace(name: str) -> dict[str, Trace]:
        raise ServeLLMHooksError(f"there is no application {name!r}")

    vars(fake).update(hook_trace=hook_trace)
    for source in ("traces/", "traces"):
        answer = cli("trace", source)
        assert (answer.code, answer.out) == (2, "")
        assert f"{source} is a folder: give a file in it; the newest there is traces/new.html" in answer.err


def test_one_file_or_two(cli: Cli, save: Save) -> None:
    save("good.json", llama=GOOD)
    assert "give one file or application" in cli("trace", "good.json", "good.json").err
    assert "give two files or applications after --diff" in cli("trace", "--diff", "good.json").err


def test_a_folder_of_the_name_of_an_application(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llm").mkdir()
    fake = types.ModuleType("serve_llm_hooks.ray")
    fake.hook_trace = {"llm": {"LLMServer:llama": GOOD}}.__getitem__  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "serve_llm_hooks.ray", fake)
    assert "LLMServer:llama, 3 hook calls" in cli("trace", "llm").out


@pytest.mark.usefixtures("no_ray_yet")
def test_an_application_where_no_cluster_can_be_reached(cli: Cli) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    sys.modules["ray"] = ray = types.ModuleType("ray")
    vars(ray).update(init=init, is_initialized=lambda: False, serve=types.ModuleType("ray.serve"))
    answer = cli("trace", "llm")
    assert (answer.code, answer.out) == (2, "")
    assert "no Ray cluster can be reached (ConnectionError: Could not find any running Ray instance)" in answer.err
    assert "set RAY_ADDRESS" in answer.err


@pytest.mark.usefixtures("no_ray_yet")
def test_an_application_where_there_is_no_ray(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = cli("trace", "llm")
    assert answer.code == 2
    assert "there is no file 'llm', and to ask an application of that name, Ray is needed" in answer.err
    assert "Traceback" not in answer.err


# -- advice --------------------------------------------------------------------------------------------------------


def advised() -> Trace:
    """Return a start whose hook and whose compile could be shorter."""
    trace = trace_of(event("on_before_init", "licence", "a1b2c3d4e5f6", 0, 12))
    return with_steps(trace, ("start", 0, 60, ""), ("engine", 20, 50, ""), ("compile", 30, 37.25, "worker-0"))


def test_advice(cli: Cli, save: Save) -> None:
    save("start.json", llama=advised())
    lines = cli("trace", "start.json", "--advice").out.splitlines()
    assert lines[0] == "llama"
    assert lines[1].startswith("  about 12.0 s: licence at on_before_init took 12.0 s, and the start waited for it.")
    assert lines[2] == '    write @hook("on_before_init", until="on_after_engine_init")'
    assert lines[3].startswith("  about 7.2 s: torch.compile took 7.2 s.")
    assert lines[4].startswith("    write - {hook: serve_llm_hooks.recipes:CompileCache, kwargs: {")
    assert len(lines) == 5


def test_advice_as_json(cli: Cli, save: Save) -> None:
    save("starts.json", llama=advised(), other=GOOD)
    document = cli("trace", "starts.json", "--advice", "--json").json
    assert document["version"] == 1
    llama, other = document["starts"]
    assert [(each["rule"], each["saves_s"]) for each in llama["advice"]] == [
        ("blocking-hook", 12.0),
        ("compile-cache", 7.25),
    ]
    assert set(llama["advice"][0]) == {"rule", "why", "saves_s", "change"}
    assert other == {"trace": "other", "advice": []}


def test_advice_on_a_narrow_screen(cli: Cli, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    save("start.json", llama=advised())
    monkeypatch.setenv("COLUMNS", "40")
    lines = cli("trace", "start.json", "--advice").out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "on_before_init" in "".join(lines)


def test_no_advice_is_said(cli: Cli, save: Save) -> None:
    save("start.json", llama=GOOD)
    answer = cli("trace", "start.json", "--advice")
    assert answer.out.splitlines()[1:] == ["  no advice: there is no start of an engine in its trace"]
    assert answer.code == 0


def test_advice_on_two_starts_is_refused(cli: Cli, save: Save) -> None:
    save("a.json", llama=GOOD)
    answer = cli("trace", "--diff", "--advice", "a.json", "a.json")
    assert answer.code == 2
    assert "leave one of them out" in answer.err
