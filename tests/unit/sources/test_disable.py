"""``SERVE_LLM_HOOKS_DISABLE``: hooks that are turned off."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import (
    CallbackCtx,
    HookRegistry,
    NodeCtx,
    NodeInitializationError,
    hook,
    load_hooks,
    skip,
)
from tests.unit.stub import LOGGED, FullConfig, StubCluster, fn_of, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import HookEvent

    WriteModule = Callable[[str, str], Path]

ALLOW = "SERVE_LLM_HOOKS_ALLOW"
DISABLE = "SERVE_LLM_HOOKS_DISABLE"


def outcomes(events: Any) -> list[tuple[str, str, str]]:
    """Name, node and outcome of each event."""
    return [(event.name, event.node_id, event.outcome) for event in events]


def many() -> HookRegistry:
    """Return a registry with one hook at most points, and two at one."""
    hooks = HookRegistry()
    for name, point in {
        "setup": "on_before_init",
        "choose": "on_before_download",
        "choose_again": "on_before_download",
        "mount": "on_before_node_download",
        "unpack": "on_after_node_download",
        "add_up": "on_after_download",
        "warm_up": "on_after_init",
    }.items():
        hooks.hook(point)(fn_of("ours", name))  # type: ignore[call-overload]  # a point that is a variable
    return hooks


@pytest.mark.parametrize("entry", ["choose", "ours:choose", "ours.choose", "our*:choos?", " ,choose, "])
def test_a_disabled_hook_does_not_run_and_leaves_a_mark(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, entry)
    started = start(many(), cluster=StubCluster(nodes=("n0",)))
    assert outcomes(started.ctx.trace) == [
        ("setup", "n0", "ok"),
        ("choose", "n0", "disabled"),
        ("choose_again", "n0", "ok"),
        ("mount", "n0", "ok"),
        ("unpack", "n0", "ok"),
        ("add_up", "n0", "ok"),
        ("warm_up", "n0", "ok"),
    ]
    event: HookEvent = started.ctx.trace.events[1]
    assert (event.duration_s, event.ran, event.point) == (0.0, False, "on_before_download")
    assert event.detail == f"{entry.strip(', ')!r} in SERVE_LLM_HOOKS_DISABLE"
    assert repr(started.ctx.trace) == "<Trace of 6 hook calls, 1 disabled>"
    assert "disabled: " in str(started.ctx.trace)


def alike() -> list[Any]:
    """Return functions of one name, one of them twice with two parameters and once with one."""

    def one() -> Any:
        def fetch(ctx: CallbackCtx, **kwargs: Any) -> None: ...

        fetch.__module__, fetch.__qualname__ = "ours", "fetch"
        return hook("on_before_init")(fetch)

    twice = one()
    given: list[dict[str, Any]] = [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"c": 3}]
    plain = [one(), one()]
    return [*plain, *({"hook": twice, "kwargs": kwargs} for kwargs in given)]


ALIKE = ["ours:fetch", "ours:fetch#2", "ours:fetch(a=…, b=…)", "ours:fetch(a=…, b=…)#2", "ours:fetch(c=…)"]


@pytest.mark.parametrize(
    ("value", "off"),
    [
        ("ours:fetch#2", [1, 3]),
        ("ours.fetch#2", [1, 3]),
        ("fetch#2", [1, 3]),
        ("our*:*#2", [1, 3]),
        ("fetch#1", [0, 2, 4]),
        ("ours:fetch(a=…, b=…)#2", [3]),
        ("ours:fetch(a=…, b=…)#1 ours:fetch(c=…)", [2, 4]),
        ("ours:fetch(a=…, b=…)", [2, 3]),
        ("fetch", [0, 1, 2, 3, 4]),
        ("fetch#3, fetch(d=…), fetch(a=…", []),
    ],
)
def test_a_hook_is_turned_off_by_what_the_log_calls_it(
    value: str, off: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DISABLE, value)
    trace = start(*alike()).ctx.trace
    assert sorted(event.hook for event in trace) == sorted(ALIKE)
    assert [event.hook for event in trace if not event.ran] == [ALIKE[index] for index in off]


def test_a_number_that_no_hook_has_is_not_answered_with_the_name_of_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DISABLE, "ours:fetch#3")
    start(*alike())
    assert "(did you mean 'ours:fetch#2'?)" in caplog.text


@pytest.mark.parametrize("entry", ["{folder}/file_hooks.py:check", "{folder}/*.py:ch*", "*/file_hooks.py:*"])
def test_a_hook_of_a_file_is_turned_off_by_the_name_that_the_config_and_the_allowance_have_for_it(
    entry: str, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_module("file_hooks", '@hook("on_before_init")\ndef check(ctx): raise AssertionError("it ran")')
    folder = file.parent.as_posix()
    monkeypatch.setenv(ALLOW, f"{folder}/*.py")
    monkeypatch.setenv(DISABLE, entry.format(folder=folder))
    started = start(f"{folder}/file_hooks.py:check")
    assert outcomes(started.ctx.trace) == [("check", "n0", "disabled")]


OF_A_FILE = f"""{LOGGED}
from vendor import Base

