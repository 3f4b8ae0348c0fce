"""The YAML that ``serve run`` takes: what is read of it, and what is refused with its line."""

from __future__ import annotations

import inspect
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from serve_llm_hooks.cli import serve_config
from serve_llm_hooks.cli.refused import Refused
from serve_llm_hooks.cli.serve_config import OUR_FIELDS, RAYS_FIELDS, read_models
from serve_llm_hooks_testing import FakeLLMConfig
from serve_llm_hooks_testing.serve_yaml import bool_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer

    Cli = Callable[..., Answer]
    Write = Callable[..., Path]

GOOD = """\
applications:
- name: llm
  import_path: serve_llm_hooks.ray:build_openai_app
  args:
    llm_configs:
    - model_loading_config: {model_id: m, model_source: s3://b/m}
      hooks: []
"""
VALUES = st.booleans() | st.integers(-1, 2) | st.floats() | st.none() | st.lists(st.none()) | st.just(10**400)
LOADING = "model_loading_config is a mapping, with model_id and model_source"


def test_all_builders_and_files_of_their_own(cli: Cli, write_yaml: Write) -> None:
    write_yaml("model_id: own\nhooks: []\n", name="model.yaml")
    file = write_yaml(
        """\
        applications:
        - {name: one, route_prefix: /1, import_path: serve_llm_hooks.ray.build_openai_app,
           args: {llm_configs: [model.yaml, {model_id: a}]}}
        - {name: two, route_prefix: /2, import_path: "serve_llm_hooks.ray:build_dp_openai_app",
           args: {llm_config: {model_id: b}}}
        - {name: three, route_prefix: /3, import_path: "serve_llm_hooks.ray:build_pd_openai_app",
           args: {prefill_config: {model_id: c}, decode_config: {model_id: c}}}
        - {name: other, route_prefix: /4, import_path: "my_company:app"}
        """
    )
    models = [(model.application, model.model_id, model.where.rpartition("/")[2]) for model in read_models(str(file))]
    assert models == [
        ("one", "own", "model.yaml:1"),
        ("one", "a", "config.yaml:3"),
        ("two", "b", "config.yaml:5"),
        ("three", "c", "config.yaml:7"),
        ("three", "c", "config.yaml:7"),
    ]
    assert cli("plan", file, "--model", "b", "--json").json["models"][0]["application"] == "two"
    wrong = cli("plan", file, "--model", "d")
    assert (wrong.code, wrong.out) == (2, "")
    assert "has no model 'd'; it has: own, a, b, c" in wrong.err


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        (f"{GOOD}      hooks: [acme_hooks]\n", 8, "hooks", 7),
        (GOOD.replace("model_id: m,", "model_id: m, model_id: n,"), 6, "model_id", 6),
        (f"{GOOD}applications: []\n", 8, "applications", 1),
    ],
)
def test_a_key_that_stands_twice(cli: Cli, write_yaml: Write, text: str, line: int, key: str, first: int) -> None:
    """PyYAML takes the last, so hooks of the first would be gone without a word."""
    write_yaml(text)
    answer = cli("plan", "config.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert f"config.yaml:{line}: the key {key!r} is there already, on line {first}, and only the last" in answer.err


def test_anchors_and_merges_are_no_second_key(write_yaml: Write) -> None:
    text = GOOD.replace("hooks: []", "engine_kwargs: &kwargs {a: 1, 1: x, '1': y}") + (
        "    - model_id: n\n      hooks: []\n      engine_kwargs: {<<: *kwargs, <<: {b: 3}, a: 2}\n"
    )
    [_, second] = read_models(str(write_yaml(text)))
    assert second.fields["engine_kwargs"] == {"a": 2, "b": 3, 1: "x", "1": "y"}


@pytest.mark.parametrize(
    ("good", "bad", "line", "why"),
    [
        ("applications:", "applications: {", 2, "this is no YAML"),
        ("applications:", "apps:", 1, "takes a mapping with a list of `applications`"),
        ("  args:", "  host: 0.0.0.0\n  args:", 4, "host stands at the top of the file"),
        ("  name: llm", "  name: ''", 2, "the name of an application is a text"),
        ("serve_llm_hooks.ray:build_openai_app", "build_openai_app", 3, "import_path is 'module:name'"),
        ("serve_llm_hooks.ray:build_openai_app", "a:b:c", 3, "import_path is 'module:name'"),
        ("serve_llm_hooks.ray:build_openai_app", "[a.b]", 3, "import_path is 'module:name', not a list"),
        ("  args:", "  route_prefix: [/a]\n  args:", 4, "route_prefix of an application is a text, or null"),
        (
            "  args:",
            "  args:\n    ingress_cls_confg: {}",
            5,
            "args has no field 'ingress_cls_confg' (did you mean 'ingress_cls",
        ),
        (
            "  args:",
            "  args:\n    hooks: []",
            5,
            "args has no field 'hooks'. Its fields: llm_configs, ingress_cls_config",
        ),
        (
            "model_loading_config: {model_id: m,",
            "model_id: m\n      model_loading_config: ''\n      runtime_env: {",
            7,
            LOADING,
        ),
        (
            "model_loading_config: {model_id: m,",
            "model_id: m\n      model_loading_config: []\n      runtime_env: {",
            7,
            LOADING,
        ),
        ("hooks: []", "llm_engine:", 7, "llm_engine has no value: give it one, or leave it out"),
        ("hooks: []", "engine_kwargs: # {}", 7, "engine_kwargs has no value: give it one, or leave it out"),
        (
            "hooks: []",
            "hooks: []\n    - {model_id: n}\n    - model_id: m",
            9,
            "model_id 'm' is that of two models of one app",
        ),
        ("import_path:", "importpath:", 2, "an application has an import_path"),
        ("    llm_configs:", "    llm_config:", 4, "needs llm_configs in args"),
        ("    llm_configs:\n    -", "    llm_configs:\n     ", 5, "llm_configs is a list"),
        ("hooks: []", "hook: []", 7, "a config has no field 'hook' (did you mean 'hooks'?)"),
        ("model_id: m,", "model_di: m,", 6, "model_loading_config has no field 'model_di' (did you mean 'model_id'?)"),
        ("model_id: m,", "", 6, "a model has a model_id"),
        ("hooks: []", "model_id: n", 7, "model_id is one text, and the same here and in model_loading_config"),
        ("serve_llm_hooks.ray:", "ray.serve.llm:", 7, "Ray's own config has no field 'hooks'"),
    ],
)
def test_what_ray_would_refuse(cli: Cli, write_yaml: Write, good: str, bad: str, line: int, why: str) -> None:
    text = GOOD.replace("- name", "-\n  name") if good == "  name: llm" else GOOD
    assert good in text
    write_yaml(text.replace(good, bad))
    answer = cli("plan", "config.yaml")
    assert answer.code == 2
    assert answer.out == ""
    where, _, told = answer.err.removeprefix("serve-llm-hooks: ").partition(": ")
    assert told.startswith(why) or why in told
    assert where == f"config.yaml:{line + (good == '  name: llm')}"


def _refusal(cli: Cli) -> str:
    """Return the message with which ``plan`` refuses the file."""
    answer = cli("plan", "config.yaml")
    assert answer.code == 2
    return answer.err


def test_an_app_without_models_and_two_of_one_name_on_a_line(cli: Cli, write_yaml: Write) -> None:
    head = GOOD.partition("    llm_configs:")[0]
    for configs, why in (
        ("[]", "config.yaml:5: llm_configs is a list of one model or more"),
        ("[{model_id: m}, {model_id: m}]", "config.yaml:5: model_id 'm' is that of two models of one application"),
    ):
        write_yaml(f"{head}    llm_configs: {configs}\n")
        assert why in _refusal(cli)


URL = "https://me:S3cret@host/x?sig=S3cret"
SECOND = GOOD.removeprefix("applications:\n")


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("serve_llm_hooks.ray:build_openai_app", URL),
        "applications: [{import_path: 'https://host/x?sig=S3cret'}]",
        f"applications: [{{name: '{URL}', import_path: 'a:b'}}]",
        GOOD.replace("hooks: []", f"llm_engine: '{URL}'"),
        GOOD.replace("hooks: []", f"accelerator_type: '{URL}'"),
        GOOD.replace("hooks: []", f"'{URL}': 3"),
        GOOD.replace("name: llm", f"name: '{URL}'") + SECOND.replace("name: llm", f"name: '{URL}'"),
        GOOD.replace("name: llm", f"route_prefix: '{URL}'") + SECOND.replace("llm", f"two\n  route_prefix: '{URL}'", 1),
    ],
)
def test_a_url_is_told_without_its_password_and_its_query(
    write_yaml: Write, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(serve_config, "accelerator_types", lambda: ("L4", "H100"))
    with pytest.raises(Refused, match=r"host/x\?…") as caught:
        read_models(str(write_yaml(text)))
    assert "S3cret" not in str(caught.value)


def test_two_applications_that_clash(write_yaml: Write) -> None:
    second = GOOD.replace("applications:\n", "").replace("name: llm", "name: NAME\n  route_prefix: ROUTE")
    for name, route, why in (
        ("llm", "/2", "name 'llm' is that of two"),
        ("two", "/", "route_prefix '/' is that of two"),
    ):
        with pytest.raises(Refused, match=why):
            read_models(str(write_yaml(GOOD + second.replace("NAME", name).replace("ROUTE", route))))
    assert len(read_models(str(write_yaml(GOOD + second.replace("NAME", "two").replace("ROUTE", "/2"))))) == 2


def test_files_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "secret.yaml").write_text("a: [\ntoken: hf_hunter2\n")
    for name, why in (
        ("none.yaml", "No such file"),
        ("folder.yaml", "Is a directory"),
        ("bytes.yaml", "no YAML"),
        ("empty.yaml", "takes a mapping"),
        ("secret.yaml", "no YAML"),
    ):
        answer = cli("plan", name)
        assert answer.code == 2
        assert why in answer.err
        assert "hunter2" not in answer.err


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("!S3cret-pw", "what begins with ! is a tag, and there is no such tag: quote what is a text"),
        ("!S3cret!pw", "what begins with ! is a tag, and there is no such tag: quote what is a text"),
        ("!!S3cret", "what begins with ! is a tag, and there is no such tag: quote what is a text"),
        ("*S3cret-pw", "what begins with * is an alias, and no anchor has its name: quote what is a text"),
        ("@S3cret", "found character '@' that cannot start any token"),
        ("\tS3cret", "found character '\\t' that cannot start any token"),
        ("[S3cret", "expected ',' or ']', but got '<stream end>'"),
        ("2026-13-45", "it is no valid timestamp: quote what is a text"),
        ("!!timestamp S3cret", "it is no valid timestamp: quote what is a text"),
        ("!!int S3cret", "it is no valid int: quote what is a text"),
        ("!!bool S3cret", "it is no valid bool: quote what is a text"),
        ("!!float S3cret", "it is no valid float: quote what is a text"),
        ("!!binary S3cret", "failed to decode base64 data"),
        (f"{'9' * 5000}", "it is no valid int: quote what is a text"),
        ("{? [S3cret] : 1}", "found unhashable key"),
    ],
)
def test_what_is_wrong_with_a_value_is_told_without_it(cli: Cli, write_yaml: Write, value: str, why: str) -> None:
    write_yaml(f"{GOOD}      runtime_env: {{env_vars: {{A: b}}}}\n      engine_kwargs:\n        DB_PASSWORD: {value}\n")
    answer = cli("plan", "config.yaml")
    assert (answer.code, answer.out) == (2, "")
    line = 11 if value.startswith("[") else 10
    assert f"config.yaml:{line}: this is no YAML: {why}" in answer.err
    assert "cret" not in answer.err


