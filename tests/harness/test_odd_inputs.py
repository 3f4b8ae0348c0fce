"""Test that a wrong kind of input is refused when the config is made, with our own error, which shows no value.

``tests/integration/test_config.py`` gives the same to a real ``LLMConfig``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookLoadError, InitializeNodeOutput, hook
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, assert_order, engine_fails
from serve_llm_hooks_testing._simulation.model_source import FakeMirrorConfig
from tests.unit.unreadable import HostileError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "hf_secret"
ONE = "tests.harness.test_odd_inputs:one"


class Takes:
    def __init__(self, **kwargs: object) -> None: ...

    def on_before_init(self, ctx: object) -> None: ...


class TakesNothing:
    def on_before_init(self, ctx: object) -> None: ...


def nested(depth: int) -> Any:
    """Return an entry in an entry in an entry."""
    entry: Any = {"hook": Takes}
    for _ in range(depth):
        entry = {"hook": entry}
    return entry


def listed(depth: int) -> Any:
    """Return a list in a list in a list."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "a mapping as callback": ({"callback": "os:environ"}, "callback 'os:environ' is not callable: an os._Environ"),
    "a mapping as a phase callback": ({"callbacks": ["os:environ"]}, "is not callable: an os._Environ"),
    "a mapping as initialization_class": ({"initialization_class": "os:environ"}, "is not callable: an os._Environ"),
    "a mapping as a hook": ({"hooks": ["os:environ"]}, "hook 'os:environ' is not decorated"),
    "a mapping as an entry's hook": ({"hooks": [{"hook": "os:environ"}]}, "hook 'os:environ' is not decorated"),
    "a mapping as an entry": ({"hooks": [dict(os.environ, TOKEN=SECRET)]}, "has the keys 'hook' and 'kwargs'"),
    "a callback that is no class": ({"callback": {"token": SECRET}}, "has no hooks: name its methods after"),
    "hooks in a mapping": ({"hooks": {"token": SECRET}}, "hooks= is a list, .*, not a dict"),
    "a variable as hooks": ({"hooks": f"TOKEN={SECRET}"}, "hooks= is a list, .*, not a str"),
    "a URL as hooks": ({"hooks": f"https://u:{SECRET}@host/hooks"}, "hooks= is a list, .*, not a str"),
    "one path as hooks": ({"hooks": "my_company.llm_hooks"}, "hooks= is a list, .*, not 'my_company.llm_hooks'"),
    "a URL as callbacks": ({"callbacks": f"https://u:{SECRET}@host"}, "callbacks= is a list, .*, not a str"),
    "a text as an entry's kwargs": (
        {"hooks": [{"hook": ONE, "kwargs": f"token={SECRET}"}]}, "'kwargs' of hook .*:one' is a mapping.*, not a str"),
    "a URL as a hook": (
        {"hooks": [f"https://u:{SECRET}@host/hooks.py"]}, r"hooks=\[...\] is the URL 'https://…@host/hooks.py', and"),
    "a URL with a function": ({"hooks": [f"https://u:{SECRET}@host/hooks.py:f"]}, "is the URL 'https://…@host/"),
    "a signed URL": ({"hooks": [{"hook": f"https://host/hooks.py?sig={SECRET}"}]}, r"URL 'https://host/hooks.py\?…'"),
    "a URL as a hook with no kwargs": (
        {"hooks": [{"hook": f"https://{SECRET}@host", "kwargs": 5}]}, "'kwargs' of hook 'https://…@host' is a mapping"),
    "a URL as callback": ({"callback": f"https://u:{SECRET}@host/a"}, "a callback is the URL 'https://…@host/a', and"),
    "a URL as a phase callback": ({"callbacks": [f"https://u:a/{SECRET}@host"]}, "the URL 'https://…@host', and"),
    "a URL as initialization_class": ({"initialization_class": f"https://u:{SECRET}@host"}, "the URL 'https://…@host'"),
    "callbacks that are none": ({"callbacks": 5}, "callbacks= is a list, .*, not an int"),
    "arguments without a class": ({"callback_kwargs": {"token": SECRET}}, "{'token': …} without callback="),
    "arguments that do not fit": (
        {"callback": TakesNothing, "callback_kwargs": {"token": SECRET}}, "callback_kwargs={'token': …}: there is no"),
    "parameters that do not fit": (
        {"hooks": [{"hook": ONE, "kwargs": {"token": SECRET}}]}, "cannot be called with parameters {'token': …}"),
    "arguments whose names are none": ({"hooks": [{"hook": Takes, "kwargs": {1: SECRET}}]}, "as strings, and not 1"),
    "parameters whose names are none": ({"hooks": [{"hook": ONE, "kwargs": {1: 2}}]}, "as strings, and not 1"),
    "entries in entries": ({"hooks": [nested(10_000)]}, "not another mapping"),
    "lists in lists": ({"hooks": [listed(10_000)]}, "not a list"),
    "nobody's home": ({"hooks": ["~nobody-of-that-name/x.py"]}, "is no path of a file: RuntimeError"),
    "a NUL": ({"hooks": ["hooks/\0.py"]}, "is no path of a file: ValueError"),
    "half a surrogate": ({"hooks": ["hooks/\ud800.py"]}, "is no path of a file: UnicodeEncodeError"),
    "a path that is too long": ({"hooks": [f"{'x' * 5000}/x.py"]}, "is no path of a file: OSError"),
    "a class of the wrong kind": ({"callback": 5}, "has no hooks: name its methods after"),
}  # fmt: skip


