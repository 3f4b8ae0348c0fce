"""The page and the picture show what was measured, and nothing else; and what is over its reach is said to be."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import marks, report, run
from benchmarks.steps import durations

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
