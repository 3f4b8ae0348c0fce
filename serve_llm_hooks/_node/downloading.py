"""The download in a node's work: all of the model, or the part that is due now."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .._core.download_mode import DownloadMode
from .._core.errors import reraise_if_not_a_failure
from .._core.messages import one_line, readable
from .failures import download_error
from .task import has_bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._core.trace import Trace
    from .task import NodeTask, WhichWeights

    Download = Callable[[NodeTask, DownloadMode], Awaitable[str | None]]
    Measure = Callable[[NodeTask, str | None, float], Awaitable[int | None]]


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


class Downloading:
    """The downloads of one node's work.

    Attributes:
        at_work: ``True`` while one is.
        took_s: the seconds that they have taken.
        weights_due: ``True`` if the weights are left to a later task.
    """

    def __init__(self, task: NodeTask, download: Download, measure: Measure | None, trace: Trace) -> None:
        self.at_work = False
        self.took_s = 0.0
        self.weights_due = False
        self._task = task
        self._download = download
        self._measure = measure
        self._trace = trace

    async def model(self, mode: DownloadMode) -> str | None:
        """Download the files of a mode; return the path.

        Raises:
            DownloadError: it has failed, or nothing has arrived.
        """
        task = self._task
        late = task.weights == "late" and mode is DownloadMode.MODEL_AND_TOKENIZER
        path = await self._fetch(mode, "late" if late else "first", None)
        if has_bucket(task.mirror) and mode and path == task.source_id:
            raise download_error(task, "nothing arrived, and the downloader did not say why; its log may")
        if late:
            await self._leave_weights(mode, path)
        return path

    async def weights(self, mode: DownloadMode, path: str | None) -> None:
        """Download what was left out, to where the rest is.

        Raises:
            DownloadError: it has failed.
        """
        await self._fetch(mode, "only", path)

    async def _leave_weights(self, mode: DownloadMode, path: str | None) -> None:
        """Leave the weights to a task in the background, unless they are needed before it would have ended."""
        from .late_weights import why_needed_first  # few downloads leave them

        why = why_needed_first(path)
        self.weights_due = not why
        if why:
            logger.warning(
                "model %r: its weights are not late on %s, since %s: vLLM looks into them before its workers begin",
                self._task.model_id,
                self._task.node,
                why,
            )
            await self.weights(mode, path)

    async def _fetch(self, mode: DownloadMode, weights: WhichWeights, path: str | None) -> str | None:
        task = self._task._replace(weights=weights, model_path=path or self._task.model_path)
        start_s = self._trace.clock()
        running_in = asyncio.current_task()
        self.at_work = True
        try:
            with self._trace.step("download", start_s) as step:
                found = await self._download(task, mode)
                if self._measure is not None:
                    step.size_bytes = await self._measure(task, found, self._trace.epoch_s + start_s)
            return found
        except BaseException as error:
            reraise_if_not_a_failure(error, running_in)
            raise download_error(task, one_line(error)) from readable(error)
        finally:
            self.at_work = False
            self.took_s += self._trace.clock() - start_s
