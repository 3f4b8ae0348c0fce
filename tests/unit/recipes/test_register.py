"""Architectures and parsers in every process of the engine; the engine test has a real vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import HookError
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

PROCESSES = ["frontend", "config", "core", "worker-0", "worker-1"]


def start(name: str, /, **kwargs: Any) -> Any:
    entry = {"hook": f"serve_llm_hooks.recipes:{name}", "kwargs": kwargs}
    return FakeCluster().run(FakeLLMConfig("m", hooks=[entry], engine_kwargs={"tensor_parallel_size": 2}))


@pytest.mark.parametrize(
    ("name", "kwargs", "registered", "chosen"),
    [
        ("RegisterModel", {"arch": "Our", "path": "our_classes:OurModel"}, ("Our", "our_classes:OurModel"), {}),
        (
            "RegisterToolParser",
            {"path": "our_classes:OurTools"},
            ("OurTools", "OurTools"),
            {"tool_call_parser": "OurTools", "enable_auto_tool_choice": True},
        ),
        ("RegisterToolParser", {"path": "our_classes:OurTools", "use": False}, ("OurTools", "OurTools"), {}),
        (
            "RegisterReasoningParser",
            {"path": "our_classes:OurThoughts", "name": "ours"},
            ("ours", "OurThoughts"),
            {"reasoning_parser": "ours"},
        ),
    ],
)
def test_it_is_registered_in_each_process(
    vllm: Any, name: str, kwargs: dict[str, Any], registered: tuple[str, str], chosen: dict[str, Any]
) -> None:
    run = start(name, **kwargs)
    assert vllm.registered == [registered] * len(PROCESSES)
    assert [event.process for event in run.trace if event.process] == PROCESSES
    assert {**run.engine.kwargs, **run.engine.frontend_kwargs} == {"tensor_parallel_size": 2, **chosen}


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(
    ("name", "kwargs", "told"),
    [
        (
            "RegisterModel",
            {"arch": "A", "path": "no_such.model:A"},
            "there is no module 'no_such.model' in this process",
        ),
        ("RegisterToolParser", {"path": "no_such:A"}, "there is no module 'no_such' in this process"),
        ("RegisterToolParser", {"path": "our_classes:A"}, "our_classes has no A"),
        (
            "RegisterToolParser",
            {"path": "our_classes:OurModel"},
            "our_classes:OurModel is no subclass of vllm.*Tool",
        ),
        (
            "RegisterReasoningParser",
            {"path": "our_classes:OurTools"},
            "our_classes:OurTools is no subclass of vllm.*Reas",
        ),
    ],
)
def test_what_is_not_there_is_told_with_the_process(name: str, kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(HookError, match=told) as caught:
        start(name, **kwargs)
    assert caught.value.process == "frontend"
