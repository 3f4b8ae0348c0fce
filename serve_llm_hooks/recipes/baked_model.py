"""``BakedModel``: a model that is in the image, or on a disk that every node has."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback, hook_options

from . import _arguments
from ._late import warn_of_late_weights
from ._stores.places import on_node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx, NodeCtx

_POINTER = b"version https://git-lfs"  # what stands in the place of a file that Git LFS has not fetched


class BakedModel(RayServeLLMCallback):
    """Use a model that each node has: nothing is downloaded, and each node says at once what it lacks.

    Args:
        path: the model's folder, the same on every node.
        files: patterns of names of which each node must have a file.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[BakedModel("/no/such/folder")]), check=False)
        >>> run.error.node_ids
        ('node-0', 'node-1')
    """

    checks_arguments = True

    def __init__(self, path: str, files: Sequence[str] = ("config.json", "*.safetensors")) -> None:
        """Check the arguments."""
        _arguments.absolute("path", path, "/opt/models/llama")
        self.path: str = os.path.normpath(path)  # as the folders of other recipes, with which it is compared
        self.files: tuple[str, ...] = _arguments.texts("files", files, ["config.json", "*.safetensors"])

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look for another model.

        Raises:
            ValueError: there is one.
        """
        if any(isinstance(other, BakedModel) for other in others):
            raise ValueError("two BakedModel both say where the engine's model is: leave one out")
        warn_of_late_weights(llm_config, "BakedModel")

    def on_before_download(self, ctx: CallbackCtx) -> None:
        """Download nothing of the model; the nodes' other hooks run."""
        ctx.worker_node_download_model = ctx.local_node_download_model = "NONE"
        ctx.model_path = self.path

    @hook_options(order=1)  # after a Fetch that brings the model, wherever it is listed
    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Look whether the files are here.

        Raises:
            FileNotFoundError: one is not, or not whole.
        """
        folders = [folder for folder in on_node(self.path, ctx.node_id) if folder.is_dir()]
        if not folders:
            raise FileNotFoundError(
                f"{self.path} is no folder on this node: is the model in the image, or its disk mounted?"
            )
        found = {pattern: [file for folder in folders for file in folder.glob(pattern)] for pattern in self.files}
        missing = [pattern for pattern, files in found.items() if not files]
        missing += [name for name in _shards(folders) if not any((folder / name).is_file() for folder in folders)]
        if missing:
            raise FileNotFoundError(f"{self.path} lacks {', '.join(missing)} on this node")
        for file in (file for files in found.values() for file in files):
            if _is_pointer(file):
                raise FileNotFoundError(
                    f"{file} is not there, only its pointer of Git LFS: run `git lfs pull` where the image is built"
                )
        ctx.model_path = self.path


def _shards(folders: Sequence[Path]) -> list[str]:
    """Return the files that the index of the weights names."""
    index = next((path for folder in folders if (path := folder / "model.safetensors.index.json").is_file()), None)
    if index is None:
        return []
    weights: dict[str, Any] = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
    return sorted({str(name) for name in weights.values()})


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER
