"""Read what ``serve run config.yaml`` takes, and refuse what Ray would refuse, with the line of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serve_llm_hooks_testing.yaml_file import YamlFile, describe, without_login

from .model import Model
from .refused import Refused

# The fields of Ray's LLMConfig, and those of ours; a test compares them with the classes.
RAYS_FIELDS = (
    "accelerator_config",
    "accelerator_type",
    "callback_config",
    "deployment_config",
    "engine_kwargs",
    "experimental_configs",
    "llm_engine",
    "log_engine_metrics",
    "lora_config",
    "model_loading_config",
    "placement_group_config",
    "runtime_env",
    "server_cls",
)
OUR_FIELDS = (
    "callback",
    "callback_kwargs",
    "callbacks",
    "hooks",
    "initialization_class",
    "initialization_kwargs",
    "model_id",
    "weights",
)
ENGINES = ("vLLM",)
LOADING_FIELDS = ("model_id", "model_source", "tokenizer_source")
# Fields that may be left out, and not be null, as they are when all that stands under them is commented out.
NEVER_NULL: tuple[str, ...] = (
    "callback_config",
    "callback_kwargs",
    "deployment_config",
    "engine_kwargs",
    "experimental_configs",
    "initialization_kwargs",
    "llm_engine",
)

OUR_ROOM, RAYS_ROOM = "serve_llm_hooks.ray", "ray.serve.llm"
# The builders, and the keys of their args that hold configs.
BUILDERS: dict[str, tuple[str, ...]] = {
    "build_openai_app": ("llm_configs",),
    "build_dp_openai_app": ("llm_config",),
    "build_pd_openai_app": ("prefill_config", "decode_config"),
}
_INGRESS = ("ingress_cls_config", "ingress_deployment_config")
# The other keys of their args; of the proxy's, only Ray 2.58 knows.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "build_openai_app": _INGRESS,
    "build_dp_openai_app": _INGRESS,
    "build_pd_openai_app": (*_INGRESS, "proxy_cls_config", "proxy_deployment_config"),
}


def read_models(file: str) -> list[Model]:
    """Return the models of a ``serve run`` YAML.

    Raises:
        Refused: Ray would refuse it, or it holds no model whose hooks could be known from it.
    """
    yaml = YamlFile(file, Refused)
    found: list[Model] = []
    others: list[str] = []
    for index, application in enumerate(_applications(yaml)):
        room, _, builder = application["import_path"].replace(":", ".").rpartition(".")
        if room in (OUR_ROOM, RAYS_ROOM) and builder in BUILDERS:
            found += _models(yaml, index, application, room == OUR_ROOM, builder)
        else:
            name, path = describe(application.get("name", "default")), without_login(application["import_path"])
            others.append(f"application {name} ({path})")
    if not found:
        raise Refused(
            f"{file} has no model whose hooks are in the file: {', '.join(others) or 'there are no applications'}. "
            "What your own code builds is asked for by its hooks: serve-llm-hooks plan my_company.llm_hooks --model ID"
        )
    return found


def _applications(yaml: YamlFile) -> list[dict[str, Any]]:
    """Return the applications, checked as Ray's schema checks them."""
    if not isinstance(yaml.value, dict) or "applications" not in yaml.value:
        yaml.refuse("`serve run` takes a mapping with a list of `applications`, as docs/deploying.md shows")
    applications = yaml.value["applications"]
    if not isinstance(applications, list):
        yaml.refuse("applications is a list", "applications")
    names: dict[str, int] = {}
    routes: dict[str, int] = {}
    for index, application in enumerate(applications):
        at = ("applications", index)
        if not isinstance(application, dict):
            yaml.refuse("an application is a mapping, with name, import_path and args", *at)
        _check_import_path(yaml, index, application)
        for key in ("args", "runtime_env"):
            if not isinstance(application.get(key, {}), dict):
                yaml.refuse(f"{key} of an application is a mapping", *at, key)
        for key in ("host", "port"):
            if key in application:
                yaml.refuse(
                    f"{key} stands at the top of the file, in http_options, and not in an application", *at, key
                )
        for key, default, seen in (("name", "default", names), ("route_prefix", "/", routes)):
            value = application.get(key, default)
            if key == "name" and (not isinstance(value, str) or not value):
                yaml.refuse("the name of an application is a text", *at, key)
            if value is None:
                continue
            if not isinstance(value, str):
                yaml.refuse(f"{key} of an application is a text, or null: as in {key}: /llm", *at, key)
            if seen.setdefault(value, index) != index:
                first = yaml.at("applications", seen[value], key)
                yaml.refuse(f"{key} {describe(value)} is that of two applications; the other is at {first}", *at, key)
    return applications


def _check_import_path(yaml: YamlFile, index: int, application: Mapping[str, Any]) -> None:
    path = application.get("import_path")
    if path is None:
        yaml.refuse(
            "an application has an import_path, as in serve_llm_hooks.ray:build_openai_app", "applications", index
        )
    parts = path.split(":" if ":" in path else ".") if isinstance(path, str) else []
    if len(parts) < 2 or not all(parts) or (":" in str(path) and len(parts) > 2):
        yaml.refuse(f"import_path is 'module:name', not {describe(path)}", "applications", index, "import_path")


