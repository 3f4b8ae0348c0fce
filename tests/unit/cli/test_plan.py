"""``serve-llm-hooks plan``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks.cli.values import MASKED, shown
from tests.docs_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import HookPoint

    from .conftest import Answer

    Cli = Callable[..., Answer]
    Write = Callable[..., Path]

HOOKS = """
@hook("on_before_download", model_id="llama-*", order=3)
def second(ctx): ...

@hook("on_before_download", before="second", timeout_s=60, on_error="warn")
def first(ctx, *, folder="/scratch", api_key=""): ...

@hook("on_after_node_download")
async def unpack(ctx): ...
"""

CONFIG = """\
applications:
  - name: llm
    import_path: serve_llm_hooks.ray:build_openai_app
    args:
      llm_configs:
        - model_id: llama-2
          hooks: [acme_hooks]
"""


LASTING = """
@hook("on_before_init")
def timed(ctx): yield

@hook("on_before_node_download", until="on_after_node_download")
def mounted(ctx): yield

@hook("on_before_init", until="on_after_init")
def fetches(ctx): ...
"""


def test_what_lasts_is_told(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", LASTING)
    answer = cli("plan", "acme_hooks")
    assert "has a `yield`; what follows it runs at the end of the start;" in answer.out
    assert "has a `yield`; what follows it runs at on_after_node_download;" in answer.out
    assert "in the background until on_after_init;" in answer.out


RECIPES = "serve_llm_hooks.recipes"


def test_the_demos_hooks_in_their_order(cli: Cli) -> None:
    answer = cli("plan", ROOT / "examples/demo.yaml", "--app-dir", ROOT / "examples", "--json")
    assert answer.code == 0, answer.err
    [model] = answer.json["models"]
    assert model["model_id"] == "smollm2"
    assert model["config"].endswith("examples/demo.yaml:8")
    assert [(hook["point"], hook["hook"], hook["where"]) for hook in model["hooks"]] == [
        ("on_before_node_download", "demo_hooks:check_disk", "node"),
        ("on_before_node_download", f"{RECIPES}.check_node:CheckNode.on_before_node_download", "node"),
        ("on_before_engine_init", "demo_hooks:short_context", "replica"),
        ("on_after_engine_init", f"{RECIPES}.warm_up:WarmUp.on_after_engine_init", "replica"),
        ("on_after_init", "demo_hooks:timings", "replica"),
    ]
    assert model["hooks"][0]["parameters"] == {"min_free_gib": 0.5}
    assert [(hook["hook"], hook["why"]) for hook in model["not_run"]] == [
        ("demo_hooks:never", "it is for other models: model_id='another-model'")
    ]


def test_a_hook_with_all_that_it_says(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module("acme_hooks", HOOKS)
    write_yaml(CONFIG.replace("[acme_hooks]", "[acme_hooks, {hook: 'acme_hooks:first', kwargs: {api_key: hunter2}}]"))
    answer = cli("plan", "config.yaml")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        "model llama-2 (llm, config.yaml:6)",
        "  on_before_download, once, in the replica",
        "    1. acme_hooks:first",
        "       acme_hooks.py:6",
        "       before second; timeout 60 s; a failure is a warning",
        f"       api_key = {MASKED!r}",
        "    2. acme_hooks:second",
        "       acme_hooks.py:3",
        "       order 3; no timeout; a failure ends the start",
        "  on_after_node_download, on every node of the placement group",
        "    3. acme_hooks:unpack",
        "       acme_hooks.py:9",
        "       no timeout; a failure ends the start",
    ]


def test_a_hook_that_runs_once_per_node(cli: Cli, write_module: Write) -> None:
    write_module(
        "acme_hooks",
        """
        @hook("on_before_node_download", once_per_node="weights-{model_id}")
        def fetch(ctx): ...

        @hook("on_after_node_download", once_per_node=True)
        def unpack(ctx): ...
        """,
    )
    lines = [line.strip() for line in cli("plan", "acme_hooks").out.splitlines()]
    assert "no timeout; once per node for 'weights-{model_id}'; a failure ends the start" in lines
    assert "no timeout; once per node and rollout; a failure ends the start" in lines
    hooks = cli("plan", "acme_hooks", "--json").json["models"][0]["hooks"]
    assert [hook["once_per_node"] for hook in hooks] == ["weights-{model_id}", True]


def test_references_and_models(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", HOOKS)
    assert [model["model_id"] for model in cli("plan", "acme_hooks", "--json").json["models"]] == ["llama-*"]
    answer = cli("plan", "acme_hooks", "--model", "qwen", "--model", "llama-3", "--json")
    qwen, llama = answer.json["models"]
    assert [hook["hook"] for hook in qwen["hooks"]] == ["acme_hooks:first", "acme_hooks:unpack"]
    assert len(llama["hooks"]) == 3
    assert [hook["hook"] for hook in cli("plan", "acme_hooks:unpack", "--json").json["models"][0]["hooks"]] == [
        "acme_hooks:unpack"
    ]


def test_nothing_is_wider_than_the_terminal(cli: Cli, write_module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(
        "acme_hooks", HOOKS + "\n@hook('on_failure')\ndef a_name_that_is_longer_than_forty_columns_by_far(ctx): ..."
    )
    monkeypatch.setenv("COLUMNS", "40")
    answer = cli("plan", "acme_hooks")
    assert max(map(len, answer.out.splitlines())) <= 40
    assert "a_name_that_is_longer_than_forty_columns_by_far" in "".join(answer.out.split())


def test_classes_phase_functions_and_what_replaces_everything(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module(
        "acme_hooks",
        """
        class Setup:
            def __init__(self, password="", size=1): ...

            def on_before_init(self, ctx): ...

        def phases(phase, config, data): ...

        class Replace:
            async def initialize(self, llm_config): ...

        @hook("on_before_download")
        def choose(ctx): ...
        """,
    )
    write_yaml(
        CONFIG
        + "          callback: acme_hooks:Setup\n          callback_kwargs: {password: hunter2, size: 7}\n"
        + "          callbacks: [acme_hooks:phases]\n"
    )
    answer = cli("plan", "config.yaml")
    assert answer.code == 0, answer.err
    assert "hunter2" not in answer.out
    lines = [line.strip() for line in answer.out.splitlines()]
    assert "1. acme_hooks:Setup.on_before_init" in lines
    assert "acme_hooks.py:6" in lines
    assert "size = 7" in lines
    assert "phase pre_download; no timeout; a failure ends the start" in lines

    write_yaml(CONFIG + "          initialization_class: acme_hooks:Replace\n")
    [model] = cli("plan", "config.yaml", "--json").json["models"]
    assert [hook["point"] for hook in model["hooks"]] == ["on_before_init", "on_custom_init"]
    [choose] = model["not_run"]
    assert choose["why"] == ("initialization_class=acme_hooks:Replace skips the defaults, and this point with them")


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize("point", HOOK_POINTS.values(), ids=lambda point: point.name)
def test_what_comes_of_a_failure(cli: Cli, write_module: Write, point: HookPoint, on_error: str) -> None:
    """Only a step of a start can end it: the failure of what runs later is logged."""
    begin = "\n@hook('on_before_init')\ndef begin(ctx): return False" if point.name == "on_custom_init" else ""
    write_module("acme_hooks", f"@hook({point.name!r}, on_error={on_error!r})\ndef act(ctx): ...{begin}")
    out = cli("plan", "acme_hooks").out
    said = next(line for line in out.partition("acme_hooks:act")[2].splitlines() if "a failure " in line)
    of_a_start = "a failure ends the start" if on_error == "raise" else "a failure is a warning"
    assert said.endswith(of_a_start if point.during == "start" else "a failure is logged")
    assert ("Serve leaves" in said) == (point.during == "shutdown")


def test_a_take_over_that_nothing_leads_to(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", '@hook("on_custom_init")\ndef take_over(ctx): ...')
    answer = cli("plan", "acme_hooks")
    assert "no hook would run" in answer.out
    assert "take_over at on_custom_init: its point is reached only when the defaults are skipped" in answer.out


def test_hooks_that_are_turned_off(
    cli: Cli, write_module: Write, write_yaml: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("acme_hooks", HOOKS)
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "first")
    assert "acme_hooks:first at on_before_download: turned off by 'first' in SERVE_LLM_HOOKS_DISABLE" in (
        cli("plan", "acme_hooks").out
    )
    # A config's variables are those of its replicas.
    write_yaml(CONFIG + "          runtime_env: {env_vars: {SERVE_LLM_HOOKS_DISABLE: unpack}}\n")
    [model] = cli("plan", "config.yaml", "--json").json["models"]
    assert [hook["hook"] for hook in model["not_run"]] == ["acme_hooks:unpack"]
    assert os.environ["SERVE_LLM_HOOKS_DISABLE"] == "first"


def test_hooks_that_are_not_allowed(cli: Cli, write_module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module("acme_hooks", "raise SystemExit('imported')")
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "other.*")
    answer = cli("plan", "acme_hooks")
    assert answer.code == 1
    assert (
        "would not start: 'acme_hooks' in hooks=[...] may not run in this process: SERVE_LLM_HOOKS_ALLOW=" in answer.out
    )


@pytest.mark.parametrize(
    ("fields", "line", "why"),
    [
        (["callback: acme_hooks:Setup", "callbacks: ['nope.mod:f']"], 8, "callback 'nope.mod:f'"),
        (["callback: acme_hooks:Setup", "initialization_class: nope.mod:F"], 8, "callback 'nope.mod:F'"),
        (["initialization_class: acme_hooks:Init", "callback: nope.mod:F"], 8, "callback 'nope.mod:F'"),
        (["callbacks: []", "callback: acme_hooks:Setup", "callback_kwargs: {sice: 3}"], 8, "acme_hooks:Setup("),
        (["callback: acme_hooks:Setup", "hooks: ['acme-hooks']"], 8, "'acme-hooks' in hooks=[...] is no module path"),
    ],
)
def test_the_line_of_a_callback_is_that_of_its_own_field(
    cli: Cli, write_module: Write, write_yaml: Write, fields: list[str], line: int, why: str
) -> None:
    write_module(
        "acme_hooks",
        """
        class Setup:
            def __init__(self, size=1): ...
            def on_before_init(self, ctx): ...

        class Init:
            async def initialize(self, llm_config): ...
        """,
    )
    head = "".join(CONFIG.splitlines(keepends=True)[:6])
    write_yaml(head + "".join(f"          {field}\n" for field in fields))
    answer = cli("plan", "config.yaml")
    assert answer.code == 1
    assert f"would not start: config.yaml:{line}: {why}" in answer.out


@pytest.mark.parametrize("command", ["plan", "dry-run", "check", "explore"])
def test_a_field_that_cannot_be_is_told_with_its_own_line(
    cli: Cli, write_module: Write, write_yaml: Write, command: str
) -> None:
    write_module("acme_hooks", HOOKS)
    write_yaml(CONFIG + "          log_engine_metrics: false\n          engine_kwargs: [max_model_len]\n")
    answer = cli(command, "config.yaml")
    assert answer.code == 1
    assert "config.yaml:9: engine_kwargs= is a mapping, from names to values, not a list" in answer.out


def test_a_file_cannot_allow_what_the_shell_does_not(
    cli: Cli, write_module: Write, write_yaml: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("acme_hooks", "raise SystemExit('imported')")
    write_yaml(CONFIG + "          runtime_env: {env_vars: {SERVE_LLM_HOOKS_ALLOW: 'acme_*'}}\n")
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "other.*")
    answer = cli("plan", "config.yaml")
    assert answer.code == 1
    assert "may not run in this process" in answer.out
    assert os.environ["SERVE_LLM_HOOKS_ALLOW"] == "other.*"


def test_a_function_without_a_point(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", "def look(ctx): ...")
    answer = cli("plan", "acme_hooks:look")
    assert answer.code == 1
    assert "hook 'acme_hooks:look' is not decorated: put @hook" in answer.out


def test_hooks_that_no_name_holds(cli: Cli, write_module: Write) -> None:
    write_module(
        "acme_hooks",
        HOOKS
        + """
