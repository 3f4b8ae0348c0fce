"""``weights="late"``: where it is refused, with the line to change."""

from __future__ import annotations

import re
from typing import Any

import pytest

from serve_llm_hooks import HookLoadError, initialize_node
from serve_llm_hooks._sources.weights import check_weights
from serve_llm_hooks_testing import FakeLLMConfig
from tests.unit.stub import StubCluster, run

GOOD: dict[str, Any] = {"model_id": "m", "has_bucket": True, "streaming_format": None}


def test_it_is_off_by_default_and_fits_a_model_in_a_bucket() -> None:
    check_weights(None, model_id="m", has_bucket=False, streaming_format="runai_streamer")
    check_weights("late", **GOOD)
    assert FakeLLMConfig("m", hooks=[]).weights is None
    assert FakeLLMConfig("m", hooks=[], weights="late").weights == "late"


@pytest.mark.parametrize(
    ("value", "fields", "says"),
    [
        ("soon", {}, "weights= is 'late', or left out, not 'soon'"),
        (True, {}, "weights= is 'late', or left out, not True"),
        ("late", {"has_bucket": False}, "or give the bucket: model_source='s3://...' in model_loading_config."),
        ("late", {"streaming_format": "tensorizer"}, "load_format='tensorizer' streams the weights, so Ray downloads"),
        ("late", {"streaming_format": "tensorizer"}, "Leave out weights=, or leave out load_format=."),
        ("late", {"is_vllm": False}, "Leave out weights=, or leave out server_cls=."),
    ],
)
def test_it_is_refused_with_the_line_to_change(value: object, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        check_weights(value, **{**GOOD, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"model_source": "org/model"},
        {"model_source": None},
        {"model_source": {"extra_files": []}},
        {"engine_kwargs": {"load_format": "runai_streamer"}},
        {"weights": "soon"},
    ],
)
def test_a_fake_config_refuses_what_a_real_one_does(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="weights"):
        FakeLLMConfig("m", hooks=[], **{"weights": "late", **fields})


def test_plugins_that_leave_ours_out_are_refused() -> None:
    environment = {"env_vars": {"VLLM_PLUGINS": "others"}}
    with pytest.raises(HookLoadError, match="leaves out 'serve_llm_hooks'"):
        FakeLLMConfig("m", hooks=[], weights="late", runtime_env=environment)


def test_without_an_engine_nobody_would_wait() -> None:
    with pytest.raises(HookLoadError, match=r"weights='late' of model 'm': initialize_node\(\) starts no engine here"):
        run(initialize_node(FakeLLMConfig("m", hooks=[], weights="late"), cluster=StubCluster()))


def test_a_hook_that_brings_the_weights_itself_makes_it_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    fetch = {"hook": "serve_llm_hooks.recipes:FetchModel", "kwargs": {"src": "s3://models/m"}}
    FakeLLMConfig("m", hooks=[fetch])
    assert caplog.messages == []
    FakeLLMConfig("m", hooks=[fetch], weights="late")
    assert caplog.messages == [
        "model 'm': weights='late' has no effect beside FetchModel, as Ray downloads none of them: leave out weights="
    ]
