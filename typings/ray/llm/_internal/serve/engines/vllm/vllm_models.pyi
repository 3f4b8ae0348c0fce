from dataclasses import dataclass

@dataclass
class AsyncEngineArgs:
    model: str = ...

@dataclass
class FrontendArgs:
    chat_template: str | None = ...
