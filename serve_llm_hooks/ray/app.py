"""Ray's application builders, for configs and servers with hooks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.serve import Application
from ray.serve.llm import (
    LLMConfig as _RayLLMConfig,
    build_dp_openai_app as _ray_build_dp_openai_app,
    build_openai_app as _ray_build_openai_app,
    build_pd_openai_app as _ray_build_pd_openai_app,
)

from .._core.messages import path_or_type
from .capacity import describe_nodes, never_fits
from .config import LLMConfig
from .hooked import hooked_server
from .internals import LLMServer as _RayLLMServer
from .server import LLMServer

if TYPE_CHECKING:
    from collections.abc import Iterator


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


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
        TypeError: ``llm_configs`` is no list.
    """
    args = _arguments(llm_serving_args)
    given = args.get("llm_configs") or ()  # Ray's own error says that they are missing
    if not isinstance(given, list | tuple):
        raise TypeError(f"llm_configs is a list, as in llm_configs: [model.yaml], not {path_or_type(given)}")
    configs = [_hooked_config(config, "llm_configs") for config in given]
    return _with_hooks(_ray_build_openai_app({**args, "llm_configs": configs}))


def build_dp_openai_app(dp_serving_args: Any) -> Application:
    """Ray's ``build_dp_openai_app`` (data-parallel attention), whose config may have ``hooks``.

    They run in every rank. The ranks share one placement group: each initializes the nodes of its own bundles, and
    cannot replace the group.

    In a ``serve run`` YAML::

        applications:
          - name: llm
            import_path: serve_llm_hooks.ray:build_dp_openai_app
            args:
              llm_config:
                model_id: llama-2-7b
                hooks: [my_company.llm_hooks]
                engine_kwargs: { data_parallel_size: 2 }

    Args:
        dp_serving_args: as Ray's: ``llm_config`` (a config, a dict, or the path of a YAML file) and the ingress
            options.

    Raises:
        HookLoadError: hooks that cannot be loaded.
        FileNotFoundError: a config file that is not there.
    """
    return _with_hooks(_ray_build_dp_openai_app(_with_configs(dp_serving_args, "llm_config")))


def build_pd_openai_app(pd_serving_args: Any) -> Application:
    """Ray's ``build_pd_openai_app`` (prefill and decode apart), whose two configs may each have ``hooks``.

    In a ``serve run`` YAML::

        applications:
          - name: llm
            import_path: serve_llm_hooks.ray:build_pd_openai_app
            args:
              prefill_config: { model_id: llama-2-7b, hooks: [my_company.prefill_hooks], ... }
              decode_config: { model_id: llama-2-7b, hooks: [my_company.decode_hooks], ... }

    Args:
        pd_serving_args: as Ray's: ``prefill_config`` and ``decode_config`` (configs, dicts, or paths of YAML files)
            and the ingress options.

    Raises:
        HookLoadError: hooks that cannot be loaded.
        FileNotFoundError: a config file that is not there.
    """
    return _with_hooks(_ray_build_pd_openai_app(_with_configs(pd_serving_args, "prefill_config", "decode_config")))


def _with_configs(given: Any, *names: str) -> dict[str, Any]:
    """Return a builder's arguments with configs of ours; warn of a ``server_cls`` that Ray's builder does not use."""
    args = _arguments(given)
    for name in names:
        if args.get(name) is None:
            continue  # Ray's own error says that it is missing
        args[name] = config = _hooked_config(args[name], name)
        if config.server_cls is not LLMServer:
            logger.warning(
                "model %r: server_cls=%r of %s is not used: Ray's builder for this kind of app has servers of its own. "
                "They run the hooks.",
                config.model_id,
                config.server_cls.__name__,
                name,
            )
    return args


