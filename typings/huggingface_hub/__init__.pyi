from os import PathLike

from . import errors as errors

class RepoSibling:
    rfilename: str
    size: int | None

class ModelInfo:
    sha: str | None
    siblings: list[RepoSibling] | None

class HfApi:
    def __init__(self, endpoint: str | None = None) -> None: ...
    def model_info(self, repo_id: str, *, revision: str | None = None, files_metadata: bool = False) -> ModelInfo: ...

def snapshot_download(
    repo_id: str,
    *,
    revision: str | None = None,
    local_dir: str | PathLike[str] | None = None,
    allow_patterns: list[str] | None = None,
    endpoint: str | None = None,
) -> str: ...