def _models(yaml: YamlFile, index: int, application: Mapping[str, Any], is_ours: bool, builder: str) -> Iterator[Model]:
    args = application.get("args", {})
    keys = BUILDERS[builder]
    for key in keys:
        at: tuple[str | int, ...] = ("applications", index, "args", key)
        if args.get(key) is None:
            yaml.refuse(f"{application['import_path']} needs {key} in args", *at)
        if key == "llm_configs" and (not isinstance(args[key], list) or not args[key]):
            yaml.refuse("llm_configs is a list of one model or more, as in llm_configs: [model.yaml]", *at)
    _check_names(yaml, ("applications", index, "args"), args, (*keys, *ARGUMENTS[builder]))
    for key in keys:
        at = ("applications", index, "args", key)
        given = enumerate(args[key]) if key == "llm_configs" else [(None, args[key])]
        seen: dict[str, int | None] = {}
        for number, config in given:
            place = at if number is None else (*at, number)
            if isinstance(config, str):  # a file of its own, which Ray looks for in the folder it runs in
                file = YamlFile(config, Refused)
                model = _model(file, (), file.value, application, is_ours)
            else:
                model = _model(yaml, place, config, application, is_ours)
            first = seen.setdefault(model.model_id, number)
            if first is not None and first != number:
                whose = f"model_id {describe(model.model_id)} is that of two models of one application"
                yaml.refuse(f"{whose}; the other is at {yaml.at(*at, first)}", *place)
            yield model


def _model(
    yaml: YamlFile, at: tuple[str | int, ...], config: object, application: Mapping[str, Any], is_ours: bool
) -> Model:
    if not isinstance(config, dict):
        yaml.refuse("the config of a model is a mapping, or the path of a YAML file with one", *at)
    _check_names(yaml, at, config, (*RAYS_FIELDS, *OUR_FIELDS) if is_ours else RAYS_FIELDS, ours=OUR_FIELDS)
    _check_values(yaml, at, config)
    loading = config.get("model_loading_config")
    loading = {} if loading is None else loading
    if not isinstance(loading, dict):
        yaml.refuse("model_loading_config is a mapping, with model_id and model_source", *at, "model_loading_config")
    _check_names(yaml, (*at, "model_loading_config"), loading, LOADING_FIELDS)
    given = [value for value in (config.get("model_id"), loading.get("model_id")) if value is not None]
    if not given:
        yaml.refuse("a model has a model_id", *at)
    if any(not isinstance(value, str) or value != given[0] for value in given):
        yaml.refuse("model_id is one text, and the same here and in model_loading_config", *at, "model_id")
    return Model(
        model_id=given[0],
        fields=config,
        application=without_login(str(application.get("name", "default"))),
        where=yaml.at(*at),
        places={name: yaml.at(*at, name) for name in config},
        environ=_environ(config, application),
        is_ours=is_ours,
    )


def _check_names(
    yaml: YamlFile, at: tuple[str | int, ...], given: Mapping[Any, Any], known: Iterable[str], ours: Iterable[str] = ()
) -> None:
    names = list(known)
    for name in given:
        if name in names:
            continue
        if name in ours:
            yaml.refuse(
                f"Ray's own config has no field {name!r}: write import_path: serve_llm_hooks.ray:build_openai_app (or "
                "the other of its builders)",
                *at,
                name,
            )
        hint = _nearest(str(name), names) or f". Its fields: {', '.join(names)}"
        yaml.refuse(
            f"{at[-1] if at and isinstance(at[-1], str) else 'a config'} has no field {describe(name)}{hint}", *at, name
        )


def _check_values(yaml: YamlFile, at: tuple[str | int, ...], config: Mapping[str, Any]) -> None:
    """Refuse null where a value must be, and the values of fields that Ray has a list of."""
    for name in NEVER_NULL:
        if name in config and config[name] is None:
            yaml.refuse(f"{name} has no value: give it one, or leave it out", *at, name)
    known = {"llm_engine": ENGINES, "accelerator_type": accelerator_types()}
    for name, values in known.items():
        value = config.get(name)
        if value is None or not values or value in values:
            continue
        if not isinstance(value, str):
            yaml.refuse(f"{name} is a text", *at, name)
        hint = _nearest(value, values) or f". It knows {', '.join(values)}"
        yaml.refuse(f"Ray knows no {name} {describe(value)}{hint}", *at, name)
    hardware = config.get("accelerator_config")
    if config.get("accelerator_type") and isinstance(hardware, Mapping) and hardware.get("kind") == "cpu":
        yaml.refuse(
            "accelerator_type is not for accelerator_config: {kind: cpu}: leave it out", *at, "accelerator_type"
        )


def _nearest(given: str, known: Iterable[str]) -> str:
    """Return the hint to the nearest name, or nothing; one that differs in its case alone is nearer than any other."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), lower, n=1)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""


@cache
def accelerator_types() -> tuple[str, ...]:
    """Return the types that the Ray installed here knows; none without one. Ray is not imported for that."""
    spec = find_spec("ray")
    if spec is None or spec.origin is None:  # a folder of that name has none
        return ()
    file = Path(spec.origin).with_name("util") / "accelerators/accelerators.py"
    try:
        found = re.findall(r'^\w+ = "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ()
    return (*found, "A10") if found else ()  # which Ray takes for A10G


def _environ(config: Mapping[str, Any], application: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that a replica would have besides: Ray takes the first that there are."""
    deployment = config.get("deployment_config")
    options = deployment.get("ray_actor_options") if isinstance(deployment, dict) else None
    for owner in (config, options, application):
        env = owner.get("runtime_env") if isinstance(owner, Mapping) else None
        variables = env.get("env_vars") if isinstance(env, Mapping) else None
        if isinstance(variables, Mapping):
            return {str(name): str(value) for name, value in variables.items()}
    return {}
