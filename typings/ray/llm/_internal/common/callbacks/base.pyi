from typing import Any

class CallbackCtx:
    worker_node_download_model: Any
    placement_group: Any
    runtime_env: dict[str, Any] | None
    custom_data: dict[str, Any]
    run_init_node: bool
    def __init__(
        self,
        worker_node_download_model: Any = ...,
        placement_group: Any = ...,
        runtime_env: dict[str, Any] | None = ...,
        custom_data: dict[str, Any] = ...,
        run_init_node: bool = ...,
    ) -> None: ...

class CallbackBase:
    ctx: CallbackCtx
    llm_config: Any
    raise_error_on_callback: bool
    kwargs: dict[str, Any]
    def __init__(
        self,
        llm_config: Any,
        raise_error_on_callback: bool = ...,
        ctx_kwargs: dict[str, Any] | None = ...,
        **kwargs: Any,
    ) -> None: ...
    async def on_before_node_init(self) -> None: ...
    async def on_after_node_init(self) -> None: ...
    def on_before_download_model_files_distributed(self) -> None: ...
    def _handle_callback_error(self, method_name: str, e: Exception) -> None: ...

class CallbackConfig:
    def __init__(
        self,
        callback_class: str | type[CallbackBase] = ...,
        callback_kwargs: dict[str, Any] = ...,
        raise_error_on_callback: bool = ...,
    ) -> None: ...
    callback_class: str | type[CallbackBase]
    callback_kwargs: dict[str, Any]
    raise_error_on_callback: bool
