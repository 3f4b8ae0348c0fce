"""Ray's application builders, with hooked configs and servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.serve.llm import LLMConfig as _RayLLMConfig
from ray.serve.llm import build_openai_app as _ray_build_openai_app

from .config import LLMConfig

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["build_openai_app"]


def build_openai_app(llm_serving_args: Any) -> Application:
    """Ray's ``build_openai_app``, whose configs may have ``hooks``.

    In a ``serve run`` YAML::

        applications:
          - name: llm
            import_path: serve_llm_hooks.ray:build_openai_app
            args:
              llm_configs:
                - model_id: llama-2-7b
                  hooks: [my_company.llm_hooks]

    Args:
        llm_serving_args: as Ray's: ``llm_configs`` (configs, dicts, or paths of YAML files) and the ingress options.

    Raises:
        HookLoadError: hooks that cannot be loaded.
        FileNotFoundError: a config file that is not there.
    """
    args = llm_serving_args if isinstance(llm_serving_args, dict) else _fields(llm_serving_args)
    return _ray_build_openai_app({**args, "llm_configs": [_hooked(config) for config in args.get("llm_configs") or ()]})


def _hooked(config: Any) -> LLMConfig:
    """A config, a dict or a file as our config."""
    if isinstance(config, LLMConfig):
        return config
    if isinstance(config, str | Path):
        if not Path(config).is_file():
            raise FileNotFoundError(f"llm_configs names the file {str(config)!r}, which is not there")
        from_file: LLMConfig = LLMConfig.from_file(str(config))
        return from_file
    if isinstance(config, _RayLLMConfig):
        config = _fields(config)
    return LLMConfig.model_validate(config)


def _fields(model: Any) -> dict[str, Any]:
    """What was set on a pydantic model, as it is (``model_dump`` would turn classes and enums into plain data)."""
    return {name: getattr(model, name) for name in model.model_fields_set}
