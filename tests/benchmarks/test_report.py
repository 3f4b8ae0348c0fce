"""The page and the picture show what was measured, and nothing else; and what is over its reach is said to be."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import marks, on_gpu, report, run
from benchmarks.deploy import unnamed_share
from benchmarks.steps import durations
from serve_llm_hooks import HookEvent, StartStep, Trace

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = json.loads((report.REPOSITORY / "benchmarks" / "results.json").read_text())


def test_the_page_and_the_picture_are_made_of_the_results() -> None:
    stale = [path.name for path, text in report.rendered(RESULTS).items() if path.read_text() != text]
    assert not stale, f"{stale} differ from benchmarks/results.json; `python -m benchmarks.report` writes them"


def test_the_reach_is_the_code_s() -> None:
    assert RESULTS["reach"] == run.REACH


@pytest.mark.parametrize(
    ("keys", "ratio", "wanted"),
    [
        ({"a": 1.0, "point_overhead_us": 90.0}, 1.5, ["within", "within"]),
        ({"a": 1.01, "point_overhead_us": 0.5}, 1.51, ["over", "over"]),
        ({"point_overhead_us": 90.0}, 1.0, ["not measured", "within"]),
    ],
)
def test_verdicts(keys: dict[str, float], ratio: float, wanted: list[str]) -> None:
    results = {"keys": keys, "samples": {"point": {"ratio": ratio}}, "reach": {"a": 1.0, "point_overhead_us": 1.5}}
    assert [row.verdict for row in report.verdicts(results)] == wanted


def test_only_a_part_that_was_measured_is_stamped_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    old: dict[str, Any] = {
        "keys": dict.fromkeys(run.REACH, 0.0),
        "samples": {"point": {"ratio": 9.0}},
        "stamps": {"nodes": "old"},
    }
    target.write_text(json.dumps(old))

    def process(results: dict[str, Any], *, quick: bool) -> None:
        results["samples"]["point"]["ratio"] = 1.0

    monkeypatch.setattr(run, "RESULTS", target)
    monkeypatch.setattr(run, "write_report", lambda *_: None)
    monkeypatch.setitem(run.PARTS, "process", process)
    monkeypatch.setattr("sys.argv", ["run", "--only", "process"])
    assert run.main() == 0
    stamps = json.loads(target.read_text())["stamps"]
    assert stamps["nodes"] == "old"
    assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown(\+changes)?", stamps["process"]["commit"])

    old["keys"].pop("node_init_1")
    target.write_text(json.dumps(old))
    assert run.main() == 1  # one is not measured


def test_a_page_says_what_was_measured_on_a_gpu_or_that_nothing_was() -> None:
    assert report.gpu_table(None, run.REACH).startswith("Nothing has been measured on a GPU")
    stamps = {"deployments": {**RESULTS["stamps"]["many"], "date": "2027-01-02"}}
    measured = {"device": "Some GPU", "keys": {"gpu_path": 0.51234, "other": 2.0}, "stamps": stamps}
    lines = report.gpu_table(measured, {"gpu_path": 0.65}).splitlines()
    assert lines[0] == "Device: Some GPU."
    assert lines[2].startswith("Measured on 2027-01-02, ")
    assert lines[-2:] == ["| `gpu_path` | 0.5123 | ≤ 0.65 |", "| `other` | 2 |  |"]


def test_what_is_known_of_another_gpu_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(on_gpu.FILE, str(tmp_path / "results.json"))
    on_gpu.save("first", "one", {"a": 1.0}, {"a_s": [1.0]})
    on_gpu.save("second", "one", {"b": 2.0}, {"b_s": [2.0]})
    known = json.loads(on_gpu.results_file().read_text())
    assert (known["device"], known["keys"], list(known["stamps"])) == ("one", {"a": 1.0, "b": 2.0}, ["first", "second"])
    on_gpu.save("first", "another", {"a": 3.0}, {"a_s": [3.0]})
    known = json.loads(on_gpu.results_file().read_text())
    assert (known["device"], known["keys"], list(known["stamps"])) == ("another", {"a": 3.0}, ["first"])


def test_a_step_is_ended_when_the_time_is_over_and_what_fails_is_said() -> None:
    with pytest.raises(RuntimeError, match="it took longer than there was time"):
        on_gpu.Run(dry=True, limit_s=0.0)._output(["sleep", "1000"])
    with pytest.raises(RuntimeError, match=r"(?s)it ended with 1:.*no such thing"):
        on_gpu.Run(dry=True, limit_s=60.0)._output([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_marks_take_the_replica_that_started_and_the_slowest_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(marks.VARIABLE, str(tmp_path / "marks"))
    for process, seconds in ((1, 0.5), (2, 0.7)):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        marks.mark("replica: imports", float(process))
        marks.part("node: task", seconds)
        marks.part("node: task", 0.1)
    marks.mark("replica: start", 3.0)
    moments, parts = marks.read(tmp_path / "marks")
    assert moments == {"replica: imports": 2.0, "replica: start": 3.0}
    assert parts == pytest.approx({"node: task": 0.8})


def test_steps_add_up() -> None:
    took = durations({"built": 1.0, "replica: process": 0.5, "ready": 3.0}, 0.0)
    assert took == {"built": 1.0, "replica: process": 0.0, "ready": 2.0}


def test_what_no_hook_and_no_step_is_at_has_no_name() -> None:
    """Of ten seconds, one before the process, half of one in the start, and half of one behind it."""
    trace = Trace()
    trace.extend([HookEvent("on_before_init", "acme:look", "n0", 7, 4.5, 6.0)])
    times = (("process", 1.0, 3.0), ("serve", 2.0, 4.0), ("start", 4.0, 9.5), ("engine", 5.0, 9.5))
    trace.steps = tuple(StartStep(name, "n0", 7, start_s, end_s) for name, start_s, end_s in times)
    assert unnamed_share(trace, 0.0, 10.0) == pytest.approx(0.2)
    assert unnamed_share(trace, 6.0, 8.0) == 0.0