def make():
    @hook("on_failure")
    def inside(ctx): ...
make()
""",
    )
    assert "warning: hook acme_hooks:make.<locals>.inside at on_failure" in cli("plan", "acme_hooks").out


def test_a_module_that_does_not_import_shows_its_own_frames(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", "from acme_lib import size")
    write_module("acme_lib", "def count():\n    return 1 / 0\n\nsize = count()")
    answer = cli("plan", "acme_hooks", "--model", "m")
    assert answer.code == 1
    assert "fails while it is imported: ZeroDivisionError: division by zero" in answer.out
    frames = [line.strip() for line in answer.out.splitlines() if line.strip().startswith("File")]
    assert [frame.partition('", ')[2] for frame in frames] == [
        "line 2, in <module>",
        "line 5, in <module>",
        "line 3, in count",
    ]
    assert "importlib" not in answer.out
    assert "serve_llm_hooks/" not in answer.out


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = 1", "has no hooks: nothing in its namespace is decorated"),
        ("def f(:", "SyntaxError"),
        ("import acme_missing", "ModuleNotFoundError: No module named 'acme_missing'"),
        ('@hook("on_befor_download")\ndef f(ctx): ...', "did you mean 'on_before_download'?"),
        ('@hook("on_failure", after="g")\ndef f(ctx): ...\n@hook("on_failure", after="f")\ndef g(ctx): ...', "circle"),
    ],
)
def test_hooks_that_cannot_be_loaded(cli: Cli, write_module: Write, source: str, why: str) -> None:
    write_module("acme_hooks", source)
    answer = cli("plan", "acme_hooks")
    assert answer.code == 1
    assert why in answer.out
    assert "Traceback" not in answer.out + answer.err


@pytest.mark.parametrize("command", ["plan", "dry-run", "check"])
def test_an_app_dir_that_is_not_there(cli: Cli, write_module: Write, tmp_path: Path, command: str) -> None:
    file = write_module("acme_hooks", HOOKS)
    answer = cli(command, "acme_hooks", "--app-dir", "nowhere")
    assert (answer.code, answer.out) == (2, "")
    assert f"--app-dir nowhere: {tmp_path / 'nowhere'} is not there" in answer.err
    assert f"{file} is no folder" in cli(command, "acme_hooks", "--app-dir", file).err


def test_what_a_module_prints_is_not_in_the_answer(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", f"print('loading')\n{HOOKS}")
    answer = cli("plan", "acme_hooks", "--json")
    assert answer.json["version"] == 1
    assert "loading" in answer.err


def test_what_a_terminal_would_obey_is_written_out(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", "raise ValueError('\\x1b[2J')")
    answer = cli("plan", "acme_hooks")
    assert "\\x1b[2J" in answer.out
    assert "\x1b" not in answer.out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hf_token", "abc"),
        ("AWS_SECRET_ACCESS_KEY", "abc"),
        ("password", "abc"),
        ("auth", {"user": "a"}),
        ("value", "hf_abcdefghijklmnop"),
        ("url", "postgres://user:pw@host/db"),
        ("url", "https://host/file?sig=abc"),
        ("header", "Bearer abc"),
        ("value", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"),
        ("pem", "-----BEGIN PRIVATE KEY-----"),
        ("pin", 1234),
        ("db", "dbname=x user=y password=hunter2"),
        ("db", "Server=x;Pwd=secret123;"),
        ("storage", "AccountName=me;AccountKey=abc;EndpointSuffix=core.windows.net"),
        ("bus", "Endpoint=sb://x/;SharedAccessKey=abc"),
        ("env", "DB_PASSWORD=hunter2"),
        ("body", '{"token": "abc"}'),
        ("pair", "api_key: abc"),
        ("header", "Basic dXNlcjpwYXNz"),
        ("repo", "https://ghp_abc@github.com/x"),
        ("notify", "https://hooks.slack.com/services/T0/B0/x"),
        ("command", "upload --token abc123"),
        *[(name, "abc") for name in ("pass", "db_pass", "DB_PASS", "dbPass", "PGPASS", "user_pass", "pass_2", "pw")],
        *[
            (name, "abc")
            for name in ("passcode", "pass_phrase", "jwt", "X-Auth", "api_key_2", "key2", "apiKey", "creds")
        ],
        ("env", "DB_PASS=abc"),
        ("option", "--db-pass=abc"),
        ("command", "run --db-pass abc"),
        ("command", "curl -u me:abc https://host"),
        ("command", "curl --user=me:abc https://host"),
        ("url", "https://host/x?pass=abc"),
        ("url", "https://host/x?a=b&auth=abc"),
        ("url", "https://host/x#access_token=abc"),
        ("url", "me:abc@host:5432/db"),
        ("url", "//me:abc@host/db"),
        ("header", "X-Api-Key: abc"),
        ("header", "Authorization: token abc"),
        ("body", '{"user": "me", "pass": "abc"}'),
        ("properties", "spring.datasource.pass = abc"),
        ("notify", "https://discord.com/api/webhooks/1/abc"),
    ],
)
def test_what_looks_like_a_secret(name: str, value: object) -> None:
    assert shown(name, value) == MASKED
    assert shown("inside", {name: [value]}) in ({name: MASKED}, {name: [MASKED]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 128),
        ("max_num_batched_tokens", 8192),
        ("tokenizer", "/models/llama"),
        ("folder", "/mnt/models/meta-llama/Llama-3.1-8B-Instruct"),
        ("bucket", "s3://my-company-models-eu-central-1/llama-3-8b"),
        ("author", "me"),
        ("use_auth", True),
        ("ratio", 0.5),
        ("repo", "ssh://git@github.com/acme/models"),
        ("format", "Basic layout of folders"),
        ("args", ["--max-tokens", 128, "--tokenizer", "/models/llama", "--verbose"]),
        ("about", "the number of tokens: 128"),
        *[
            (name, 3)
            for name in ("compass", "bypass", "passes", "num_passes", "passthrough", "top_pass_k", "maxTokens")
        ],
        ("image", "registry/vllm:0.33@sha256:12ab"),
        ("mail", "mailto:me@example.com"),
        ("url", "http://localhost:8000/a@b?bypass=1&passes=2"),
        ("options", "--max-num-batched-tokens=8192 --tokenizer x --enable-auth=false"),
        ("check", "max_tokens == 3, bypass: 3"),
        ("args", ["docker", "run", "-u", "1000:1000", "-p", "8080:80"]),
        ("hook", "my_company.auth:check"),
        ("env", [{"name": "FOLDER", "value": "/scratch"}]),
    ],
)
def test_what_does_not(name: str, value: object) -> None:
    assert shown(name, value) == value


@pytest.mark.parametrize("option", ["--token", "--hf-token", "-password", "--api-key", "--pass"])
def test_what_follows_a_secret_option_in_a_list(option: str) -> None:
    assert shown("args", ["run", option, "abc123", "--fast"]) == ["run", option, MASKED, "--fast"]


def test_what_curl_takes_as_user_and_password() -> None:
    assert shown("args", ["curl", "-u", "me:abc", "https://host"]) == ["curl", "-u", MASKED, "https://host"]


def test_a_value_whose_name_stands_beside_it() -> None:
    """Mask variables in the form of Kubernetes and AWS."""
    given = [{"name": "DB_PASSWORD", "value": "abc"}, {"Name": "A", "Value": "b"}, {"Key": "token", "Value": ["abc"]}]
    assert shown("env", given) == [
        {"name": "DB_PASSWORD", "value": MASKED},
        {"Name": "A", "Value": "b"},
        {"Key": MASKED, "Value": MASKED},
    ]


SHAPES = st.recursive(
    st.text(min_size=1) | st.integers(),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=3), each, max_size=2),
    max_leaves=4,
)


@given(SHAPES)
def test_a_value_of_any_shape_under_a_secret_name(value: object) -> None:
    assert shown("client_secret", value) == MASKED


def test_a_value_that_holds_itself_and_one_that_is_foreign() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert "<list>" in str(shown("x", circle))
    assert shown("x", object()) == "<object>"
