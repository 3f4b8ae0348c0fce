"""What hooks are given checks what they do with it, where they do it."""

from __future__ import annotations

import copy
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, DownloadMode, InitializeNodeOutput, NodeCtx, NodeResult, Skip, Trace, skip
from serve_llm_hooks._core.context import set_read_only


class RaysMode(Enum):
    """Ray's enum has the four names, and values of its own."""

    MODEL_AND_TOKENIZER = 1
    TOKENIZER_ONLY = 2
    EVERYTHING = 3


def any_ctx(kind: type) -> Any:
    """A context that checkers do not look at: the tests assign what they would refuse."""
    return kind()


# -- a ctx can be built by a test ---------------------------------------------------------------------------------


def test_a_callback_ctx_needs_only_a_config() -> None:
    ctx = CallbackCtx(llm_config=SimpleNamespace(model_id="m"))
    assert ctx.model_id == "m"
    assert ctx.worker_node_download_model is DownloadMode.MODEL_AND_TOKENIZER
    assert ctx.local_node_download_model is None
    assert ctx.placement_group is None
    assert ctx.runtime_env is None
    assert ctx.extra_init_kwargs == {}
    assert ctx.model_path is None
    assert ctx.custom_data == {}
    assert ctx.run_init_node is True
    assert dict(ctx.nodes) == {}
    assert ctx.engine is None
    assert ctx.error is None
    assert isinstance(ctx.trace, Trace)


def test_two_contexts_share_nothing() -> None:
    first, second = CallbackCtx(), CallbackCtx()
    first.custom_data["a"] = 1
    first.extra_init_kwargs["b"] = 2
    assert second.custom_data == {}
    assert second.extra_init_kwargs == {}
    assert first != second


def test_a_config_without_a_model_id_has_an_empty_one() -> None:
    assert CallbackCtx(llm_config=None).model_id == ""


def test_a_node_ctx_loads_the_config_when_first_asked_and_once() -> None:
    loads: list[str] = []

    def load() -> str:
        loads.append("load")
        return "the config"

    ctx = NodeCtx(model_id="m", node_id="n1", load_llm_config=load)
    assert loads == []
    assert ctx.llm_config == "the config"
    assert ctx.llm_config == "the config"
    assert loads == ["load"]


def test_a_node_ctx_without_a_config_has_none() -> None:
    assert NodeCtx(model_id="m").llm_config is None


def test_the_output_has_defaults() -> None:
    assert InitializeNodeOutput() == InitializeNodeOutput(None, None, {})


# -- download modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [DownloadMode.TOKENIZER_ONLY, "TOKENIZER_ONLY", RaysMode.TOKENIZER_ONLY])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CallbackCtx, "worker_node_download_model"),
        (CallbackCtx, "local_node_download_model"),
        (NodeCtx, "download_model"),
    ],
)
def test_a_mode_is_written_in_three_ways_and_read_in_one(kind: type, name: str, value: object) -> None:
    ctx = any_ctx(kind)
    setattr(ctx, name, value)
    assert getattr(ctx, name) is DownloadMode.TOKENIZER_ONLY
    assert getattr(kind(**{name: value}), name) is DownloadMode.TOKENIZER_ONLY


def test_only_the_local_mode_may_be_unset() -> None:
    ctx = any_ctx(CallbackCtx)
    ctx.local_node_download_model = "NONE"
    ctx.local_node_download_model = None
    assert ctx.local_node_download_model is None
    with pytest.raises(ValueError, match="None is no download mode"):
        ctx.worker_node_download_model = None


def test_a_wrong_mode_fails_at_the_assignment_with_the_four_names() -> None:
    ctx = any_ctx(CallbackCtx)
    with pytest.raises(ValueError) as caught:
        ctx.worker_node_download_model = "ALL"
    assert str(caught.value) == (
        "ctx.worker_node_download_model = 'ALL': 'ALL' is no download mode "
        "(one of MODEL_AND_TOKENIZER, TOKENIZER_ONLY, EXCLUDE_SAFETENSORS, NONE)"
    )
    assert ctx.worker_node_download_model is DownloadMode.MODEL_AND_TOKENIZER


def test_a_wrong_mode_that_is_near_one_is_told_which() -> None:
    ctx = any_ctx(NodeCtx)
    with pytest.raises(ValueError, match=r"'tokenizer_only' is no download mode \(did you mean 'TOKENIZER_ONLY'"):
        ctx.download_model = "tokenizer_only"


@pytest.mark.parametrize("value", [3, RaysMode.EVERYTHING, SimpleNamespace(name=3)])
def test_what_is_no_mode_at_all(value: object) -> None:
    with pytest.raises(ValueError, match="is no download mode"):
        DownloadMode.of(value)


def test_none_is_the_mode_that_is_false() -> None:
    assert [mode for mode in DownloadMode if not mode] == [DownloadMode.NONE]


def test_read_from_the_class_a_mode_is_its_default() -> None:
    assert CallbackCtx.worker_node_download_model is DownloadMode.MODEL_AND_TOKENIZER
    assert CallbackCtx.local_node_download_model is None


