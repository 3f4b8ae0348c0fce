from typing import Any

class LLMServer:
    engine: Any
    _llm_config: Any
    async def _load_model(self, lora_model_id: str) -> Any: ...
    async def start(self) -> None: ...
