from typing import Any

class CloudMirrorConfig:
    bucket_uri: str | None
    def __init__(self, **fields: Any) -> None: ...
    def model_dump(self) -> dict[str, Any]: ...

class CloudFileSystem:
    @staticmethod
    def download_files(
        path: str,
        bucket_uri: str,
        substrings_to_include: list[str] | None = ...,
        suffixes_to_exclude: list[str] | None = ...,
    ) -> None: ...

def is_remote_path(path: str) -> bool: ...
