"""Test what is measured of a start, and that its labels have a bound."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HookError, HookEvent, StartStep, hook, initialization
from serve_llm_hooks._core.event import DID_NOT_RUN, HookOutcome
from serve_llm_hooks._observe import ending
from serve_llm_hooks._observe.measures import METRICS, OTHER, Bounds, measures_of
from tests.docs_blocks import ROOT
from tests.unit.core.test_saved_trace import EVENTS
from tests.unit.core.test_steps import STEPS
from tests.unit.stub import Config, StubCluster, run, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serve_llm_hooks._observe.measures import Measure

STARTED = ("llm", "LLMServer:m", "r1")
OUTCOMES = set(get_args(HookOutcome)) - set(DID_NOT_RUN)


@hook("on_before_node_download")
def check_disk(ctx: Any) -> None:
    """A hook on every node."""


@hook("on_before_init")
def breaks(ctx: Any) -> None:
    raise ValueError("no licence")


@hook("on_shutdown")
def say_goodbye(ctx: Any) -> None:
    """A hook at the end."""


def measured(*what: HookEvent | StartStep, names: Sequence[str] = STARTED) -> list[Measure]:
    events = [each for each in what if isinstance(each, HookEvent)]
    steps = [each for each in what if isinstance(each, StartStep)]
    return list(measures_of("m", names, events, steps, Bounds()))


def values(measures: list[Measure]) -> dict[str, float]:
    return {each.metric.removeprefix("serve_llm_hooks_"): each.value for each in measures}


def test_a_call_of_a_hook_is_counted_and_timed() -> None:
    found = measured(HookEvent("on_before_init", "team.hooks:fetch", "n0", 7, 10.0, 12.5, "warned"))
    assert values(found) == {"hook_runs_total": 1, "hook_seconds_total": 2.5, "hook_duration_seconds": 2.5}
    assert all(
        each.labels
        == {
            "application": "llm",
            "deployment": "LLMServer:m",
            "model": "m",
            "point": "on_before_init",
            "hook": "team.hooks:fetch",
            "outcome": "warned",
        }
        for each in found
    )


def test_a_hook_is_one_series_whatever_its_parameters_are_and_its_second_part_another() -> None:
    refs = ["hooks:fetch(bucket=…)", "hooks:fetch(bucket=…)#2", "hooks:fetch"]
    found = measured(*(HookEvent("on_before_init", ref, "n0", 7, 0.0, 1.0) for ref in refs))
    assert {each.labels["hook"] for each in found} == {"hooks:fetch"}
    finish = measured(HookEvent("on_before_init", "hooks:fetch#2", "n0", 7, 0.0, 1.0, is_finish=True))
    assert {each.labels["hook"] for each in finish} == {"hooks:fetch (finish)"}


@pytest.mark.parametrize("outcome", DID_NOT_RUN)
def test_a_hook_that_did_not_run_is_not_counted(outcome: HookOutcome) -> None:
    assert measured(HookEvent("on_before_init", "hooks:fetch", "n0", 7, 0.0, 1.0, outcome)) == []


def test_a_download_has_its_bytes() -> None:
    found = measured(StartStep("download", "n1", 8, 5.0, 15.0, size_bytes=6_000))
    assert values(found) == {
        "downloads_total": 1,
        "download_seconds_total": 10.0,
        "download_duration_seconds": 10.0,
        "download_bytes_total": 6_000,
    }
    assert {each.labels["outcome"] for each in found} == {"ok"}


def test_a_start_is_good_or_has_failed_and_other_steps_are_no_starts() -> None:
    steps = [StartStep(name, "n0", 7, 0.0, 30.0, failed=True) for name in ("start", "engine", "nodes", "compile")]
    found = measured(*steps, names=())
    assert values(found) == {"starts_total": 1, "start_seconds_total": 30.0, "start_duration_seconds": 30.0}
    assert found[0].labels == {"application": "", "deployment": "", "model": "m", "outcome": "failed"}


RAN = st.builds(lambda event, outcome: event._replace(outcome=outcome), EVENTS, st.sampled_from(sorted(OUTCOMES)))
NAMED = st.builds(lambda step, name: step._replace(name=name), STEPS, st.sampled_from(["start", "download", "x"]))
STARTS = st.lists(st.tuples(st.text(max_size=3), st.lists(RAN), st.lists(NAMED)), max_size=8)


@given(STARTS, st.integers(0, 3), st.integers(0, 3))
def test_labels_have_a_bound_whatever_hooks_and_models_are_called(
    starts: list[tuple[str, list[HookEvent], list[StartStep]]], most_models: int, most_hooks: int
) -> None:
    bounds = Bounds(most_models, most_hooks)
    found = [
        each for model_id, events, steps in starts for each in measures_of(model_id, STARTED, events, steps, bounds)
    ]
    for label, most in (("model", most_models), ("hook", most_hooks)):
        seen = {each.labels[label] for each in found if label in each.labels}
        assert len(seen - {OTHER}) <= most
        assert all(len(value) <= 200 for value in seen)
        "".join(seen).encode()  # Ray sends them as UTF-8
    assert {each.labels["outcome"] for each in found} <= {*OUTCOMES, "ok", "failed"}
    # Nothing is lost in what is called other.
    runs = [each for each in found if each.metric == "serve_llm_hooks_hook_runs_total"]
    assert len(runs) == sum(len(events) for _, events, _ in starts)
    for each in found:
        assert tuple(each.labels) == METRICS[each.metric].labels
        assert each.value >= 0


LONG = "s3://models/" + "deep/" * 60


@pytest.mark.parametrize("label", ["application", "deployment", "model", "hook"])
def test_long_names_are_short_in_labels_and_stay_apart(label: str) -> None:
    def labelled(name: str) -> str:
        where = {"application": "llm", "deployment": "d", "model": "m", "hook": "hooks:fetch", label: name}
        event = HookEvent("on_before_init", where["hook"], "n0", 7, 0.0, 1.0)
        names = (where["application"], where["deployment"])
        return next(measures_of(where["model"], names, [event], [], Bounds())).labels[label]

    found = [labelled(f"{LONG}{end}") for end in ("a", "b", "a")]
    assert len({*found}) == 2
    assert found[0] == found[2]
    assert all(len(each) <= 200 and each.startswith(LONG[:190]) for each in found)
    assert labelled("x" * 200) == "x" * 200


def test_a_name_that_had_its_series_keeps_it() -> None:
    bounds = Bounds(hooks=1)
    assert [bounds.hook(name) for name in ("a", "b", "a")] == ["a", OTHER, "a"]


class Written:
    """Keep each call of the writer of metrics."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.calls: list[tuple[Sequence[str], list[Measure]]] = []
        self._first = first

    def write(
        self, model_id: str, names: Sequence[str], events: Sequence[HookEvent], steps: Sequence[StartStep]
    ) -> None:
        self._first()
        self.calls.append((names, list(measures_of(model_id, names, events, steps, Bounds()))))

    def hooks(self) -> list[list[str]]:
        """Return the hooks that were counted, call by call."""
        join()
        return [
            [each.labels["hook"].rpartition(":")[2] for each in found if each.metric.endswith("runs_total")]
            for _, found in self.calls
        ]


