from typing import Any

from ray.llm._internal.serve.core.server.llm_server import LLMServer as _LLMServer

class LLMServer(_LLMServer):
    @classmethod
    def sync_init(cls, llm_config: Any, *, engine_cls: Any = ...) -> LLMServer: ...
