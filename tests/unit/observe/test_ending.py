"""Test the end of a start: the block in the log, the files in SERVE_LLM_HOOKS_TRACE_DIR, the picture."""

from __future__ import annotations

import errno
import html
import json
import logging
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HookError, HookEvent, StartStep, Trace, TraceFormatError, hook, load_traces
from serve_llm_hooks._core.bars import bars_of
from serve_llm_hooks._core.event import HookOutcome
from serve_llm_hooks._core.picture import COLOURS
from serve_llm_hooks._observe import ending
from serve_llm_hooks._observe.chrome import chrome_trace
from serve_llm_hooks._observe.summary import WIDTH, summary
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
from tests.unit.core.test_saved_trace import EVENTS
from tests.unit.core.test_steps import STEPS
from tests.unit.stub import StubCluster, start

S3 = {"model_source": "s3://models/m"}


@hook("on_before_node_download")
def check_disk(ctx: Any) -> None:
    """A hook on every node."""


@hook("on_after_engine_init")
def warm_up(ctx: Any) -> None:
    """A hook in the replica."""


@hook("on_before_engine_init")
def breaks(ctx: Any) -> None:
    raise ValueError("no licence <for this>")


def blocks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "\n" in (text := record.getMessage()) and record.levelname == "INFO"]


def run(*hooks: Any, **config: Any) -> Any:
    return FakeCluster(nodes=4).run(FakeLLMConfig("m", hooks=hooks, **config), check=False)


def test_a_good_start_ends_with_a_block_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(check_disk, warm_up, model_loading_config=S3)
    [block] = blocks(caplog)
    head, *rows = block.splitlines()
    assert head.startswith("model 'm': started after ")
    assert "downloads 20.00 s, engine 30.00 s" in head
    told = "\n".join(rows)
    assert "download; slowest of 4: node-" in told
    assert "check_disk (on_before_node_download); slowest of 4: node-" in told
    assert "replica         warm_up (on_after_engine_init)" in told
    assert "replica         engine" in told


class Adapters:
    async def on_before_node_download(self, ctx: Any) -> None:
        """A method that is named after its point."""


class Disk(Adapters):
    async def on_before_node_download(self, ctx: Any) -> None:
        """Another one."""


def test_methods_are_told_by_their_classes_each_in_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trace = run(Adapters, Disk).trace
    [block] = blocks(caplog)
    for name in ("Adapters", "Disk"):
        assert f"{name} (on_before_node_download); slowest of 4" in block
    assert {bar.what for bar in bars_of(trace, ())} == {
        f"{name} (on_before_node_download)" for name in ("Adapters", "Disk")
    }


def test_a_start_that_fails_ends_with_one_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(breaks)
    [block] = blocks(caplog)
    assert block.startswith("model 'm': the start ended with an error after ")
    assert block.endswith("breaks (on_before_engine_init)\n" + " " * 26 + "failed: ValueError: no licence <for this>")


def test_a_start_with_nothing_to_say_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(model_loading_config={"model_source": "/models/m"})
    assert blocks(caplog) == []


def test_the_sizes_of_downloads_are_in_the_block() -> None:
    trace = Trace()
    trace.steps = (
        StartStep("download", "node-0", 1, 10.0, 20.0, size_bytes=10**10, address="10.0.0.1", hostname="gpu-1"),
        StartStep("download", "node-1", 1, 10.0, 30.0, size_bytes=10**10),
    )
    _, line = summary("m", trace).splitlines()
    assert line.split()[:6] == ["0.000", "s", "20.00", "s", "2", "nodes"]
    assert line.endswith("  download, 20 GB at 1 GB/s; slowest of 2: node-1")


@given(st.lists(EVENTS, max_size=50), st.lists(STEPS, max_size=50))
def test_the_block_fits_into_the_log_whatever_has_happened(events: list[HookEvent], steps: list[StartStep]) -> None:
    trace = Trace()
    trace.extend(events)
    trace.steps = tuple(steps)
    lines = summary("m", trace).splitlines()
    assert all(len(line) <= WIDTH for line in lines[1:])
    assert len(lines) <= 62