def join() -> None:
    for thread in threading.enumerate():
        if thread.name == "serve-llm-hooks writes metrics":
            thread.join()


def test_a_good_start_is_written_once() -> None:
    written = Written()
    start(check_disk, cluster=StubCluster(write_metrics=written.write))
    assert written.hooks() == [["check_disk"] * 3]
    [(names, found)] = written.calls
    assert names == ("app", "LLMServer:m", "r1")
    assert [each.value for each in found if each.metric == "serve_llm_hooks_downloads_total"] == [1, 1, 1]
    [whole] = [each for each in found if each.metric == "serve_llm_hooks_starts_total"]
    assert whole.labels["outcome"] == "ok"


def test_a_failed_start_is_written_before_its_error_is_raised() -> None:
    written = Written()
    with pytest.raises(HookError, match="no licence"):
        start(breaks, cluster=StubCluster(write_metrics=written.write))
    [(_, found)] = written.calls
    assert {each.labels["outcome"] for each in found} == {"failed"}


def test_what_runs_at_the_end_of_a_replica_is_written_when_it_is_over() -> None:
    written = Written()

    async def live() -> None:
        config = Config(hooks=[check_disk, say_goodbye])
        async with initialization(config, cluster=StubCluster(write_metrics=written.write)) as replica:
            replica.engine = "the engine"
        join()
        await replica.shut_down()
        await replica.shut_down()

    run(live())
    assert written.hooks() == [["check_disk"] * 3, ["say_goodbye"]]


