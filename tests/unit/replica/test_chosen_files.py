"""Which files a hook chose is logged: what is downloaded from a bucket, and that there is none to choose from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, NodeCtx, hook, skip
from tests.unit.stub import StubCluster, start

if TYPE_CHECKING:
    from serve_llm_hooks import DownloadMode
    from serve_llm_hooks._node.task import NodeTask

BUCKET = {"bucket_uri": "s3://b"}
NO_BUCKETS = [None, {"bucket_uri": None, "extra_files": [{"bucket_uri": "s3://extra", "destination_path": "/x"}]}]


@hook("on_before_download")
def tokenizer_only(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "TOKENIZER_ONLY"


@hook("on_before_download")
def nothing_here(ctx: CallbackCtx) -> None:
    ctx.local_node_download_model = "NONE"


@hook("on_before_node_download")
def tokenizer_only_there(ctx: NodeCtx) -> None:
    ctx.download_model = "TOKENIZER_ONLY"


@hook("on_before_node_download")
def nothing_there(ctx: NodeCtx) -> None:
    ctx.download_model = "NONE"


@hook("on_before_engine_init")
def path(ctx: CallbackCtx) -> None:
    ctx.model_path = "/models/own"


@hook("on_after_node_download")
def path_there(ctx: NodeCtx) -> None:
    ctx.model_path = "/models/own"


async def extra_files_only(task: NodeTask, mode: DownloadMode) -> str | None:
    """Return what Ray's downloader does then."""
    return task.source_id


def told(caplog: pytest.LogCaptureFixture, *hooks: Any, mirror: Any, level: int) -> list[str]:
    caplog.set_level(logging.INFO, "serve_llm_hooks")
    caplog.clear()
    cluster = StubCluster(("n0", "n1"), mirror=mirror)
    if mirror not in (None, BUCKET):
        cluster.download = extra_files_only
    start(*hooks, cluster=cluster)
    lines = [one.getMessage() for one in caplog.records if one.levelno == level]
    return sorted(line for line in lines if "a hook chose" in line)  # nodes work at the same time


@pytest.mark.parametrize(
    ("chooses", "lines"),
    [
        (tokenizer_only, ["a hook chose what nodes download from s3://b: TOKENIZER_ONLY"]),
        (nothing_here, ["a hook chose what nodes download from s3://b: NONE, MODEL_AND_TOKENIZER"]),
        (
            tokenizer_only_there,
            [f"a hook chose what node {node} downloads from s3://b: TOKENIZER_ONLY" for node in ("n0", "n1")],
        ),
        (
            nothing_there,
            [f"a hook chose what node {node} downloads from s3://b: NONE" for node in ("n0", "n1")],
        ),
    ],
)
def test_what_is_downloaded_from_a_bucket(chooses: Any, lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, chooses, mirror=BUCKET, level=logging.INFO) == [f"model 'm': {line}" for line in lines]
    assert told(caplog, chooses, mirror=BUCKET, level=logging.WARNING) == []


@pytest.mark.parametrize("mirror", NO_BUCKETS)
@pytest.mark.parametrize(
    ("chooses", "whats"),
    [
        (tokenizer_only, ["nodes download (TOKENIZER_ONLY)"]),
        (nothing_here, ["nodes download (NONE, MODEL_AND_TOKENIZER)"]),
        (tokenizer_only_there, [f"node {node} downloads (TOKENIZER_ONLY)" for node in ("n0", "n1")]),
    ],
)
def test_without_a_bucket_a_choice_does_nothing(
    chooses: Any, whats: list[str], mirror: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        f"model 'm': a hook chose what {what}, which does nothing: org/m is no bucket, so the engine itself loads "
        "all of the model from there. To load it from elsewhere, set ctx.model_path."
        for what in whats
    ]
    assert told(caplog, chooses, mirror=mirror, level=logging.WARNING) == lines
    assert told(caplog, chooses, mirror=mirror, level=logging.INFO) == []


@pytest.mark.parametrize("mirror", NO_BUCKETS)
@pytest.mark.parametrize(
    "hooks", [(tokenizer_only, path), (tokenizer_only, path_there), (tokenizer_only_there, path_there), ()]
)
def test_nothing_is_told_where_a_hook_has_the_model_or_chose_nothing(
    hooks: tuple[Any, ...], mirror: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(caplog, *hooks, mirror=mirror, level=logging.WARNING) == []
    assert told(caplog, *hooks, mirror=mirror, level=logging.INFO) == []


def test_nothing_is_told_where_the_downloads_are_vetoed(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_before_download")
    def vetoes(ctx: CallbackCtx) -> Any:
        return skip("in the image")

    assert told(caplog, tokenizer_only, vetoes, mirror=None, level=logging.WARNING) == []
