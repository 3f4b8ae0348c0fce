from typing import Any

class LLMServer:
    engine: Any
    _llm_config: Any
    async def start(self) -> None: ...
