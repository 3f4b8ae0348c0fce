"""``PrefetchWeights``: the weights are read into the page cache while vLLM is imported."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import RayServeLLMCallback, hook_options

from . import _arguments
from ._memory import GIB, available_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import NodeCtx

_logger = logging.getLogger("serve_llm_hooks.recipes")

_PIECE = 64 * 2**20  # what a thread reads before it looks at the memory again
_BUFFER = 4 * 2**20


class PrefetchWeights(RayServeLLMCallback):
    """Read the weights into each node's page cache, in the background, as far as its memory goes.

    Args:
        files: patterns of the names of the weights.
        path: the model's folder; left out, where the node's download has put it.
        threads: how many read at once.
        leave_gib: memory to leave for the engine and everything else.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[PrefetchWeights(leave_gib=8)]))
        >>> [event.name for event in run.trace]
        ['on_after_node_download', 'on_after_node_download', 'on_after_node_download']
    """

    checks_arguments = True

    def __init__(
        self,
        files: Sequence[str] = ("*.safetensors", "*.bin", "*.gguf"),
        *,
        path: str | None = None,
        threads: int = 4,
        leave_gib: float = 4,
    ) -> None:
        """Check the arguments."""
        self.files: tuple[str, ...] = _arguments.texts("files", files, ["*.safetensors"])
        if path is not None:
            _arguments.absolute("path", path, "/models/llama")
        _arguments.number("threads", threads, least=1, most=64, whole=True)
        _arguments.number("leave_gib", leave_gib)
        self.path: str | None = path
        self.threads: int = threads
        self.leave_gib: float = leave_gib

    @hook_options(until="on_after_engine_init", on_error="warn")
    def on_after_node_download(self, ctx: NodeCtx) -> None:
        """Read. What fails is logged: the engine reads the weights in any case."""
        folder = Path(self.path or ctx.model_path or "")
        if not folder.is_absolute() or not folder.is_dir():
            _logger.info(
                "model %r: no weights to prefetch: vLLM fetches them itself, or path= is missing", ctx.model_id
            )
            return
        begun = time.monotonic()
        pieces = self._pieces(folder)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="prefetch")
        try:
            read = sum(pool.map(self._read, pieces))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after a failure nobody waits for what others still read
        whole = sum(size for _, _, size in pieces)
        _logger.info(
            "model %r: %.1f of %.1f GiB of weights read into the page cache in %.1f s%s",
            ctx.model_id,
            read / GIB,
            whole / GIB,
            time.monotonic() - begun,
            "" if read == whole else f": there is no memory for more beside the {self.leave_gib:g} GiB of leave_gib=",
        )

    def _pieces(self, folder: Path) -> list[tuple[Path, int, int]]:
        """Return what is to be read, piece by piece: the file, where in it, and how much."""
        files = sorted({file for pattern in self.files for file in folder.glob(pattern) if file.is_file()})
        return [
            (file, start, min(_PIECE, size - start))
            for file in files
            for size in [file.stat().st_size]
            for start in range(0, size, _PIECE)
        ]

    def _read(self, piece: tuple[Path, int, int]) -> int:
        """Read a piece, unless memory is short; return how much it was."""
        file, start, size = piece
        if available_memory() - size < self.leave_gib * GIB:
            return 0
        buffer = memoryview(bytearray(min(_BUFFER, size)))
        with file.open("rb", buffering=0) as opened:
            opened.seek(start)
            left = size
            while left > 0 and (count := opened.readinto(buffer[:left])):
                left -= count
        return size - left
