"""The engine of a fake cluster: it remembers what it was started with, and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["FRONTEND_NAMES", "FakeAnswer", "FakeEngine"]

FRONTEND_NAMES = frozenset(
    (
        # vLLM 0.29's FrontendArgs. The engine's own names are not kept here: there are 200, and they change monthly.
        "allow_credentials",
        "allowed_headers",
        "allowed_methods",
        "allowed_origins",
        "api_key",
        "chat_template",
        "chat_template_content_format",
        "cohere_format",
        "cohere_is_reasoning_model",
        "data_parallel_supervisor_port",
        "default_chat_template_kwargs",
        "disable_access_log_for_endpoints",
        "disable_fastapi_docs",
        "disable_uvicorn_access_log",
        "dp_supervisor_probe_failure_threshold",
        "dp_supervisor_probe_interval_s",
        "dp_supervisor_probe_timeout_s",
        "enable_auto_tool_choice",
        "enable_flash_late_interaction",
        "enable_force_include_usage",
        "enable_log_deltas",
        "enable_log_outputs",
        "enable_offline_docs",
        "enable_per_request_metrics",
        "enable_prompt_tokens_details",
        "enable_request_id_headers",
        "enable_server_load_tracking",
        "enable_ssl_refresh",
        "enable_tokenizer_info_endpoint",
        "exclude_tools_when_tool_choice_none",
        "fingerprint_mode",
        "fingerprint_value",
        "h11_max_header_count",
        "h11_max_incomplete_event_size",
        "host",
        "log_config_file",
        "log_error_stack",
        "lora_modules",
        "max_log_len",
        "middleware",
        "port",
        "response_role",
        "return_tokens_as_token_ids",
        "root_path",
        "sse_keep_alive_interval",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_ciphers",
        "ssl_keyfile",
        "tokens_only",
        "tool_call_parser",
        "tool_parser_plugin",
        "tool_server",
        "trust_request_chat_template",
        "uds",
        "uvicorn_log_level",
    )
)
"""Which keys of ``extra_init_kwargs`` are the OpenAI frontend's."""


@dataclass(frozen=True)
class FakeAnswer:
    """What a fake engine answers."""

    content: str = "Paris."


@dataclass
class FakeEngine:
    """What ``ctx.engine`` is on a fake cluster.

    Attributes:
        kwargs: the engine's arguments: the config's, and over them what hooks set.
        frontend_kwargs: the OpenAI frontend's, likewise.
        model_path: where it finds the model.
        placement_group: where its workers run.
        runtime_env: their runtime environment.
        requests: what it has been asked.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"max_model_len": 128}))
        >>> run.engine.kwargs
        {'max_model_len': 128}
    """

    kwargs: dict[str, Any]
    frontend_kwargs: dict[str, Any]
    model_path: str
    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    requests: list[Any] = field(default_factory=list)

    async def chat(self, request: Any, *args: Any, **kwargs: Any) -> AsyncIterator[FakeAnswer]:
        """Answer a chat request, as the methods of Ray's engine do: in an async iterator."""
        self.requests.append(request)
        yield FakeAnswer()

    completions = chat
    """The same for a completion request."""

    async def check_health(self) -> None:
        """It is always well."""
