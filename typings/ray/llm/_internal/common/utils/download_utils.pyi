import enum

from .cloud_utils import CloudMirrorConfig

STREAMING_LOAD_FORMATS: list[str]

class NodeModelDownloadable(enum.Enum):
    MODEL_AND_TOKENIZER = 1
    TOKENIZER_ONLY = 2
    EXCLUDE_SAFETENSORS = 3
    NONE = 4

def download_model_files(
    model_id: str | None = ...,
    mirror_config: CloudMirrorConfig | None = ...,
    download_model: NodeModelDownloadable = ...,
    download_extra_files: bool = ...,
) -> str | None: ...