@given(st.lists(EVENTS, max_size=10), st.lists(STEPS, max_size=10))
def test_the_picture_is_whole_whatever_has_happened(events: list[HookEvent], steps: list[StartStep]) -> None:
    trace = Trace()
    trace.extend(events)
    trace.steps = tuple(steps)
    root = ElementTree.fromstring(trace._repr_html_())
    titles = [each for each in root.iter() if each.tag.endswith("title")]
    assert len(titles) == len(events) + len(steps)


def test_the_style_of_the_picture_holds_for_nothing_else_on_the_page_of_a_notebook() -> None:
    picture = ElementTree.fromstring(run(warm_up).trace._repr_html_())
    [style] = [each.text or "" for each in picture.iter() if each.tag.endswith("style")]
    rules = [rule for rule in style.split("}") if rule]
    assert rules
    assert all(rule.startswith(f".{picture.attrib['class']} ") for rule in rules)


def test_each_outcome_has_its_colour_in_the_picture() -> None:
    assert {"step", *get_args(HookOutcome)} == set(COLOURS)
    assert COLOURS["replayed"] not in (COLOURS["step"], COLOURS["ok"])


@given(st.lists(EVENTS, max_size=10), st.lists(STEPS, max_size=10))
def test_chrome_can_draw_whatever_has_happened(events: list[HookEvent], steps: list[StartStep]) -> None:
    both: list[HookEvent | StartStep] = [*events, *steps]
    forward = [each._replace(end_s=max(each.start_s, each.end_s)) for each in both]
    bars = bars_of(
        [each for each in forward if isinstance(each, HookEvent)],
        [each for each in forward if isinstance(each, StartStep)],
    )
    drawn = json.loads(json.dumps(chrome_trace(bars, 0.0)))
    check_chrome(drawn)
    assert len([each for each in drawn if each["ph"] == "X"]) == len(forward)


def check_chrome(events: list[dict[str, Any]]) -> None:
    """Hold events to Chrome's format, in which the complete ones of a thread are inside each other or apart."""
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        assert {"name", "ph", "pid", "tid", "ts"} <= event.keys()
        assert event["ph"] in ("X", "M")
        assert type(event["pid"]) is int
        assert type(event["tid"]) is int
        if event["ph"] == "X":
            assert event["dur"] >= 0
            lanes.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
    named = {event["pid"] for event in events if event["name"] == "process_name"}
    assert {pid for pid, _ in lanes} <= named
    slack_us = 1.0  # times are floats
    for lane in lanes.values():
        for begin, length in lane:
            for other, its_length in lane:
                if begin < other < begin + length - slack_us and its_length > slack_us:
                    assert other + its_length <= begin + length + slack_us


def saved(folder: Path) -> dict[str, Path]:
    for thread in threading.enumerate():
        if thread.name == "serve-llm-hooks saves a trace":
            thread.join()
    return {file.suffix: file for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "traces" / "of today"
    monkeypatch.setenv("SERVE_LLM_HOOKS_TRACE_DIR", str(folder))
    return folder


def test_both_files_are_named_after_the_replica_and_can_be_read_again(folder: Path) -> None:
    started = start(check_disk, warm_up)
    files = saved(folder)
    for file in files.values():
        assert file.name.startswith("app-LLMServer_m-r1-20")
        [trace] = load_traces(file.read_text()).values()
        assert list(trace) == list(started.ctx.trace)
        assert trace.steps == started.ctx.trace.steps
    document = json.loads(files[".json"].read_text())
    check_chrome(document["traceEvents"])
    names = [event["name"] for event in document["traceEvents"]]
    assert names.count("check_disk (on_before_node_download)") == 3
    assert "warm_up (on_after_engine_init)" in names


def test_a_start_that_fails_is_saved_before_its_error_is_raised(folder: Path) -> None:
    assert run(breaks, model_loading_config=S3).error is not None
    [page] = folder.glob("*.html")
    text = page.read_text()
    assert html.escape("ValueError: no licence <for this>") in text
    [trace] = load_traces(text).values()
    assert [event.outcome for event in trace] == ["failed"]


def test_the_error_of_a_failed_start_waits_for_no_disk_that_hangs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    comes_back = threading.Event()
    monkeypatch.setattr(ending, "_WAIT_S", 0.01)
    monkeypatch.setattr(ending, "_write", lambda folder, *_: comes_back.wait(5) and folder)
    with pytest.raises(HookError, match="no licence"):
        start(breaks)
    assert not comes_back.is_set()
    comes_back.set()
    saved(folder)
    [warning] = [text for record in caplog.records if "cannot be saved" in (text := record.getMessage())]
    assert warning.endswith(": it has taken more than 0.01 s, and is waited for no longer")


def test_a_full_disk_leaves_no_part_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *args: Any, **options: Any) -> Any:
        open_(path, *args, **options).close()
        raise OSError(errno.ENOSPC, "No space left on device")

    open_ = Path.open
    monkeypatch.setattr(Path, "open", full)
    start(warm_up)
    assert saved(folder) == {}


