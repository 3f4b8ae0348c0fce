"""Weights that come late: what a node leaves to the background, and which models must have them at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import DownloadMode, HookRegistry, NodeCtx, skip
from serve_llm_hooks._node.late_weights import why_needed_first
from serve_llm_hooks._node.work import run_task
from tests.unit.stub import MIRROR, node_task

if TYPE_CHECKING:
    from pathlib import Path

    from serve_llm_hooks import Skip
    from serve_llm_hooks._node.task import NodeReport, NodeTask

UNTIED = {"tie_word_embeddings": False}
LLAMA = {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", **UNTIED}
TIED = {**LLAMA, "tie_word_embeddings": True}


class Node:
    """A node whose downloads are written down, and go to a folder."""

    def __init__(self, path: str = "/downloaded/m") -> None:
        self.path = path
        self.downloads: list[tuple[str, str, str | None]] = []

    async def _download(self, task: NodeTask, mode: DownloadMode) -> str | None:
        self.downloads.append((task.weights, mode.name, task.model_path))
        return self.path

    def run(self, hooks: HookRegistry | None = None, **fields: Any) -> NodeReport:
        """Do a node's work."""
        defaults = {"mirror": MIRROR, "download_model": DownloadMode.MODEL_AND_TOKENIZER, "weights": "late"}
        return asyncio.run(run_task(node_task(hooks or (), **{**defaults, **fields}), self._download))


def test_a_node_leaves_the_weights_to_the_background() -> None:
    node = Node()
    report = node.run()
    assert node.downloads == [("late", "MODEL_AND_TOKENIZER", None)]
    assert (report.weights_due, report.path, report.download_model.name) == (
        True,
        "/downloaded/m",
        "MODEL_AND_TOKENIZER",
    )


def test_the_background_downloads_them_to_where_the_rest_is() -> None:
    node = Node()
    report = node.run(weights="only", in_background=True, model_path="/models/m/snapshots/1")
    assert node.downloads == [("only", "MODEL_AND_TOKENIZER", "/models/m/snapshots/1")]
    assert (report.weights_due, report.failure) == (False, None)


@pytest.mark.parametrize("mode", ["TOKENIZER_ONLY", "EXCLUDE_SAFETENSORS", "NONE"])
def test_a_hook_that_chooses_other_files_gets_those_and_no_weights(mode: Any) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    def choose(ctx: NodeCtx) -> None:
        ctx.download_model = DownloadMode[mode]

    node = Node()
    assert not node.run(hooks).weights_due
    assert [weights for weights, _, _ in node.downloads] == ([] if mode == "NONE" else ["first"])


def test_a_veto_leaves_out_the_weights_too() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    def mounted(ctx: NodeCtx) -> Skip:
        return skip("mounted")

    node = Node()
    assert not node.run(hooks).weights_due
    assert node.downloads == []


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (LLAMA, ""),
        ({"torch_dtype": "float16", **UNTIED}, ""),
        ({"text_config": {"dtype": "bfloat16"}, **UNTIED}, ""),
        ({**LLAMA, "quantization_config": {"quant_method": "fp8"}}, ""),
        ({**LLAMA, "quantization_config": {"quant_method": "gptq"}}, "it is quantized by gptq"),
        ({**LLAMA, "quantization_config": {"quant_method": "AWQ"}}, "it is quantized by awq"),
        ({**LLAMA, "quantization_config": None}, ""),
        ({"dtype": None}, "its config.json names no dtype"),
        (TIED, "its config.json ties the word embeddings, which its weights may not"),
        ({"dtype": "bfloat16"}, "its config.json ties the word embeddings, which its weights may not"),
        ([], "its config.json holds no mapping"),
    ],
)
def test_some_models_are_looked_into_when_the_config_is_built(config: Any, why: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert why_needed_first(str(tmp_path)) == why


@pytest.mark.parametrize(
    ("index", "late"),
    [
        ({"weight_map": {"model.norm.weight": "model-1.safetensors"}}, True),
        ({"weight_map": {"lm_head.weight": "model-1.safetensors"}}, False),
        ({"weight_map": {}}, False),
        ({}, False),
        ([], False),
    ],
)
def test_an_index_says_whether_the_word_embeddings_are_tied(index: Any, late: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TIED))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (why_needed_first(str(tmp_path)) == "") == late


def test_a_folder_without_a_config_is_looked_into(tmp_path: Path) -> None:
    assert why_needed_first(str(tmp_path)) == "it has no config.json that can be read"
    assert why_needed_first(None) == why_needed_first("/there/is/no/such/folder") == ""


def test_such_a_model_has_its_weights_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    node = Node(str(tmp_path))
    report = node.run()
    assert [(weights, path) for weights, _, path in node.downloads] == [("late", None), ("only", str(tmp_path))]
    assert not report.weights_due
    assert "its weights are not late on node n0, since it is quantized by awq" in caplog.text
