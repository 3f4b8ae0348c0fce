"""A hook that ran once runs for ever: see ``corpus/README.md``."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from serve_llm_hooks import HookError, load_hooks
from tests.unit.stub import Config, StubCluster, start

CORPUS = "tests.unit.corpus"


@pytest.mark.parametrize("file", sorted((Path(__file__).parent / "corpus").glob("v*.py")), ids=lambda file: file.stem)
def test_every_module_of_the_corpus_loads_by_name_and_by_path(file: Path) -> None:
    assert len(load_hooks(f"{CORPUS}.{file.stem}")) == len(load_hooks(str(file)))


def test_first_hooks() -> None:
    started = start(config=Config("m", [f"{CORPUS}.v0_1_first_hooks"]))
    ctx = started.ctx
    assert started.names == ["set_up", "choose_files", *["make_room", "check"] * 3, "see", "tune", "warm_up", "done"]
    assert sorted(call for call in started.cluster.calls if call.startswith("download")) == [
        "download n0 MODEL_AND_TOKENIZER",
        "download n1 TOKENIZER_ONLY",
        "download n2 TOKENIZER_ONLY",
    ]
    assert ctx.custom_data.pop("seconds") > 0
    assert ctx.custom_data == {"started_for": "m", "freed_gb": 9, "engine": "the engine"}
    assert ctx.nodes["n2"].custom_data == {"started_for": "m", "freed_gb": 3, "checked": "/models/m"}
    assert started.output.extra_init_kwargs == {"max_model_len": 4096}


def test_typed_hooks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    look_up = {"hook": f"{CORPUS}.v0_1_typed_hooks:look_up", "kwargs": {"region": "us"}}
    started = start(config=Config("meta-llama/Llama-3", [f"{CORPUS}.v0_1_typed_hooks", look_up]))
    assert started.names == [
        *["look_up", "announce", "leave_weights"],
        *["baked", "unpack", "clean"] * 3,
        "report",
    ]
    assert started.ctx.custom_data == {"bucket": "s3://models-us/meta-llama/Llama-3", "outcome": "started"}
    assert [one.skipped for one in started.ctx.nodes.values()] == [None, "the image has it", "the image has it"]
    assert started.ctx.nodes["n1"].custom_data["notes"] == ["unpacked", "cleaned"]
    assert "download n0 EXCLUDE_SAFETENSORS" in started.cluster.calls
    (warning,) = caplog.messages
    assert "ConnectionError: no metrics server for s3://models-us/meta-llama/Llama-3" in warning


def test_typed_hooks_for_another_model_and_a_wrong_region() -> None:
    hooks = [f"{CORPUS}.v0_1_typed_hooks"]
    assert "leave_weights" not in start(config=Config("gemma", hooks)).names
    with pytest.raises(HookError, match="ValueError: mars"):
        start(config=Config("gemma", [*hooks, {"hook": f"{hooks[0]}:look_up", "kwargs": {"region": "mars"}}]))


def test_take_over() -> None:
    cluster = StubCluster()
    started = start(config=Config("baked-m", [f"{CORPUS}.v0_1_take_over"]), cluster=cluster)
    assert started.names == ["no_defaults", "take_over", "tune"]
    assert cluster.calls == ["configure /baked by a hook", "engine"]
    assert started.output.placement_group == ("n5",)
    assert started.output.runtime_env == {"env_vars": {"HF_HUB_OFFLINE": "1"}}
    assert started.output.extra_init_kwargs == {"enforce_eager": True}