def test_the_file_of_a_model_that_no_path_can_be(cli: Cli, write_yaml: Write) -> None:
    for path, said in (
        ("https://me:S3cret@host/m.yaml?sig=S3cret", "https://…@host/m.yaml?… cannot be read: No such file"),
        ("a\\0b.yaml", "cannot be read: ValueError"),
    ):
        write_yaml(f'{GOOD}    - "{path}"\n')
        told = _refusal(cli)
        assert said in told
        assert "S3cret" not in told


def test_code_of_ones_own_is_asked_for_by_its_hooks(cli: Cli, write_yaml: Write) -> None:
    write_yaml("applications: [{import_path: 'my_company.app:app'}]")
    answer = cli("plan", "config.yaml")
    assert answer.code == 2
    assert "application 'default' (my_company.app:app)" in answer.err
    assert "plan my_company.llm_hooks --model ID" in answer.err


def test_a_file_and_references_together(cli: Cli, write_yaml: Write) -> None:
    write_yaml(GOOD)
    assert "and not both" in cli("plan", "config.yaml", "acme_hooks").err


@pytest.mark.parametrize("builder", ["ray.serve.llm", "serve_llm_hooks.ray"])
def test_the_callback_for_configs_of_rays_own(cli: Cli, write_module: Write, write_yaml: Write, builder: str) -> None:
    lasts = '@hook("on_before_init")\ndef a(ctx): yield\n'
    write_module("acme_hooks", f'{lasts}@hook("on_after_init")\ndef b(ctx): ...')
    hooks = "callback_config: {callback_class: serve_llm_hooks.ray.HooksCallback, callback_kwargs: {hooks: [%s]}}"
    text = GOOD.replace("serve_llm_hooks.ray", builder)
    write_yaml(text.replace("hooks: []", hooks % "acme_hooks"))
    answer = cli("plan", "config.yaml")
    assert answer.code == (1 if builder == "ray.serve.llm" else 0)
    refused = (
        "in the engine's processes, or after its start: acme_hooks:a at on_before_init, acme_hooks:b at on_after_init"
    )
    assert (refused in answer.out) == (builder == "ray.serve.llm")

    write_yaml(text.replace("hooks: []", (hooks % "").replace("hooks: []", "")))
    assert "HooksCallback is given no hooks" in cli("plan", "config.yaml").out


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("engine_kwargs: 3", "engine_kwargs= is a mapping"),
        ("hooks: acme_hooks", "hooks= is a list"),
        ("callback: nothing", "no path of a callback"),
        ("callback_config: 3", "callback_config is a mapping"),
        (
            "callback_config: {callback_class: serve_llm_hooks.ray.HooksCallback, callback_kwargs: token=x}",
            "callback_kwargs of HooksCallback is a mapping, as in callback_kwargs: {hooks: [...]}",
        ),
        ("runtime_env: {env_vars: {A: 1}}", "must be a string, not an int"),
    ],
)
def test_a_config_with_a_wrong_value_would_not_start(cli: Cli, write_yaml: Write, field: str, why: str) -> None:
    write_yaml(GOOD.replace("hooks: []", field))
    answer = cli("plan", "config.yaml")
    assert answer.code == 1
    assert why in answer.out


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("llm_engine: sglang", ":8: Ray knows no llm_engine 'sglang'. It knows vLLM"),
        ("llm_engine: [vLLM]", ":8: llm_engine is a text"),
        ("accelerator_type: H1000", ":8: Ray knows no accelerator_type 'H1000' (did you mean 'H100'?)"),
        ("accelerator_type: h100", ":8: Ray knows no accelerator_type 'h100' (did you mean 'H100'?)"),
        ("accelerator_type: l4", ":8: Ray knows no accelerator_type 'l4' (did you mean 'L4'?)"),
        ("llm_engine: VLLM", ":8: Ray knows no llm_engine 'VLLM' (did you mean 'vLLM'?)"),
        ("accelerator_type: mine", ":8: Ray knows no accelerator_type 'mine'. It knows L4, H100"),
        (
            "accelerator_type: L4\n      accelerator_config: {kind: cpu}",
            ":8: accelerator_type is not for accelerator_config: {kind: cpu}: leave it out",
        ),
    ],
)
def test_values_that_ray_has_a_list_of(
    cli: Cli, write_yaml: Write, monkeypatch: pytest.MonkeyPatch, lines: str, why: str
) -> None:
    monkeypatch.setattr(serve_config, "accelerator_types", lambda: ("L4", "H100"))
    write_yaml(f"{GOOD}      {lines}\n")
    answer = cli("plan", "config.yaml")
    assert answer.code == 2
    assert f"config.yaml{why}" in answer.err


