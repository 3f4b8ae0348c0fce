class _ModelRegistry:
    def register_model(self, model_arch: str, model_cls: type | str) -> None: ...

ModelRegistry: _ModelRegistry