# -- assignments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llm_config", "nodes", "engine", "error", "trace", "model_id"])
def test_the_replicas_read_only_fields(name: str) -> None:
    ctx = any_ctx(CallbackCtx)
    with pytest.raises(AttributeError) as caught:
        setattr(ctx, name, None)
    assert str(caught.value) == f"ctx.{name} is read-only"


@pytest.mark.parametrize("name", ["model_id", "node_id", "is_local", "llm_config", "load_llm_config"])
def test_a_nodes_read_only_fields(name: str) -> None:
    ctx = any_ctx(NodeCtx)
    with pytest.raises(AttributeError) as caught:
        setattr(ctx, name, None)
    assert str(caught.value) == f"ctx.{name} is read-only"


def test_nodes_cannot_be_changed_by_key_either() -> None:
    ctx = any_ctx(CallbackCtx)
    with pytest.raises(TypeError, match="does not support item assignment"):
        ctx.nodes["n1"] = NodeResult("n1")


def test_a_misspelt_field() -> None:
    ctx = any_ctx(CallbackCtx)
    with pytest.raises(AttributeError) as caught:
        ctx.extra_kwargs = {}
    assert str(caught.value) == (
        "CallbackCtx has no field 'extra_kwargs' (did you mean 'extra_init_kwargs'?). "
        "What hooks keep for each other goes into ctx.custom_data['extra_kwargs']."
    )


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (CallbackCtx, "extra_kwargs", " (did you mean 'extra_init_kwargs'?)"),
        (CallbackCtx, "modelid", " (did you mean 'model_id'?)"),  # a property
        (NodeCtx, "node", " (did you mean 'node_id'?)"),
        (NodeCtx, "lm_config", " (did you mean 'llm_config'?)"),
        (CallbackCtx, "weather", ""),
    ],
)
def test_a_misspelt_field_that_is_read(kind: type[CallbackCtx | NodeCtx], name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(any_ctx(kind), name)
    assert str(caught.value) == (
        f"{kind.__name__} has no field {name!r}{hint}. What hooks keep for each other is in ctx.custom_data."
    )
    assert not hasattr(any_ctx(kind), name)
    assert getattr(any_ctx(kind), name, 1) == 1


def test_an_error_inside_a_property_stays_what_it_was() -> None:
    def load() -> object:
        raise AttributeError("module 'pydantic' has no attribute 'x'")

    with pytest.raises(AttributeError, match=r"^module 'pydantic' has no attribute 'x'$"):
        _ = NodeCtx(load_llm_config=load).llm_config


def test_a_context_can_be_copied() -> None:
    ctx = CallbackCtx(llm_config=None, custom_data={"kept": [1]})
    assert copy.copy(ctx).custom_data is ctx.custom_data
    assert copy.deepcopy(NodeCtx(custom_data={"kept": [1]})).custom_data == {"kept": [1]}


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (CallbackCtx, "custom_data", [1], r"ctx\.custom_data is a dict with string keys, not a list"),
        (CallbackCtx, "custom_data", {1: 2}, r"ctx\.custom_data is a dict with string keys, not one with the key 1"),
        (CallbackCtx, "extra_init_kwargs", None, r"ctx\.extra_init_kwargs is a dict with string keys, not None"),
        (CallbackCtx, "runtime_env", "env", r"ctx\.runtime_env is a dict with string keys, not a str"),
        (CallbackCtx, "run_init_node", "no", r"ctx\.run_init_node is True or False, not 'no'"),
        (CallbackCtx, "model_path", 3, r"ctx\.model_path is a path \(str or os\.PathLike\) or None, not 3"),
        (NodeCtx, "custom_data", None, r"ctx\.custom_data is a dict with string keys, not None"),
        (NodeCtx, "model_path", b"/m", r"ctx\.model_path is a path \(str or os\.PathLike\) or None, not bytes"),
    ],
)
def test_a_value_of_the_wrong_kind_fails_at_the_assignment(kind: type, name: str, value: object, message: str) -> None:
    ctx = any_ctx(kind)
    with pytest.raises(TypeError, match=message):
        setattr(ctx, name, value)


def test_values_of_the_right_kind() -> None:
    ctx = any_ctx(CallbackCtx)
    ctx.runtime_env = {"env_vars": {}}
    ctx.runtime_env = None
    ctx.run_init_node = False
    ctx.model_path = Path("/models/m")
    assert ctx.model_path == "/models/m"
    ctx.model_path = None
    assert ctx.model_path is None
    ctx.placement_group = object()
    ctx.custom_data = {"a": 1}
    assert ctx.custom_data == {"a": 1}


def test_initialize_and_the_harness_may_set_what_hooks_may_not() -> None:
    ctx = CallbackCtx()
    set_read_only(ctx, engine="the engine")
    assert ctx.engine == "the engine"


def test_skip_carries_its_reason() -> None:
    assert skip("baked into the image") == Skip("baked into the image")
