"""While a start waits for something, the log says for what."""

from __future__ import annotations

import asyncio
import builtins
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadMode,
    NodeCtx,
    NodeInitializationError,
    hook,
    initialization,
    load_hooks,
)
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks._observe import progress as progress_module
from serve_llm_hooks._observe.progress import Progress
from serve_llm_hooks._observe.written import Written, written_bytes
from tests.unit.stub import MIRROR, Config, StubCluster, node_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serve_llm_hooks._node.task import NodeReport, NodeTask

WAITED_S = 30


def test_a_line_comes_at_least_every_half_minute() -> None:
    assert progress_module.PROGRESS_S <= 30


class Said(logging.Handler):
    """Lets a test wait until the log has a line with certain words."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.news:
            self.lines.append(record.getMessage())
            self.news.notify_all()

    def wait_for(self, words: str) -> None:
        """Block until they are said."""
        with self.news:
            assert self.news.wait_for(lambda: any(words in line for line in self.lines), WAITED_S), self.lines

    async def await_(self, words: str) -> None:
        """The same, for a coroutine."""
        await asyncio.to_thread(self.wait_for, words)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    """The log of a start that is impatient."""
    monkeypatch.setattr(progress_module, "PROGRESS_S", 0.005)
    logger, handler = logging.getLogger("serve_llm_hooks"), Said()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


def start(*hooks: Callable[..., Any] | str, cluster: StubCluster | None = None, engine: Any = None) -> None:
    """On the system's own clock."""

    async def main() -> None:
        async with initialization(Config(hooks=hooks), cluster=cluster or StubCluster()):
            if engine is not None:
                await engine()

    asyncio.run(main())


def test_which_hook_it_waits_for_sync_and_async(said: Said) -> None:
    where = f"{__name__}:test_which_hook_it_waits_for_sync_and_async.<locals>"

    @hook("on_before_init")
    def quick(ctx: CallbackCtx) -> None: ...

    @hook("on_before_init")
    def slow(ctx: CallbackCtx) -> None:
        said.wait_for(f"model 'm': waiting for {where}.slow at on_before_init (")

    @hook("on_before_download")
    async def later(ctx: CallbackCtx) -> None:
        await said.await_(f"model 'm': waiting for {where}.later at on_before_download (")

    start(quick, slow, later)


def test_the_hooks_that_clean_up_after_a_failure(said: Said) -> None:
    @hook("on_before_init")
    def broken(ctx: CallbackCtx) -> None:
        raise OSError

    @hook("on_failure")
    def clean(ctx: CallbackCtx) -> None:
        said.wait_for("clean at on_failure (")

    with pytest.raises(Exception, match="broken failed"):
        start(broken, clean)


def test_the_placement_group_and_then_its_nodes(said: Said) -> None:
    async def acquire() -> tuple[str, ...]:
        await said.await_("model 'm': waiting for its placement group (")
        return ("n0", "n1", "n2")

    cluster = StubCluster(acquire=acquire)

    async def slow(task: NodeTask) -> NodeReport:
        await said.await_("model 'm': waiting for 2 of 3 nodes: n1, n2 (")
        return await cluster.work(task)

    @hook("on_before_node_download")
    def anything(ctx: NodeCtx) -> None: ...

    cluster.answers = {"n1": slow, "n2": slow}
    start(anything, cluster=cluster)


def test_the_tasks_that_are_cancelled(said: Said) -> None:
    async def will_not_be_cancelled(task: NodeTask) -> NodeReport:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await said.await_("waiting for the tasks of 1 node to be cancelled (")
                raise

    cluster = StubCluster(nodes=("n0", "n1"), node_grace_s=0.01, answers={"n1": will_not_be_cancelled})

    @hook("on_before_node_download")
    def broken(ctx: NodeCtx) -> None:
        raise OSError

    with pytest.raises(NodeInitializationError):
        start(broken, cluster=cluster)


SLOW_TO_IMPORT = """
import builtins

builtins.wait_for("model 'm': waiting for its hooks and its engine to be imported (")

@hook("on_before_init")
def anything(ctx): ...
"""


def test_the_hooks_module(said: Said, write_module: Callable[[str, str], object]) -> None:
    write_module("slow_to_import", SLOW_TO_IMPORT)
    builtins.wait_for = said.wait_for  # type: ignore[attr-defined]  # for the module, which must not import this one
    try:
        start("slow_to_import")
    finally:
        del builtins.wait_for  # type: ignore[attr-defined]  # made above


heard: list[Said] = []


@hook("on_before_node_download")
async def slow_on_its_node(ctx: NodeCtx) -> None:  # of the module, so that it travels by reference
    await heard[0].await_(f"model 'm' on node n0: waiting for {__name__}:slow_on_its_node (")


def test_on_a_node_which_hook_and_which_download(said: Said) -> None:
    heard[:] = [said]

    async def download(task: NodeTask, mode: DownloadMode) -> str:
        await said.await_("model 'm' on node n0: waiting for the download from s3://models/m (")
        return "/models/m"

    mode = DownloadMode.MODEL_AND_TOKENIZER
    task = node_task(load_hooks(slow_on_its_node), source_id="org/m", mirror=MIRROR, download_model=mode)

    async def main() -> None:
        with Progress("m", node=Node("n0")) as progress:
            report = await run_task(task, download, progress=progress)
        assert report.failure is None
        assert report.path == "/models/m"

    asyncio.run(main())


def test_what_nodes_tell_comes_with_each_line_of_the_replica(said: Said) -> None:
    cluster = StubCluster(told_by_nodes=("node n1: the download from s3://models/m, 12 GB written, 410 MB/s",))

    async def engine() -> None:
        said.wait_for("model 'm': waiting for its engine to start (")
        said.wait_for("model 'm': node n1: the download from s3://models/m, 12 GB written, 410 MB/s")

    start(cluster=cluster, engine=engine)


def test_what_a_line_says_besides(said: Said) -> None:
    with Progress("m", more=lambda: ", 5 MB written") as progress, progress.waiting_for("a hook"):
        said.wait_for("model 'm': waiting for a hook (0 s so far, 5 MB written)")
        assert progress.now == "a hook"
    assert progress.now == ""


def test_what_is_written_and_how_fast() -> None:
    counts, times = iter([100, 5_000_100, 9_000_100]), iter([0.0, 10.0, 12.0])
    written = Written(lambda: next(counts), lambda: next(times))
    assert written.since_last() == ", 5 MB written, 500 kB/s"
    assert written.since_last() == ", 9 MB written, 2 MB/s"


def test_little_is_no_news_and_no_number_is_none(tmp_path: Path) -> None:
    assert Written(lambda: 500_000, lambda: 0.0).since_last() == ""
    before = written_bytes()
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sys.platform != "linux" or written_bytes() - before >= 3_000_000


def test_the_engine_also_while_it_blocks_the_event_loop(said: Said) -> None:
    async def engine() -> None:
        said.wait_for("model 'm': waiting for its engine to start (")

    start(engine=engine)


def test_nothing_is_said_of_a_start_that_is_over(said: Said) -> None:
    start()
    assert "serve-llm-hooks progress" not in {thread.name for thread in threading.enumerate()}