@hook("on_before_init")
def one(ctx: object) -> None: ...


def refuse(make: Callable[..., Any], fields: dict[str, Any], message: str) -> None:
    """Assert that a config is refused with our own error, and that its message shows no value."""
    with pytest.raises((HookLoadError, TypeError, ValueError), match=message) as caught:
        make(**fields)
    text = str(caught.value)
    assert SECRET not in text
    assert os.environ["PATH"] not in text
    assert len(text) < 20_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("fields", "message"), ODD.values(), ids=ODD)
def test_an_odd_field(fields: dict[str, Any], message: str) -> None:
    refuse(lambda **given: FakeLLMConfig("m", **given), fields, message)


SOURCES: dict[str, tuple[Any, str]] = {
    "a misspelt key": ({"bucket_url": "s3://b"}, "takes no 'bucket_url' .did you mean 'bucket_uri'"),
    "a folder's URL": ({"bucket_uri": "file:///m"}, 'Got invalid value "file:///m" for bucket_uri'),
    "a web server's URL": ({"bucket_uri": "https://me:pw@host/m"}, 'invalid value "https://…@host/m" for bucket_uri'),
    "no bucket": ({"bucket_uri": ""}, "for bucket_uri"),
    "a number as bucket": ({"bucket_uri": 5}, "is a bucket"),
    "files that are no list": ({"bucket_uri": "s3://b", "extra_files": None}, "is a list, not None"),
    "a file that is none": ({"extra_files": ["s3://b"]}, "a mapping with bucket_uri and destination_path"),
    "a file without a place": ({"extra_files": [{"bucket_uri": "s3://b"}]}, "'destination_path' of an entry must be"),
    "a file with more": (
        {"extra_files": [{"bucket_uri": "s3://b", "destination_path": "/x", "mode": 1}]}, "takes no 'mode'"),
}  # fmt: skip

LOADING: dict[str, tuple[dict[str, Any], str]] = {
    "a text": ({"model_loading_config": "m"}, "is a mapping, as in"),
    "another key": ({"model_loading_config": {"model_id": "m", "source": "x"}}, "takes no 'source'"),
    "without a name": ({"model_loading_config": {"model_source": "/m"}}, "model_id is the model's name, not None"),
    "two names": ({"model_id": "a", "model_loading_config": {"model_id": "b"}}, "differ; give one"),
    "two sources": ({"model_source": "/m", "model_loading_config": {"model_id": "m"}}, "give one"),
    "a tokenizer that is none": ({"model_loading_config": {"model_id": "m", "tokenizer_source": 5}}, "Hugging Face id"),
    "no name at all": ({}, "model_id is the model's name, not None"),
}