@pytest.mark.parametrize("found", [None, ModuleSpec("ray", None)], ids=["nothing", "a folder"])
def test_without_ray_every_accelerator_is_let_through(
    write_yaml: Write, monkeypatch: pytest.MonkeyPatch, found: ModuleSpec | None
) -> None:
    monkeypatch.setattr(serve_config, "find_spec", lambda name: found)
    monkeypatch.setattr(serve_config, "accelerator_types", serve_config.accelerator_types.__wrapped__)
    assert read_models(str(write_yaml(GOOD + "      accelerator_type: H1000\n")))


def test_a_policy_of_the_config(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module("acme_hooks", '@hook("on_before_init")\ndef a(ctx): ...')
    config = "hooks: [acme_hooks]\n      callback_config: {raise_error_on_callback: false}"
    write_yaml(GOOD.replace("hooks: []", config))
    assert "a failure is a warning" in cli("plan", "config.yaml").out


def test_a_text_in_the_place_of_true_or_false_means_what_it_means_to_ray(
    cli: Cli, write_module: Write, write_yaml: Write
) -> None:
    write_module("acme_hooks", '@hook("on_before_init")\ndef a(ctx): ...')
    for text, code, says in (
        ("'false'", 0, "a failure is a warning"),
        ("'On'", 0, "a failure ends the start"),
        ("''", 1, "config.yaml:8: callback_config=: raise_error_on_callback is true or false, not a str"),
        ("null", 1, "config.yaml:8: callback_config=: raise_error_on_callback is true or false, not None"),
    ):
        config = f"hooks: [acme_hooks]\n      callback_config: {{raise_error_on_callback: {text}}}"
        write_yaml(GOOD.replace("hooks: []", config))
        answer = cli("plan", "config.yaml")
        assert (answer.code, says in answer.out) == (code, True), answer


WORDS = st.sampled_from(["0", "1", "t", "f", "y", "n", "yes", "no", "on", "off", "true", "false"]).map(str.title)


@given(WORDS | st.text(max_size=5) | VALUES)
def test_a_bool_is_read_as_pydantic_reads_it(value: object) -> None:
    try:
        expected: object = TypeAdapter(bool).validate_python(value)
    except ValidationError:
        expected = TypeError
    try:
        found: object = bool_of(value, "x")
    except TypeError:
        found = TypeError
    assert found is expected


@pytest.mark.parametrize("value", ["-1", ".nan", f"1{'0' * 400}"])
@pytest.mark.parametrize("command", ["plan", "dry-run"])
def test_seconds_that_serve_refuses(cli: Cli, write_yaml: Write, value: str, command: str) -> None:
    write_yaml(f"{GOOD}      deployment_config: {{graceful_shutdown_timeout_s: {value}}}\n")
    answer = cli(command, "config.yaml")
    assert answer.code == 1
    assert "config.yaml:8: deployment_config['graceful_shutdown_timeout_s'] is a number of seconds, 0 or" in answer.out


def test_the_variables_that_reach_a_replica(write_yaml: Write) -> None:
    def environ(*places: str) -> Any:
        text = GOOD
        if "application" in places:
            text = text.replace("  args:", "  runtime_env: {env_vars: {A: application}}\n  args:")
        if "options" in places:
            options = "{ray_actor_options: {runtime_env: {env_vars: {A: options}}}}"
            text += f"      deployment_config: {options}\n"
        if "config" in places:
            text += "      runtime_env: {env_vars: {A: config}}\n"
        return read_models(str(write_yaml(text)))[0].environ

    assert environ() == {}
    assert environ("application") == {"A": "application"}
    assert environ("application", "options") == {"A": "options"}
    assert environ("application", "options", "config") == {"A": "config"}


def test_our_fields_are_those_of_the_config() -> None:
    fake = set(inspect.signature(FakeLLMConfig).parameters) - {"model_source", "on_error"}
    assert set(OUR_FIELDS) == fake - set(RAYS_FIELDS)
