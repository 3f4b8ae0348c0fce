"""The deployment without code of one's own that README shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore
from tests.docs_blocks import ROOT, blocks_of

if TYPE_CHECKING:
    import pytest

    from .conftest import Webhook


def test_it_starts_warm_from_what_is_fetched_and_a_store_stands_for_the_webhook(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK", webhook.url)
    caplog.set_level("INFO")
    [block] = [block for block in blocks_of(ROOT / "README.md", "yaml") if "serve_llm_hooks.recipes" in block.text]
    [application] = yaml.safe_load(block.text)["applications"]
    [fields] = application["args"]["llm_configs"]
    model = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}
    with FakeStore({f"s3://models/llama-3-8b/{name}": content for name, content in model.items()}):
        run = FakeCluster(nodes=2).run(FakeLLMConfig(**fields))
    assert run.engine is not None
    assert run.engine.model_path is not None
    assert run.engine.model_path.endswith("s3/models/llama-3-8b")
    assert run.engine.requests
    assert webhook.sent == []
    assert "'ready' is not told: a FakeStore stands for the webhook" in caplog.text
