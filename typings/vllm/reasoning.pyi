from typing import Any

class ReasoningParser: ...

class ReasoningParserManager:
    @classmethod
    def register_module(cls, name: str, force: bool = ..., module: Any = ...) -> Any: ...
