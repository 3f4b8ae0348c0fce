"""``FetchModel``: a model from a bucket, a folder or the Hugging Face hub, to every node."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import DownloadError

from ._brings import Brings
from ._late import warn_of_late_weights
from ._stores.brought import Brought
from ._stores.hub import Hub
from ._stores.places import find, is_fake, on_disk, open_store, selected
from ._stores.store import StoreError
from ._stores.transfer import Transfer
from ._stores.uri import checked_names, checked_number
from .baked_model import BakedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx, NodeCtx

    from ._stores.store import Found

WEIGHTS: tuple[str, ...] = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".npz")
"""The suffixes of files of weights. Of several forms, the first that is there is taken, as vLLM does."""


class FetchModel(Brings):
    """Bring a model to every node, and let the engine load it from there. Ray downloads nothing of it.

    Config and tokenizer come first, and the weights after them. Of weights in several forms, one comes: safetensors if
    they are there. As with ``Fetch``, what is there is not read again, and what was cut off is gone on with.
    What it has brought, and is no longer in the model's folder, it removes once all else is there.

    Args:
        src: the model's folder: ``s3://``, ``gs://``, ``az://``, ``file://`` or an absolute path; or
            ``hf://organization/name``, with ``@revision`` if it is not ``main``, from the hub or the mirror that
            ``HF_ENDPOINT`` names.
        dest: an absolute folder, the same on every node; left out, one below ``~/.cache/serve-llm-hooks/models``.
        files: names and globs below ``src``; left out, the model's.
        parallel: how many reads there are at once.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        ```yaml
        hooks:
          - hook: serve_llm_hooks.recipes:FetchModel
            kwargs: {src: "s3://models/llama-3-8b", dest: /models/llama-3-8b}
        ```

        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore
        >>> config = FakeLLMConfig("llama", hooks=[FetchModel("s3://models/llama", "/models/llama")])
        >>> with FakeStore({"s3://models/llama/config.json": "{}", "s3://models/llama/m.safetensors": b"weights"}):
        ...     run = FakeCluster(nodes=2).run(config)
        >>> run.engine.model_path, run.nodes["node-1"].downloaded
        ('/models/llama', [])
    """

    def __init__(self, src: str, dest: str | None = None, *, files: Sequence[str] = (), parallel: int = 16) -> None:
        """Check the arguments."""
        super().__init__(src, dest, what="src", schemes=("s3", "gs", "az", "abfss", "hf", "file"))
        if self.uri.pattern:
            raise ValueError(f"src={self.uri.text!r} is a glob; a model is a folder: say in files= which files of it")
        self.files: list[str] = checked_names(files, what="files")
        self.parallel: int = checked_number(parallel, what="parallel")

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look for another recipe that says where the model is.

        Raises:
            ValueError: there is one.
        """
        for other in others:
            if isinstance(other, FetchModel | BakedModel):
                raise ValueError(
                    f"FetchModel and {type(other).__name__} both say where the engine's model is: leave one out; files "
                    "beside the model, such as those of a draft model, are brought by Fetch"
                )
        super().check_config(llm_config, others)
        warn_of_late_weights(llm_config, "FetchModel")

    def on_before_download(self, ctx: CallbackCtx) -> None:
        """Let Ray download nothing of the model."""
        ctx.worker_node_download_model = ctx.local_node_download_model = "NONE"

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Fetch the model to this node."""
        dest = self.dest or os.path.expanduser(
            os.path.join("~/.cache/serve-llm-hooks/models", self.uri.scheme, self.uri.bucket, self.uri.path.strip("/"))
        )
        try:
            self._fetch(on_disk(dest, ctx.node_id))
        except (StoreError, OSError) as error:
            raise DownloadError(str(error), node_id=ctx.node_id) from error
        ctx.model_path = dest

    def _fetch(self, dest: Path) -> None:
        if self.uri.scheme == "hf" and not is_fake():
            hub = Hub(self.uri)
            self._bring(dest, hub.list(), partial(hub.bring, dest))
        else:
            store = open_store(self.uri)
            transfer = Transfer(store, self.uri.text, dest, parallel=self.parallel)
            self._bring(dest, find(store, self.uri), transfer.bring)

    def _bring(self, dest: Path, listed: Sequence[Found], bring: Callable[..., object]) -> None:
        """Bring the model's files, and remove what was brought before and has left the source."""
        first, weights = self._ordered(selected(self.uri, listed, self.files))
        brought = Brought(dest, self.uri.text)
        brought.add(found.name for found in [*first, *weights])
        bring(first, weights)
        brought.remove_others(found.name for found in listed)

    def _ordered(self, found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
        """Return what is small and tells most, and then the weights."""
        weights = [each for each in found if each.name.endswith(WEIGHTS)]
        first = [each for each in found if each not in weights]
        if not self.files:
            form = next((form for form in WEIGHTS if any(each.name.endswith(form) for each in weights)), "")
            weights = [each for each in weights if each.name.endswith(form) and not each.name.startswith("original/")]
            if form != ".gguf" and not {"config.json", "params.json"} & {each.name for each in first}:
                raise StoreError(f"{self.uri} is no model: there is no config.json among its {len(found)} files")
        if not weights:
            raise StoreError(f"{self.uri}: there are no weights among its {len(found)} files")
        return first, weights
