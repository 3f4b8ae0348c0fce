"""``CompileCache``: what one start has compiled, for all later ones."""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._brings import Brings
from ._kind_of_node import folder_for, key_of
from ._stores.archive import files_of, pack, unpack
from ._stores.disk import make_folder, shown
from ._stores.places import find, on_disk, open_store
from ._stores.store import ASIDE, Missing, StoreError, tried_again
from ._stores.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import CallbackCtx, EngineProcessCtx, NodeCtx

    from ._stores.store import Found, Store

logger: logging.Logger = logging.getLogger("serve_llm_hooks.recipes")

_FOLDERS = {"VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
AT_MOST: int = 8
"""So many archives are kept of one key: where each start writes other files, the store must not grow for ever."""
_KEY = "serve_llm_hooks.recipes.CompileCache"
_FAILURES = (StoreError, OSError, tarfile.TarError)


class CompileCache(Brings):
    """Restore what vLLM, torch.compile and Triton have compiled in earlier starts, and save what a start adds.

    The archives of a key are for one model, its engine's arguments, and one kind of node: versions, CPU or GPU. It is
    best effort: an archive that is broken, foreign or half-written is left out with a warning, and what cannot be
    restored is compiled.

    What is restored is code, and runs: use a place that only trusted people and starts write to.

    Args:
        uri: a folder: ``s3://``, ``gs://``, ``az://``, or an absolute path.
        dest: this model's caches, the same folder on every node; left out, one below ``~/.cache/serve-llm-hooks``.

    Example:
        ```yaml
        hooks:
          - hook: serve_llm_hooks.recipes:CompileCache
            kwargs: {uri: "s3://models/compile-cache"}
        ```

        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore
        >>> with FakeStore():
        ...     _ = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[CompileCache("s3://models/compile-cache")]))
    """

    owns_dest = True

    def __init__(self, uri: str, dest: str | None = None) -> None:
        """Check the arguments."""
        super().__init__(uri, dest, what="uri", schemes=("s3", "gs", "az", "abfss", "file"))
        if self.uri.pattern:
            raise ValueError(f"uri={self.uri.text!r} is a glob; the cache is a folder")

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look whether anything is compiled, by an engine that has one cache.

        Raises:
            ValueError: it is not; as ``Brings``.
        """
        if (getattr(llm_config, "engine_kwargs", None) or {}).get("enforce_eager"):
            raise ValueError("with enforce_eager vLLM compiles nothing: leave CompileCache out, or enforce_eager")
        for other in others:
            if isinstance(other, CompileCache):
                raise ValueError(f"the engine has one compile cache: leave {self.uri} or {other.uri} out")
        super().check_config(llm_config, others)

    def on_before_init(self, ctx: CallbackCtx) -> None:
        """Write down what the archives are for."""
        key = key_of(ctx.model_id, ctx.llm_config)
        dest = self.dest or os.path.expanduser(f"~/.cache/serve-llm-hooks/compile/{key[:16]}")
        ctx.custom_data[_KEY] = {"key": key, "dest": dest}

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Restore what there is for this node."""
        dest = on_disk(ctx.custom_data[_KEY]["dest"], ctx.node_id)
        try:
            make_folder(self.uri.text, dest)
            store, archives = self._archives(ctx)
        except _FAILURES as error:
            logger.warning("%s: nothing is restored: %s", self.uri, error)
            return
        for archive in sorted(archives, key=lambda each: each.modified_s)[-AT_MOST:]:
            try:
                self._restore(store, archive, dest)
            except _FAILURES as error:
                logger.warning("%s: %s is left out: %s", self.uri, archive.name, error)

    def on_engine_process_start(self, ctx: EngineProcessCtx) -> None:
        """Let vLLM find it."""
        for name, folder in _FOLDERS.items():
            os.environ[name] = os.path.join(ctx.custom_data[_KEY]["dest"], folder)
        os.environ.setdefault("VLLM_USE_AOT_COMPILE", "0")  # its own archives are for one place in one group only

    def on_after_node_engine_init(self, ctx: NodeCtx) -> None:
        """Save everything, if there is more than in any archive."""
        dest = on_disk(ctx.custom_data[_KEY]["dest"], ctx.node_id)
        try:
            self._save(ctx, dest)
        except _FAILURES as error:
            logger.warning("%s: the compile cache is not saved: %s", self.uri, error)

    def _archives(self, ctx: NodeCtx) -> tuple[Store, list[Found]]:
        store = open_store(self.uri)
        try:
            found = find(store, self.uri._replace(text=f"{self.uri}/", path=self._folder(ctx)))
        except Missing:
            found = []
        return store, [each for each in found if each.name.endswith(".tar")]

    def _folder(self, ctx: NodeCtx) -> str:
        return f"{self.uri.path}/{folder_for(ctx.custom_data[_KEY])}".lstrip("/")

    def _restore(self, store: Store, archive: Found, dest: Path) -> None:
        digest = archive.name.removesuffix(".tar").rpartition("-")[2]
        with tempfile.TemporaryDirectory(dir=dest, prefix=f"{ASIDE}-") as folder:
            Transfer(store, self.uri.text, Path(folder), sha256={archive.name: digest}).bring([archive])
            unpack(Path(folder, archive.name), dest)

    def _save(self, ctx: NodeCtx, dest: Path) -> None:
        files = files_of(dest)
        listing = "".join(f"{name} {(dest / name).stat().st_size}\n" for name in files)
        content = hashlib.sha256(listing.encode()).hexdigest()[:32]
        store, archives = self._archives(ctx)
        if not files or any(each.name.startswith(content) for each in archives):
            return
        if len(archives) >= AT_MOST:
            logger.warning("%s: there are %d archives for this node; no more is saved", self.uri, len(archives))
            return
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder, "cache.tar")
            digest = pack(dest, files, packed)
            path = f"{self._folder(ctx)}/{content}-{digest}.tar"
            tried_again(lambda: store.write(path, packed))
            logger.info("%s: saved %d files, %s", self.uri, len(files), shown(packed.stat().st_size))
