"""Phase functions in a start."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackRunner,
    DownloadMode,
    HookError,
    HookLoadError,
    HookResultError,
    HookSignatureError,
    NodeResult,
    hook,
)
from serve_llm_hooks._core.messages import without_value
from serve_llm_hooks._core.points import PHASES
from tests.unit.phase_callbacks import Counts, phases
from tests.unit.stub import FullConfig, Started, StubCluster, start

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx

    WriteModule = Callable[[str, str], Path]
    Data = MutableMapping[str, Any]

HERE, THERE = __name__, Counts.__module__
IN_A_GOOD_START = [phase for phase in PHASES if phase != "custom_initialization"]
SKIPPED = ["pre_initialization", "custom_initialization", *PHASES[PHASES.index("pre_engine_init") :]]
"""Those of a start whose defaults are skipped."""


def run(*callbacks: Any, cluster: StubCluster | None = None, hooks: Any = ()) -> Started:
    return start(config=FullConfig(hooks=hooks, callbacks=list(callbacks)), cluster=cluster)


def at(wanted: str, do: Callable[[Data], Any]) -> Callable[[str, Any, Data], Any]:
    """A callback that does one thing at one phase."""

    def callback(phase: str, config: Any, data: Data) -> Any:
        return do(data) if phase == wanted else None

    return callback


def cause(*callbacks: Any, kind: type[HookError] = HookError) -> str:
    """Return what a start fails with."""
    with pytest.raises(kind) as caught:
        run(*callbacks)
    return str(caught.value)


# -- phases ---------------------------------------------------------------------------------------------------------


def test_the_phases() -> None:
    seen: list[str] = []

    def callback(phase: str, config: Any, data: Data) -> None:
        assert config.model_id == "m"
        seen.append(phase)

    run(callback)
    assert seen == IN_A_GOOD_START
    assert seen == [  # what Ray Serve LLM's users know
        *["pre_initialization", "pre_download", "post_download", "post_placement_group"],
        *["pre_engine_init", "post_engine_init", "post_initialization"],
    ]


@pytest.mark.parametrize("callback", [phases, f"{THERE}:phases", f"{THERE}.phases"])
def test_async_and_by_path(callback: Any) -> None:
    started = run(callback)
    assert started.ctx.custom_data["phases"] == IN_A_GOOD_START
    assert started.ctx.trace.events[0].hook == f"{THERE}:phases"


def test_an_object_keeps_its_state_and_a_class_is_made_once_per_run() -> None:
    mine = Counts()
    assert run(mine).ctx.custom_data == {"calls": len(IN_A_GOOD_START)}
    assert mine.calls == len(IN_A_GOOD_START)
    config = FullConfig(callbacks=[Counts])
    assert [start(config=config).ctx.custom_data["calls"] for _ in range(2)] == [len(IN_A_GOOD_START)] * 2
    assert run(f"{THERE}:Counts").ctx.custom_data == {"calls": len(IN_A_GOOD_START)}


def test_none_and_twice() -> None:
    assert start(config=FullConfig(callbacks=None)).names == []
    assert run(phases, phases, f"{THERE}:phases").names == ["phases"] * len(IN_A_GOOD_START)


def test_partials_are_called_by_their_function_name() -> None:
    def callback(phase: str, config: Any, data: Data, *, to: str) -> None:
        data["to"] = to

    assert set(run(functools.partial(callback, to="there")).names) == {"callback"}


# -- data -----------------------------------------------------------------------------------------------------------


def test_what_is_in_data_and_what_changes_it() -> None:
    snapshots: dict[str, dict[str, Any]] = {}

    def look(phase: str, config: Any, data: Data) -> None:
        snapshots[phase] = dict(data)

    def change(phase: str, config: Any, data: Data) -> dict[str, Any] | None:
        if phase == "pre_initialization":
            data["local_node_download_model"] = "NONE"
            return {"worker_node_download_model": "TOKENIZER_ONLY", "runtime_env": {}, "mine": 1}
        if phase == "post_placement_group":
            data["placement_group"] = ("n0",)
        if phase == "pre_engine_init":
            data["model_path"] = "/elsewhere"
            data["extra_init_kwargs"]["enforce_eager"] = True
            return {"extra_init_kwargs": {"max_model_len": 128}}
        return None

    started = run(change, look)
    first, last = snapshots["pre_initialization"], snapshots["post_initialization"]
    assert set(first) == {
        *["local_node_download_model", "worker_node_download_model", "placement_group", "runtime_env"],
        *["extra_init_kwargs", "model_path", "run_init_node", "custom_data", "nodes", "engine", "error"],
        *["download_result", "skip_default", "mine"],
    }
    assert first["local_node_download_model"] is DownloadMode.NONE
    assert first["worker_node_download_model"] is DownloadMode.TOKENIZER_ONLY
    assert first["skip_default"] is False
    assert first["download_result"] is None
    assert isinstance(last["download_result"], NodeResult)
    assert last["download_result"].is_local
    assert last["engine"] == "the engine"
    assert last["custom_data"] == {"mine": 1}
    assert started.output.placement_group == ("n0",)
    assert started.output.extra_init_kwargs == {"enforce_eager": True, "max_model_len": 128}
    assert started.ctx.model_path == "/elsewhere"


def test_data_is_a_mapping_live_over_ctx() -> None:
    def check(data: Data) -> None:
        data["mine"] = 1
        assert data["custom_data"] == {"mine": 1}
        data["custom_data"]["yours"] = 2
        assert data["yours"] == 2
        assert list(data)[-2:] == ["mine", "yours"]
        assert len(data) == 15
        assert "mine" in data
        assert repr(data).startswith("<PhaseData at pre_initialization: local_node_download_model, ")
        assert data.pop("mine") == 1
        del data["yours"]
        assert "mine" not in data
        assert data.get("yours", "none") == "none"
        assert data.setdefault("list", []) is data["list"]
        with pytest.raises(KeyError, match="no_such"):
            data["no_such"]
        with pytest.raises(KeyError, match=r"data\['placement_group'\] cannot be deleted; assign None"):
            del data["placement_group"]
        with pytest.raises(KeyError, match=r"data\['skip_default'\] cannot be deleted"):
            del data["skip_default"]

    assert run(at("pre_initialization", check)).ctx.custom_data == {"list": []}


def test_hooks_and_phase_functions_see_the_same() -> None:
    @hook("on_before_init")
    def function(ctx: CallbackCtx) -> None:
        ctx.custom_data["from the hook"] = ctx.custom_data["from the callback"] + 1

    def last(data: Data) -> None:
        assert data["from the hook"] == 2

    run(at("pre_initialization", lambda data: {"from the callback": 1}), at("pre_download", last), hooks=[function])


def test_returning_data_itself_or_all_of_it_changes_nothing() -> None:
    def itself(phase: str, config: Any, data: Data) -> Data:
        data["a"] = 1
        return data

    def all_of_it(phase: str, config: Any, data: Data) -> dict[str, Any]:
        return {**data, "b": 2}

    assert run(itself, all_of_it).ctx.custom_data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("phase", "do", "says"),
    [
        ("pre_download", lambda d: {"worker_node_download_model": "ALL"}, "ValueError: ctx.worker_node_download_model"),
        ("pre_download", lambda d: {"runtime_env": 3}, "ctx.runtime_env is a dict with string keys, not an int"),
        ("pre_download", lambda d: {"extra_init_kwargs": 3}, "TypeError: ctx.extra_init_kwargs is a dict"),
        ("pre_download", lambda d: d.update({3: 4}), "TypeError: the keys of data are strings, not 3"),
        ("pre_download", lambda d: {"nodes": {}}, "AttributeError: ctx.nodes is read-only"),
        ("pre_download", lambda d: {"download_result": "/m"}, "data['download_result'] is read-only"),
        ("post_engine_init", lambda d: {"extra_init_kwargs": {"a": 1}}, "cannot be changed any more"),
        ("post_initialization", lambda d: {"model_path": "/m"}, "on_before_engine_init is the last point"),
    ],
)
def test_what_is_wrong_is_told_at_the_assignment(phase: str, do: Callable[[Data], Any], says: str) -> None:
    message = cause(at(phase, do))
    assert "at.<locals>.callback failed at " in message
    assert says in message


@pytest.mark.parametrize("returned", [[("a", 1)], "text", True, 0])
def test_what_is_returned_is_a_dict_or_none(returned: object) -> None:
    message = cause(at("pre_download", lambda data: returned), kind=HookResultError)
    assert message.endswith(
        f"failed at on_before_download (phase pre_download) for model 'm': it returned "
        f"{without_value(returned)}; a phase callback returns a dict to merge into data, or None"
    )


# -- skip_default ---------------------------------------------------------------------------------------------------


def sets_it(data: Data) -> None:
    data["skip_default"] = True


@pytest.mark.parametrize("do", [sets_it, lambda data: {"skip_default": True}])
def test_skip_default_skips_the_defaults(do: Callable[[Data], Any]) -> None:
    phases: dict[str, bool] = {}

    def look(phase: str, config: Any, data: Data) -> None:
        phases[phase] = data["skip_default"]

    def take_over(data: Data) -> dict[str, Any]:
        return {"placement_group": ("n2",), "runtime_env": {"env_vars": {}}}

    cluster = StubCluster()
    started = run(at("pre_initialization", do), at("custom_initialization", take_over), look, cluster=cluster)
    assert phases == dict.fromkeys(SKIPPED, True)
    assert cluster.calls == ["configure None", "engine"]
    assert started.output.placement_group == ("n2",)
    vetoes = [(event.hook, event.detail) for event in started.ctx.trace if event.outcome == "vetoed"]
    assert vetoes == [(f"{HERE}:at.<locals>.callback", "at.<locals>.callback set skip_default")]


def test_skip_default_says_so_when_a_hook_has_vetoed() -> None:
    phases: dict[str, bool] = {}

    def look(phase: str, config: Any, data: Data) -> None:
        phases[phase] = data["skip_default"]

    @hook("on_before_init", order=1)
    def no(ctx: CallbackCtx) -> bool:
        return False

    run(look, hooks=[no])
    assert phases == {**dict.fromkeys(SKIPPED, True), "pre_initialization": False}


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in SKIPPED[:2]])
def test_skip_default_too_late(phase: str) -> None:
    assert (
        "data['skip_default'] = True comes too late: whether the defaults are skipped is decided at "
        "pre_initialization, so set it `if phase == 'pre_initialization'`"
    ) in cause(at(phase, sets_it))


def test_skip_default_in_a_data_that_was_kept() -> None:
    kept: list[Data] = []

    def callback(phase: str, config: Any, data: Data) -> None:
        kept.append(data)
        if phase == "pre_engine_init":
            kept[0]["skip_default"] = True

    assert "comes too late" in cause(callback)


def test_skip_default_is_not_taken_back_by_another() -> None:
    message = cause(at("pre_initialization", sets_it), at("pre_initialization", lambda data: {"skip_default": False}))
    assert "another callback has set it to True, which cannot be taken back" in message


def test_skip_default_may_be_taken_back_by_itself_and_repeated_by_others() -> None:
    def unsure(data: Data) -> dict[str, Any]:
        data["skip_default"] = True
        return {"skip_default": False}

    assert len(run(at("pre_initialization", unsure)).names) == len(IN_A_GOOD_START)
    vetoes = run(at("pre_initialization", sets_it), at("pre_initialization", sets_it)).ctx.trace
    assert [event.outcome for event in vetoes][:2] == ["vetoed", "ok"]


def test_skip_default_of_one_that_then_fails_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    def fails(data: Data) -> None:
        data["skip_default"] = True
        raise OSError("later")

    started = run(at("pre_initialization", fails), phases, cluster=StubCluster(on_error="warn"))
    assert "pre_download" in started.ctx.custom_data["phases"]


def test_skip_default_is_a_bool() -> None:
    assert "data['skip_default'] is True or False, not 'yes'" in cause(
        at("pre_initialization", lambda data: {"skip_default": "yes"})
    )


# -- wrong callbacks ------------------------------------------------------------------------------------------------


class NoCall:
    def on_after_init(self, ctx: CallbackCtx) -> None: ...


class NeedsSomething:
    def __init__(self, bucket: str) -> None: ...

    def __call__(self, phase: str, config: Any, data: Data) -> None: ...


class WrongCall:
    def __call__(self, phase: str) -> None: ...


def two(phase: str, config: Any) -> None: ...


@pytest.mark.parametrize("make", [lambda given: FullConfig(callbacks=given).callback_hooks(), CallbackRunner])
@pytest.mark.parametrize(
    ("callbacks", "error", "says"),
    [
        (["no_path"], ValueError, "'no_path' is no path of a callback: write 'pkg.mod:name' or 'pkg.mod.name'"),
        ([3], TypeError, "a callback is a callable or its path ('pkg.mod:name'), not 3"),
        (["os"], ValueError, "'os' is no path of a callback"),
        (["os:path"], TypeError, "callback 'os:path' names a module: write 'os.path:name', with the name in it"),
        ("pkg.mod:fn", HookLoadError, "callbacks= is a list, as in callbacks=['pkg.mod:fn'], not 'pkg.mod:fn'"),
        (len, HookLoadError, "callbacks= is a list, as in callbacks=['pkg.mod:fn'], not the function builtins:len"),
        ([two], HookSignatureError, "two(phase, config) in callbacks=[...] does not fit (too"),
        ([WrongCall], HookSignatureError, "WrongCall(phase) in callbacks=[...] does not fit (too m"),
        ([WrongCall()], HookSignatureError, "a phase callback is `def callback(phase, config, data)`"),
        ([NoCall], HookSignatureError, "A class with methods `on_...` goes into callback=..."),
        ([NoCall()], TypeError, "a callback is a callable or its path"),
        ([NeedsSomething], HookSignatureError, "cannot be made with the arguments={}: missing a required argument"),
    ],
)
def test_what_cannot_be_a_callback(make: Any, callbacks: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        make(callbacks)
    assert says in str(caught.value)