@pytest.mark.parametrize(("source", "message"), SOURCES.values(), ids=SOURCES)
def test_a_source_that_ray_refuses(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeLLMConfig("m", model_source=source)
    with pytest.raises(ValueError, match=message):
        FakeLLMConfig(model_loading_config={"model_id": "m", "model_source": source})


@pytest.mark.parametrize(("fields", "message"), LOADING.values(), ids=LOADING)
def test_a_model_loading_config_that_ray_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeLLMConfig(**fields)


def test_a_model_loading_config() -> None:
    config = FakeLLMConfig(model_loading_config={"model_id": "m", "model_source": {"bucket_uri": "s3://b/m"}})
    assert config.model_id == "m"
    assert isinstance(config.model_loading_config.model_source, FakeMirrorConfig)
    assert config.model_loading_config.model_source.bucket_uri == "s3://b/m"
    assert FakeLLMConfig("m", model_loading_config={}).model_loading_config.model_source is None
    assert FakeLLMConfig(model_loading_config=config.model_loading_config).model_id == "m"  # type: ignore[arg-type]  # one made already


GROUPS: dict[str, tuple[Any, str]] = {
    "a list": ([{"CPU": 1}], "is a mapping with bundles"),
    "neither": ({"strategy": "PACK"}, "must specify either"),
    "both": ({"bundles": [{}], "bundle_per_worker": {}}, "must specify either"),
    "another key": ({"bundles": [{}], "strategie": "PACK"}, "did you mean 'strategy'"),
    "another strategy": ({"bundles": [{}], "strategy": "TIGHT"}, "is one of PACK, SPREAD"),
    "bundles in a mapping": ({"bundles": {"CPU": 1}}, "is a list of bundles"),
    "a bundle of text": ({"bundles": ["CPU"]}, "a mapping of resources"),
    "less than nothing": ({"bundles": [{"CPU": -1}]}, "must be a number, 0 or more, not -1"),
    "a number in words": ({"bundle_per_worker": {"CPU": "1"}}, "0 or more, not '1'"),
}


@pytest.mark.parametrize(("group", "message"), GROUPS.values(), ids=GROUPS)
def test_a_group_that_ray_refuses(group: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeLLMConfig("m", placement_group_config=group)


def test_what_an_engine_runs_on() -> None:
    cpu = {"bundles": [{"CPU": 1}]}
    assert FakeLLMConfig("m").accelerator_config.kind == "gpu"
    assert FakeLLMConfig("m", placement_group_config=cpu).accelerator_config.kind == "cpu"
    assert FakeLLMConfig("m", placement_group_config={"bundles": [{"TPU": 4}]}).accelerator_config.kind == "tpu"
    with pytest.raises(ValueError, match="cannot be used with CPU-only"):
        FakeLLMConfig("m", accelerator_type="L4", accelerator_config={"kind": "cpu"})
    with pytest.raises(ValueError, match="accelerator_config="):
        FakeLLMConfig("m", accelerator_config={"kind": "npu"})
    with pytest.raises(ValueError, match="accelerator_type="):
        FakeLLMConfig("m", accelerator_type="")
    with pytest.raises(ValueError, match="disable_log_stats cannot be set to True"):
        FakeLLMConfig("m", engine_kwargs={"disable_log_stats": True})
    FakeLLMConfig("m", engine_kwargs={"disable_log_stats": True}, log_engine_metrics=False)


OF_THE_FAKE: dict[str, tuple[dict[str, Any], str]] = {
    "a number as source": ({"model_source": 5}, "model_source= is a Hugging Face id, .*, not 5"),
    "a text as runtime_env": (
        {"runtime_env": f"TOKEN={SECRET}"}, "runtime_env= is a mapping, from names to values, not a str"),
    "a variable in a text": (
        {"runtime_env": {"env_vars": f"TOKEN={SECRET}"}}, r"runtime_env\['env_vars'\]= is a mapping.*not a str"),
    "a text as arguments of a class": (
        {"callback": Takes, "callback_kwargs": f"token={SECRET}"}, "callback_kwargs= is a mapping.*, not a str"),
    "a text as arguments of an initialization": (
        {"initialization_kwargs": f"token={SECRET}"}, "initialization_kwargs= is a mapping.*, not a str"),
    "a text as group": ({"placement_group_config": SECRET}, "placement_group_config= is a mapping.*, not a str"),
    "a text as bundles": ({"placement_group_config": {"bundles": SECRET}}, "is a list of bundles, not a str"),
    "a text as a bundle": ({"placement_group_config": {"bundles": [SECRET]}}, "of resources.*, not a str"),
    "a text as accelerator": ({"accelerator_config": SECRET}, "accelerator_config= is .*, not a str"),
    "a text as lora_config": ({"lora_config": f"token={SECRET}"}, "lora_config= is a mapping.*, not a str"),
    "a text as a model's source": ({"model_loading_config": f"token={SECRET}"}, "is a mapping.*, not a str"),
    "a text as files": (
        {"model_source": {"bucket_uri": "s3://b", "extra_files": SECRET}}, r"extra_files'\] is a list, not a str"),
    "a text as a file": (
        {"model_source": {"bucket_uri": "s3://b", "extra_files": [SECRET]}}, "extra_files is a mapping.*, not a str"),
    "variables in a list": (
        {"runtime_env": {"env_vars": ["A=1"]}}, r"runtime_env\['env_vars'\]= is a mapping.*not a list"),
    "a variable that is no text": ({"runtime_env": {"env_vars": {"A": 1}}}, r"\['A'\] must be a string, not an int"),
    "a list of arguments": ({"engine_kwargs": [1]}, "engine_kwargs= is a mapping, from names to values, not a list"),
    "an argument without a name": ({"engine_kwargs": {1: 2}}, "as strings, and not 1"),
    "a size in words": ({"engine_kwargs": {"tensor_parallel_size": "2"}}, "must be a whole number, 1 or more, not '2'"),
    "a list of kwargs": ({"callback": Takes, "callback_kwargs": [1]}, "callback_kwargs= is a mapping"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), OF_THE_FAKE.values(), ids=OF_THE_FAKE)
def test_an_odd_field_that_ray_checks_itself(fields: dict[str, Any], message: str) -> None:
    refuse(lambda **given: FakeLLMConfig("m", **given), fields, message)


def test_no_variables_are_none() -> None:
    assert FakeLLMConfig("m", runtime_env={"env_vars": None}).runtime_env == {"env_vars": None}


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "x.py").symlink_to(tmp_path / "y.py")
    (tmp_path / "y.py").symlink_to(tmp_path / "x.py")
    with pytest.raises(HookLoadError, match=r"is no path of a file|is not there"):
        FakeLLMConfig("m", hooks=[str(tmp_path / "x.py")])


def test_a_timeout_beyond_all_numbers() -> None:
    with pytest.raises(
        ValueError, match="timeout_s= is a positive number of seconds, at most 1e12, as in 600, not a larger"
    ):
        hook("on_before_init", timeout_s=10**400)(one)


class Lazy:
    """As werkzeug's LocalProxy: it passes everything on, and there is nothing to pass it on to."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of request context")

    def __call__(self) -> None: ...


def test_a_lazy_proxy_beside_the_hooks(tmp_path: Path) -> None:
    file = tmp_path / "with_proxy.py"
    file.write_text(
        "from serve_llm_hooks import hook\nfrom tests.harness.test_odd_inputs import Lazy\nrequest = Lazy()\n\n"
        "@hook('on_before_init')\ndef fine(ctx): ...\n"
    )
    assert FakeLLMConfig("m", hooks=[str(file)]).hooks == [str(file)]


def test_an_output_shows_names_and_no_values() -> None:
    output = InitializeNodeOutput(None, {"env_vars": {"TOKEN": SECRET}, "pip": ["x"]}, {"hf_token": SECRET})
    assert repr(output) == (
        "InitializeNodeOutput(None, runtime_env={'env_vars': {'TOKEN': …}, 'pip': …}, "
        "extra_init_kwargs={'hf_token': …})"
    )


def test_a_config_and_a_context_show_no_values() -> None:
    from serve_llm_hooks import CallbackCtx, NodeCtx

    config = FakeLLMConfig("m", runtime_env={"env_vars": {"TOKEN": SECRET}}, engine_kwargs={"hf_token": SECRET})
    assert repr(config) == "<FakeLLMConfig of model 'm'>"
    assert repr(CallbackCtx(llm_config=config)) == "<CallbackCtx of model 'm'>"
    ctx = NodeCtx(model_id="m", node_id="n1")
    ctx.custom_data["token"] = SECRET
    assert repr(ctx) == "<NodeCtx of model 'm' on node n1>"


@pytest.mark.parametrize("kind", [UnreadableError, HostileError])
def test_a_run_can_be_printed_whatever_the_engine_raised(kind: type[Exception]) -> None:
    error = kind("the text")
    hooks = [one, hook("on_after_init")(lambda ctx: None)]
    run = FakeCluster(faults=[engine_fails(error)]).run(FakeLLMConfig("m", hooks=hooks), check=False)
    assert f"failed: {type(error).__name__}: " in str(run)
    assert f"failed with {type(error).__name__}" in repr(run)
    with pytest.raises(AssertionError, match=type(error).__name__):
        assert_order(run, "one", "on_after_init")