def test_metrics_that_cannot_be_written_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def first() -> None:
        raise OSError("no agent")

    assert start(check_disk, cluster=StubCluster(write_metrics=Written(first).write)).names == ["check_disk"] * 3
    join()
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == "model 'm': what it did is not in the metrics: OSError: no agent"


def test_the_error_of_a_failed_start_waits_for_no_metrics_that_hang(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(ending, "_WAIT_S", 0.01)
    with pytest.raises(HookError, match="no licence"):
        start(breaks, cluster=StubCluster(write_metrics=Written(goes_on.wait).write))
    assert not goes_on.is_set()
    goes_on.set()
    join()
    assert "not in the metrics: it has taken more than 0.01 s" in caplog.text


def test_without_metrics_there_is_no_thread_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = threading.Thread.start

    def told(thread: threading.Thread) -> None:
        begun.append(thread.name)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", told)
    start(check_disk)
    assert begun  # of the hooks
    assert "serve-llm-hooks writes metrics" not in begun


PAGE = ROOT / "docs" / "observability.md"
DASHBOARD = ROOT / "docs" / "grafana.json"


def test_the_page_lists_the_metrics_with_their_labels() -> None:
    rows = [row.strip("| ").split(" | ") for row in PAGE.read_text().splitlines() if row.startswith("| `ray_")]
    listed = {row[0].strip("`").removeprefix("ray_"): (row[1], tuple(re.findall(r"`(\w+)`", row[3]))) for row in rows}
    assert listed == {name: (metric.kind, metric.labels) for name, metric in METRICS.items()}
    assert [row[2] for row in rows if row[0].strip("`").endswith(("_seconds", "_seconds_total"))] == ["seconds"] * 6


@pytest.mark.parametrize("file", [PAGE, DASHBOARD], ids=lambda file: file.name)
def test_what_is_asked_of_prometheus_is_there(file: Path) -> None:
    asked = re.findall(r"ray_(serve_llm_hooks_\w+)", file.read_text())
    series = {name for name, metric in METRICS.items() if metric.kind == "counter"}
    series |= {f"{name}_bucket" for name in METRICS.keys() - series} | (METRICS.keys() if file == PAGE else set())
    assert asked
    assert set(asked) <= series


def test_the_dashboard_can_be_imported_and_asks_for_labels_that_there_are() -> None:
    document = json.loads(DASHBOARD.read_text())
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        [target] = panel["targets"]
        names = re.findall(r"ray_(serve_llm_hooks_\w+?)(?:_bucket)?\{", target["expr"])
        labels = set.intersection(*(set(METRICS[name].labels) for name in names)) | {"le"}
        used = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        used |= set(re.findall(r"(\w+)(?:=~|!~)", target["expr"])) | set(
            re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        )
        assert used <= labels, panel["title"]
        assert "rate(" not in target["expr"]  # a replica's series do not grow
        assert "increase(" not in target["expr"]
    assert {each["name"] for each in document["templating"]["list"]} == {"datasource", "application", "model"}
