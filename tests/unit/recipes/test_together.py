"""Recipes beside each other and beside the rest of a config: what makes no sense is told where the config is made."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import HookLoadError
from serve_llm_hooks.recipes import BakedModel, Fetch
from serve_llm_hooks_testing import FakeLLMConfig
from tests.unit.recipes.test_every_recipe import entry

MODEL = "/models/llama"
FETCH = entry("Fetch", src="s3://a/adapters", dest=MODEL)
ONE_FILE = entry("Fetch", src="s3://a/templates", dest=MODEL, files=["chat.jinja"])
FETCH_MODEL = entry("FetchModel", src="s3://a/llama", dest=MODEL)
BAKED = entry("BakedModel", path=MODEL)
CACHE = entry("CompileCache", uri="s3://a/cache", dest=MODEL)


def refused(*hooks: Any, **config: Any) -> str:
    with pytest.raises(HookLoadError) as error:
        FakeLLMConfig("m", hooks=hooks, **config)
    return str(error.value)


def test_both_are_named() -> None:
    told = "s3://a/adapters and s3://b/adapters are both fetched to /models/llama (by Fetch and Fetch): give one of"
    assert told in refused(FETCH, entry("Fetch", src="s3://b/adapters", dest=MODEL))


@pytest.mark.parametrize(
    "hooks",
    [
        [FETCH, entry("Fetch", src="s3://b/adapters", dest=MODEL)],
        [FETCH, ONE_FILE],
        [ONE_FILE, entry("Fetch", src="s3://b/*.jinja", dest=f"{MODEL}/")],
        [Fetch("s3://b/adapters", MODEL), FETCH],
        [ONE_FILE, entry("Fetch", src="s3://b/x", dest=MODEL, files=["c*", "a.json"])],
        [entry("Fetch", src="s3://a/*.json", dest=MODEL), entry("Fetch", src="s3://b/config*", dest=MODEL)],
        [entry("Fetch", src="s3://a/x.json", dest=MODEL), entry("Fetch", src="gs://b/x.json", dest=MODEL)],
        [entry("Fetch", src="s3://a/x.json", dest=MODEL), entry("Fetch", src="s3://a/y.json/", dest=MODEL)],
        [entry("Fetch", src="s3://a/x", dest=MODEL), entry("Fetch", src="s3://a/y", dest=MODEL)],
        [FETCH, FETCH_MODEL],
        [ONE_FILE, FETCH_MODEL],
        [FETCH, CACHE],
        [FETCH_MODEL, CACHE],
    ],
)
def test_two_that_bring_to_one_folder(hooks: list[Any]) -> None:
    told = refused(*hooks)
    assert f"fetched to {MODEL} (by " in told or "give CompileCache a folder of its own" in told
    [first, second] = hooks
    if isinstance(first, dict):
        assert "refuses the config" in refused(second, callback=first["hook"], callback_kwargs=first["kwargs"])


@pytest.mark.parametrize(
    "hooks",
    [
        [FETCH, FETCH],
        [FETCH, entry("Fetch", src="s3://a/adapters/", dest=MODEL)],
        [entry("Fetch", src="/mnt/x", dest=MODEL), entry("Fetch", src="file:///mnt//./x/", dest=MODEL)],
        [entry("Fetch", src="s3://a/*.json", dest=MODEL), entry("Fetch", src="s3://a/", dest=MODEL, files=["con*"])],
        [entry("Fetch", src="s3://a/x.json", dest=MODEL), entry("Fetch", src="s3://a", dest=MODEL, files=["x.json"])],
        [entry("Fetch", src="s3://a/x.d", dest=MODEL), entry("Fetch", src="s3://a/x.d/", dest=MODEL)],
        [entry("Fetch", src="s3://a/x.json", dest=MODEL), entry("Fetch", src="s3://a/y.json", dest=MODEL)],
        [entry("Fetch", src="/mnt/x.json", dest=MODEL), entry("Fetch", src="https://a/y.json", dest=MODEL)],
        [entry("Fetch", src="s3://a/*.json", dest=MODEL), entry("Fetch", src="s3://b/*.jinja", dest=MODEL)],
        [ONE_FILE, entry("Fetch", src="s3://b/adapters", dest=MODEL, files=["*.json"])],
        [entry("Fetch", src="https://a/x", dest=MODEL), entry("Fetch", src="https://b/y", dest=MODEL)],
        [FETCH, entry("Fetch", src="s3://b/adapters", dest=f"{MODEL}/b")],
        [ONE_FILE, entry("FetchModel", src="s3://a/llama", dest=MODEL, files=["*.json", "*.safetensors"])],
        [FETCH, BAKED],  # the model comes by Fetch, and BakedModel says where it is
        [FETCH_MODEL, entry("CompileCache", uri="s3://a/cache")],
    ],
)
def test_what_goes_together(hooks: list[Any]) -> None:
    FakeLLMConfig("m", hooks=hooks)


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (
            entry("CompileCache", uri="/c/archives", dest="/c"),
            "dest='/c' is saved as a whole, with the archives in /c/arc",
        ),
        (entry("CompileCache", uri="file:///c/", dest="/c/."), "dest='/c' is saved as a whole, with the archives in"),
        (entry("Fetch", src="/d", dest="/d/sub"), "/d and dest='/d/sub' are one in the other"),
        (entry("Fetch", src="/d/sub", dest="/d"), "/d/sub and dest='/d' are one in the other"),
        (entry("Fetch", src="/d/../d/*.json", dest="/d"), "are one in the other"),
        (entry("Fetch", src="/d/a.json", dest="/d"), "give Fetch a dest outside of it"),
        (entry("Fetch", src="/d", dest="/d/[a]", files=["*/config.json"]), "are one in the other"),
        (entry("Fetch", src="/*.json", dest="/models"), "are one in the other"),
        (entry("FetchModel", src="/", dest="/models"), "are one in the other"),
    ],
)
def test_a_folder_that_is_brought_into_itself(hook: Any, told: str) -> None:
    assert told in refused(hook)


@pytest.mark.parametrize(
    "hook",
    [
        entry("CompileCache", uri="/c", dest="/c/local"),
        entry("CompileCache", uri="/c", dest="/cc"),
        entry("Fetch", src="s3://d", dest="/d/sub"),
        entry("Fetch", src="/d/a.json", dest="/d/sub"),
        entry("Fetch", src="/d", dest="/d/sub", files=["config.json", "su/*"]),
        entry("Fetch", src="/a.json", dest="/d"),
        entry("FetchModel", src="/mnt/m", dest="/mnt/m2"),
    ],
)
def test_a_folder_beside_its_source(hook: Any) -> None:
    FakeLLMConfig("m", hooks=[hook])


SUB = f"{MODEL}/sub"


@pytest.mark.parametrize("is_turned", [True, False])
@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        (
            [entry("Fetch", src="s3://a/*.json", dest=MODEL), entry("Fetch", src="s3://b", dest=SUB, files=["a*"])],
            "'*.json' and 'sub/a*' may be one name",
        ),
        (
            [
                entry("FetchModel", src="s3://a", dest=MODEL, files=["s*"]),
                entry("Fetch", src="s3://b/a.json", dest=SUB),
            ],
            "(by FetchModel and Fetch): 's*' and 'sub/a.json' may be one name",
        ),
        (
            [entry("Fetch", src="s3://a/*.json", dest=MODEL), entry("Fetch", src="s3://a/sub/a*", dest=SUB)],
            None,  # what both bring is one file
        ),
        (
            [entry("Fetch", src="s3://a", dest=MODEL, files=["a*"]), entry("Fetch", src="s3://b/a*", dest=SUB)],
            None,
        ),
        (
            [entry("FetchModel", src="s3://a", dest=MODEL), entry("Fetch", src="s3://b/*.json", dest=SUB)],
            None,
        ),
        (
            [
                entry("Fetch", src="s3://a", dest=MODEL, sha256={"sub/a": "a" * 64}),
                entry("Fetch", src="s3://a/sub", dest=SUB, sha256={"a": "b" * 64}),
            ],
            f"are fetched to {MODEL} with two sha256 of 'sub/a', {'a' * 64} and {'b' * 64}: leave",
        ),
    ],
)
def test_folders_one_in_the_other(hooks: list[Any], told: str | None, is_turned: bool) -> None:
    hooks = hooks[::-1] if is_turned else hooks
    if told is None:
        FakeLLMConfig("m", hooks=hooks)
    else:
        assert told in refused(*hooks)


def test_the_globs_that_may_be_one_name_are_named() -> None:
    globs = [
        entry("Fetch", src="s3://a", dest=MODEL, files=["*.txt", "*.json"]),
        entry("Fetch", src="s3://b/con*", dest=MODEL),
    ]
    assert "(by Fetch and Fetch): '*.txt' and 'con*' may be one name: give one" in refused(*globs)


@pytest.mark.parametrize("other", ["s3://a/templates/", "s3://a/templates/chat.jinja"])
def test_one_file_with_two_checksums(other: str) -> None:
    one = ONE_FILE["kwargs"] | {"sha256": {"chat.jinja": "a" * 64}}
    two = entry("Fetch", src=other, dest=MODEL, sha256={"chat.jinja": "b" * 64, "more.jinja": "c" * 64})
    told = refused(entry("Fetch", **one), two)
    assert f"s3://a/templates and {other} are fetched to {MODEL} with two sha256 of 'chat.jinja', aaaa" in told
    assert f"and {'b' * 64}: leave the wrong one out" in told
    two["kwargs"]["sha256"] = {"chat.jinja": "A" * 64}
    FakeLLMConfig("m", hooks=[entry("Fetch", **one), two])
    FakeLLMConfig("m", hooks=[entry("Fetch", **one), ONE_FILE])


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        ([FETCH_MODEL, BAKED], "FetchModel and BakedModel both say where the engine's model is"),
        ([BAKED, FETCH_MODEL], "FetchModel and BakedModel both say where the engine's model is"),
        ([FETCH_MODEL, entry("FetchModel", src="s3://a/draft")], "FetchModel and FetchModel both say where"),
        ([BAKED, BakedModel("/opt/other")], "two BakedModel both say where"),
        ([CACHE, entry("CompileCache", uri="s3://b/cache")], "one compile cache: leave s3://a/cache or s3://b/cache"),
        ([entry("CompileCache", uri="s3://a/c", dest="/models"), BAKED], "with what BakedModel has in /models/llama"),
    ],
)
def test_two_that_say_one_thing(hooks: list[Any], told: str) -> None:
    assert told in refused(*hooks)


@pytest.mark.parametrize(
    ("hook", "config", "told"),
    [
        (CACHE, {"engine_kwargs": {"enforce_eager": True}}, "with enforce_eager vLLM compiles nothing"),
        (
            entry("RegisterToolParser", path="ours:Tools"),
            {"engine_kwargs": {"tool_call_parser": "hermes"}},
            "engine_kwargs has tool_call_parser='hermes', and ours:Tools is to be used: leave tool_call_parser out",
        ),
        (
            entry("RegisterToolParser", path="ours:Tools"),
            {"engine_kwargs": {"enable_auto_tool_choice": False}},
            "engine_kwargs has enable_auto_tool_choice=False",
        ),
        (
            entry("RegisterReasoningParser", path="ours:Thoughts"),
            {"engine_kwargs": {"reasoning_parser": "qwen3"}},
            "engine_kwargs has reasoning_parser='qwen3'",
        ),
        (
            entry("ExportEnv", NCCL_DEBUG="INFO"),
            {"runtime_env": {"env_vars": {"NCCL_DEBUG": "WARN"}}},
            "NCCL_DEBUG has another value in the config's runtime_env",
        ),
        (
            FETCH,
            {"runtime_env": {"env_vars": {"AWS_ACCESS_KEY_ID": "secret"}}},
            "s3://a/adapters: runtime_env['env_vars'] has AWS_ACCESS_KEY_ID and no AWS_SECRET_ACCESS_KEY",
        ),
    ],
)
def test_what_the_rest_of_the_config_contradicts(hook: Any, config: dict[str, Any], told: str) -> None:
    message = refused(hook, **config)
    assert told in message
    assert "secret" not in message


def test_what_agrees_with_the_config_is_taken() -> None:
    FakeLLMConfig(
        "m",
        hooks=[
            entry("RegisterToolParser", path="ours:Tools"),
            entry("RegisterToolParser", path="ours:Others", use=False),
            entry("RegisterReasoningParser", path="ours:Thoughts", use=False),
            entry("ExportEnv", NCCL_DEBUG="INFO"),
            entry("ExportEnv", OMP_NUM_THREADS=4),
        ],
        engine_kwargs={"tool_call_parser": "Tools", "reasoning_parser": "qwen3"},
        runtime_env={"env_vars": {"NCCL_DEBUG": "INFO"}},
    )


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        (
            [entry("RegisterToolParser", path="ours:A"), entry("RegisterToolParser", path="ours:B")],
            "ours:A and ours:B are both to be used: give one of them use: false",
        ),
        (
            [entry("RegisterToolParser", path="a:P"), entry("RegisterToolParser", path="b:P", use=False)],
            "a:P and b:P are both named 'P': give one another name=",
        ),
        (
            [entry("RegisterModel", arch="Llama", path="a:L"), entry("RegisterModel", arch="Llama", path="b:L")],
            "a:L and b:L are both registered as 'Llama'",
        ),
        ([entry("ExportEnv", A="1"), entry("ExportEnv", A="2")], "A has another value in another ExportEnv"),
    ],
)
def test_two_that_contradict_each_other(hooks: list[Any], told: str) -> None:
    assert told in refused(*hooks)