@hook("on_before_init")
def check(ctx): ...

@hook("on_before_download")
@logged
def wrapped(ctx): ...

class Style(Base):
    def on_after_download(self, ctx): ...

class Called:
    def __call__(self, ctx): ...

called = hook("on_after_init")(Called())
partial = hook("on_after_init")(functools.partial(check))
"""

ELSEWHERE = """
import pickle, sys
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

config = FakeLLMConfig("m", hooks=pickle.load(sys.stdin.buffer))
print([(event.name, event.outcome) for event in FakeCluster().run(config).trace])
"""


def test_a_hook_of_a_file_that_is_given_as_an_object_is_known_by_its_file_in_the_replica(
    write_module: WriteModule, tmp_path: Path
) -> None:
    import cloudpickle

    write_module("vendor", "class Base:\n    def on_after_placement_group(self, ctx): ...\n")
    file = tmp_path / "file_hooks.py"
    file.write_text(f"from serve_llm_hooks import hook\n{OF_A_FILE}")
    hooks = load_hooks(str(file), f"{file}:Style")
    off = "check", "wrapped", "Style.*"
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
        ALLOW: f"{tmp_path.as_posix()}/*.py",
        DISABLE: " ".join(f"{file.as_posix()}:{name}" for name in off),
    }
    script = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(script, input=cloudpickle.dumps([hooks]), env=environ, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(
        [
            ("check", "disabled"),
            ("wrapped", "disabled"),
            ("on_after_download", "disabled"),
            ("on_after_placement_group", "disabled"),
            ("check", "disabled"),
            ("Called", "ok"),
        ]
    )


@given(st.lists(st.sampled_from(["setup", "choose", "ours:choose_again", "mount", "ours:unp*", "add_up", "warm_up"])))
def test_whatever_is_disabled_the_others_run_as_before(entries: list[str]) -> None:
    def names(value: str) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(DISABLE, value)
            return [event.name for event in start(many()).ctx.trace if event.ran]

    off = {{"ours:unp*": "unpack"}.get(entry, entry.removeprefix("ours:")) for entry in entries}
    assert names(", ".join(entries)) == [name for name in names("") if name not in off]


def test_on_nodes_there_is_a_mark_for_each_and_no_task_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "mount, unpack")
    started = start(many(), cluster=StubCluster(mirror=None))
    marks = [event for event in started.ctx.trace if not event.ran]
    assert outcomes(marks) == [
        *(("mount", node, "disabled") for node in ("n0", "n1", "n2")),
        *(("unpack", node, "disabled") for node in ("n0", "n1", "n2")),
    ]
    assert not any(call.startswith("run") for call in started.cluster.calls)


def test_a_node_that_failed_has_no_mark_of_what_it_did_not_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CallbackCtx] = []
    hooks = many()

    @hooks.hook("on_before_node_download")
    def breaks(ctx: NodeCtx) -> None:
        if ctx.node_id == "n1":
            raise OSError

    @hooks.hook("on_failure")
    def look(ctx: CallbackCtx) -> None:
        seen.append(ctx)

    monkeypatch.setenv(DISABLE, "unpack")
    with pytest.raises(NodeInitializationError):
        start(hooks, cluster=StubCluster(nodes=("n0", "n1")))
    assert outcomes(event for event in seen[0].trace if not event.ran) == [("unpack", "n0", "disabled")]


def test_a_clean_up_that_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CallbackCtx] = []
    hooks = HookRegistry()

    @hooks.hook("on_before_init")
    def breaks(ctx: CallbackCtx) -> None:
        seen.append(ctx)
        raise OSError

    @hooks.hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None: ...

    monkeypatch.setenv(DISABLE, "clean_up")
    with pytest.raises(Exception, match="OSError"):
        start(hooks)
    assert outcomes(seen[0].trace) == [("breaks", "n0", "failed"), ("clean_up", "n0", "disabled")]


def test_an_order_that_names_a_disabled_hook_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_init", after="middle")
    def last(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_before_init", after="first")
    def middle(ctx: CallbackCtx) -> None: ...

    @hooks.hook("on_before_init")
    def first(ctx: CallbackCtx) -> None: ...

    monkeypatch.setenv(DISABLE, "middle")
    ran = [event.name for event in start(hooks).ctx.trace if event.ran]
    assert ran == ["first", "last"], "as they would have run with it between them"


def test_a_disabled_veto_vetoes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = HookRegistry()
    hooks.hook("on_before_download")(_baked_in)
    monkeypatch.setenv(DISABLE, "_baked_in")
    assert "download n0 MODEL_AND_TOKENIZER" in start(hooks).cluster.calls


def _baked_in(ctx: CallbackCtx) -> Any:
    return skip("baked in")


def test_a_method_of_a_class_is_turned_off_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        def on_before_init(self, ctx: CallbackCtx) -> None: ...

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    monkeypatch.setenv(DISABLE, "*:*Two.on_after_init")
    assert [event.outcome for event in start(config=FullConfig(callback=Two)).ctx.trace] == ["ok", "disabled"]


def test_the_log_names_what_is_off_and_what_names_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DISABLE, "choose, ours:mount, warmup, of_another_model")
    with caplog.at_level(logging.INFO, "serve_llm_hooks"):
        start(many(), cluster=StubCluster(nodes=("n0",)))
    said = [record.getMessage() for record in caplog.records if DISABLE in record.getMessage()]
    turned_off = (
        f"model 'm': {DISABLE}='choose, ours:mount, warmup, of_another_model' turns off 2 of its hooks, which do not "
        "run: ours:choose at on_before_download, ours:mount at on_before_node_download"
    )
    assert said == [
        turned_off,
        "model 'm': 'warmup' in SERVE_LLM_HOOKS_DISABLE is no hook of this model (did you mean 'warm_up'?)",
        "model 'm': 'of_another_model' in SERVE_LLM_HOOKS_DISABLE is no hook of this model",
    ]
    assert [record.levelname for record in caplog.records if record.getMessage() in said] == [
        "WARNING",
        "WARNING",
        "INFO",
    ]


def test_one_start_has_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = many()

    @hooks.hook("on_before_init", order=-1)
    def changes_its_mind(ctx: CallbackCtx) -> None:
        monkeypatch.setenv(DISABLE, "choose, mount")

    monkeypatch.delenv(DISABLE, raising=False)
    assert all(event.ran for event in start(hooks).ctx.trace)
    assert not all(event.ran for event in start(many()).ctx.trace), "the next start has the next answer"
