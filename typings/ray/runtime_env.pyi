from typing import Any

class RuntimeEnv(dict[str, Any]):
    def __init__(self, **fields: Any) -> None: ...
