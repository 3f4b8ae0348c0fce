"""``Fetch``: files from a bucket, an HTTP server or a folder, to every node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from serve_llm_hooks import DownloadError

from . import _arguments
from ._brings import Brings
from ._stores.brought import take_over
from ._stores.globs import is_glob
from ._stores.places import find, on_disk, open_store
from ._stores.store import StoreError, logger
from ._stores.transfer import Transfer
from ._stores.uri import checked_folder, checked_names, checked_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import NodeCtx

_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


class Fetch(Brings):
    """Bring files to a folder of every node, before the model is downloaded there.

    What is there already, with the same size and time, is not read again; a try that was cut off or killed is gone on
    with. A file has its name only when it is whole. Secrets are taken from the environment.

    Args:
        src: a folder, a file, or a glob: ``s3://bucket/folder/*.json``. Also ``gs://``, ``az://``, ``https://``,
            ``file://`` and absolute paths. A ``*`` matches a ``/`` too.
        dest: an absolute folder; what is there besides stays.
        files: names and globs below ``src``; each must be there. An HTTP server, which lists nothing, needs names.
        sha256: checksums of files, by their names below ``src``.
        parallel: how many reads there are at once.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        ```yaml
        hooks:
          - hook: serve_llm_hooks.recipes:Fetch
            kwargs: {src: "s3://models/adapters", dest: /models/adapters, files: ["*.safetensors", "*.json"]}
        ```

        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore
        >>> with FakeStore({"s3://models/adapters/a.json": b"{}"}) as store:
        ...     config = FakeLLMConfig("m", hooks=[Fetch("s3://models/adapters", "/models/adapters")])
        ...     run = FakeCluster(nodes=2).run(config)
        ...     store.disk("node-1", "/models/adapters/a.json").read_text()
        '{}'
    """

    def __init__(
        self,
        src: str,
        dest: str,
        *,
        files: Sequence[str] = (),
        sha256: Mapping[str, str] | None = None,
        parallel: int = 16,
    ) -> None:
        """Check the arguments."""
        schemes = ("s3", "gs", "az", "abfss", "https", "http", "file")
        self.folder: str = checked_folder(dest, what="dest")
        super().__init__(src, self.folder, what="src", schemes=schemes)
        self.files: list[str] = checked_names(files, what="files")
        self.sha256: dict[str, str] = _checked_sums(sha256)
        self.parallel: int = checked_number(parallel, what="parallel")
        if self.uri.scheme in ("http", "https") and not self.uri.path and not self.files:
            raise ValueError(f"src={self.uri.text!r} names no file, and an HTTP server lists none: say in files= which")
        if self.uri.pattern and self.files:
            raise ValueError(f"src={self.uri.text!r} has a glob, and files= says which files too: give one of them")
        for name in self.files if self.uri.scheme in ("http", "https") else ():
            _arguments.no_query("files", name, is_http=False)  # there may be a '#' in a name: it is escaped
            if is_glob(name):
                raise ValueError(f"files: an HTTP server lists no files, so {name!r} finds none; name each file")

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Fetch the files to this node."""
        dest = on_disk(self.folder, ctx.node_id)
        try:
            store = open_store(self.uri)
            found = find(store, self.uri, self.files)
            missing = [name for name in self.sha256 if name not in {each.name for each in found}]
            if missing:
                raise StoreError(f"{self.uri}: sha256 names {missing[0]!r}, which is not among the files to fetch")
            if self.one_file() not in ("", found[0].name):
                logger.warning("%s is a folder with the name of a file: write it with a '/' at its end", self.uri)
            take_over((dest / each.name for each in found), self.uri.text)
            Transfer(store, self.uri.text, dest, sha256=self.sha256, parallel=self.parallel).bring(found)
        except (StoreError, OSError) as error:
            raise DownloadError(str(error), node_id=ctx.node_id) from error

    def one_file(self) -> str:
        """Return its name, where no files are named: of an HTTP server, or one with a suffix and no slash behind it."""
        name = self.uri.path.rpartition("/")[2]
        reads_so = _SUFFIX.search(name) is not None and not self.uri.text.endswith("/")
        is_file = reads_so or self.uri.scheme in ("http", "https")
        return name if is_file and not self.files and not self.uri.pattern else ""

    def _check_beside(self, other: Brings, way: str) -> None:
        """Look besides whether both mean one version of each file."""
        super()._check_beside(other, way)
        if not isinstance(other, Fetch) or not self.is_same_place(other, way):
            return
        for name, theirs in other.sha256.items():
            path = f"{way}/{name}" if way else name
            digest = self.sha256.get(path, theirs)
            if theirs.lower() != digest.lower():
                raise ValueError(
                    f"{self.uri} and {other.uri} are fetched to {self.dest} with two sha256 of {path!r}, {digest} and "
                    f"{theirs}: leave the wrong one out"
                )


def _checked_sums(sha256: object) -> dict[str, str]:
    if sha256 is None:
        return {}
    if not isinstance(sha256, Mapping):
        raise TypeError("sha256 is a mapping from names to checksums, as in {'model.safetensors': '0123…'}")
    for name, digest in sha256.items():
        if not isinstance(name, str) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"sha256 of {name!r} is not one: it has 64 hexadecimal digits, as a text (in quotes)")
    return dict(sha256)