def test_two_starts_of_one_name_are_both_saved(folder: Path) -> None:
    folder.mkdir(parents=True)
    paths = [ending._write(folder, "llm-r1", ".json", text) for text in ("one", "two")]
    assert [path.name for path in paths] == ["llm-r1.json", "llm-r1-2.json"]
    assert [path.read_text() for path in sorted(folder.iterdir(), reverse=True)] == ["one", "two"]


def test_a_page_is_told_that_was_cut_off_or_is_of_a_later_version_or_of_others(folder: Path) -> None:
    start(warm_up)
    files = saved(folder)
    page, chrome = files[".html"].read_text(), files[".json"].read_text()
    for text in (page[: len(page) // 2], page[:40], chrome[: len(chrome) // 2]):
        with pytest.raises(TraceFormatError, match="cut off"):
            load_traces(text)
    for text in (page, chrome):
        with pytest.raises(TraceFormatError, match="it is of version 9, and this serve-llm-hooks reads up to 1"):
            load_traces(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(TraceFormatError, match="this page is none of serve-llm-hooks"):
        load_traces("<html><body></body></html>")
    with pytest.raises(TraceFormatError, match="these are no traces of serve-llm-hooks"):
        load_traces('{"traceEvents": []}')


def test_a_relative_folder_is_told_with_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVE_LLM_HOOKS_TRACE_DIR", "traces")
    start(warm_up)
    assert set(saved(tmp_path / "traces")) == {".html", ".json"}
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"SERVE_LLM_HOOKS_TRACE_DIR=traces is relative to the replica's working directory, and so is {tmp_path}" in (
        warning
    )


def test_a_folder_in_the_home_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SERVE_LLM_HOOKS_TRACE_DIR", "~/traces")
    start(warm_up)
    assert set(saved(tmp_path / "traces")) == {".html", ".json"}
    assert "relative" not in caplog.text


def test_a_folder_that_cannot_be_written_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SERVE_LLM_HOOKS_TRACE_DIR", str(tmp_path / "file"))
    assert start(warm_up).names == ["warm_up"]
    saved(tmp_path)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("model 'm': its start cannot be saved in SERVE_LLM_HOOKS_TRACE_DIR=")
    assert "FileExistsError" in warning


def test_the_page_shows_the_hooks_in_a_browser_and_loads_nothing(folder: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here to open the page with (Debian: apt-get install chromium)")
    start(check_disk, warm_up, cluster=StubCluster(nodes=("n0",)))
    page = saved(folder)[".html"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [chromium, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    picture = ElementTree.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + len("</svg>")])
    texts = [each.text for each in picture.iter() if each.tag.endswith("text")]
    assert "check_disk (on_before_node_download)" in texts
    assert "warm_up (on_after_engine_init)" in texts
    assert "engine" in texts
    assert "default-src 'none'" in shown  # whatever the page might refer to, the browser loads nothing
