from typing import Any

class ToolParser: ...

class ToolParserManager:
    @classmethod
    def register_module(cls, name: str, force: bool = ..., module: Any = ...) -> Any: ...