def _arguments(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return dict(given)
    if not hasattr(given, "model_fields_set"):
        raise TypeError(
            "a builder takes a dict, as in {'llm_configs': [...]}, or Ray's LLMServingArgs, not "
            f"{path_or_type(given)}"
        )
    return _fields(given)


def _hooked_config(given: Any, where: str) -> LLMConfig:
    config = _config(given, where)
    _warn_of_lost_variables(config)
    return config


def _warn_of_lost_variables(config: LLMConfig) -> None:
    """Warn if variables of ours cannot reach the replica: in Ray, a config's ``env_vars`` replace all others."""
    actor = (config.deployment_config.get("ray_actor_options") or {}).get("runtime_env") or {}
    application = ray.get_runtime_context().runtime_env if ray.is_initialized() else {}
    given = [env.get("env_vars") for env in (config.runtime_env or {}, actor, application)]
    taken, *others = [variables for variables in given if variables is not None] or [{}]
    lost = {name for variables in others for name in variables if name.startswith("SERVE_LLM_HOOKS_")} - set(taken)
    if lost:
        logger.warning(
            "model %r: %s will not be set in its replicas and on its nodes: of the env_vars of a config's runtime_env, "
            "of its ray_actor_options and of the application, Ray takes the first that there are, and drops the "
            "others. Write it into the config's runtime_env too.",
            config.model_id,
            ", ".join(sorted(lost)),
        )


def _config(config: Any, where: str) -> LLMConfig:
    """Return a config, a dict or a file as a config of ours."""
    if isinstance(config, LLMConfig):
        # server_cls may have been assigned after the config was made.
        config.server_cls = LLMServer if config.server_cls is None else hooked_server(config.server_cls)
        return config
    if isinstance(config, str | Path):
        if not Path(config).is_file():
            raise FileNotFoundError(f"{where} names the file {str(config)!r}, which is not there")
        from_file: LLMConfig = LLMConfig.from_file(str(config))
        return from_file
    if isinstance(config, _RayLLMConfig):
        config = _fields(config)
    return LLMConfig.model_validate(config)


def _fields(model: Any) -> dict[str, Any]:
    """Return the fields that were set on a pydantic model, unconverted (``model_dump`` would convert classes).

    pydantic does not count what was changed in place (``config.deployment_config["num_replicas"] = 3``); this does.
    """
    values = {name: getattr(model, name) for name in type(model).model_fields}
    return {
        name: value
        for name, value in values.items()
        if name in model.model_fields_set
        or value != type(model).model_fields[name].get_default(call_default_factory=True)
    }


def _with_hooks(app: Application) -> Application:
    """Replace Ray's server classes in an application by hooked ones; its builders do not let us choose them.

    Ray's servers start the engine in ``start()``, whatever the class; everything else about them stays Ray's.
    """
    for part in _parts(app):
        deployment = part._bound_deployment
        _warn_of_group(deployment)
        if not (isinstance(deployment.func_or_class, type) and issubclass(deployment.func_or_class, _RayLLMServer)):
            continue
        hooked = hooked_server(deployment.func_or_class)
        if hooked is not deployment.func_or_class:
            part._bound_deployment = deployment.options(func_or_class=hooked)
    return app


def _parts(found: Any) -> Iterator[Any]:
    """Yield an application and all applications that are bound to it."""
    if isinstance(found, Application):
        yield found
        deployment = found._bound_deployment
        found = [*deployment.init_args, *deployment.init_kwargs.values()]
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        for each in found:
            yield from _parts(each)


def _warn_of_group(deployment: Any) -> None:
    """Warn if a replica's own group can never be scheduled.

    Serve asks for it before any code of ours runs, and would wait for ever.
    """
    asked = deployment._replica_config
    bundles = list(asked.placement_group_bundles or ())
    gang = deployment._deployment_config.gang_scheduling_config
    if gang is not None:
        bundles *= gang.gang_size
    strategy = asked.placement_group_strategy or "PACK"
    try:
        hopeless = bool(bundles) and never_fits(bundles, strategy)
    except Exception:  # a warning must not keep anybody from building an app
        logger.debug("cannot tell whether the cluster can hold %r", deployment.name, exc_info=True)
        return
    if hopeless:
        logger.warning(
            "deployment %r: no replica can start on this cluster, and Serve will wait for ever: asked for %s of %s; %s",
            deployment.name,
            strategy,
            ", ".join(map(str, bundles)),
            describe_nodes(),
        )
