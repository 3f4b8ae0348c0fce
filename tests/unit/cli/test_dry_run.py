"""``serve-llm-hooks dry-run`` and ``check``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import load_traces
from serve_llm_hooks.cli.store import SCHEMES
from serve_llm_hooks.recipes._stores.uri import SCHEMES as RECIPES_SCHEMES
from tests.docs_blocks import ROOT

from .test_plan import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Answer

    Cli = Callable[..., Answer]
    Write = Callable[..., Path]

HOOKS = """
import asyncio

@hook("on_before_node_download")
async def look(ctx):
    print("looking")
    await asyncio.sleep(3)

@hook("on_after_download")
def add_up(ctx): ...

@hook("on_failure")
def tell(ctx): ...
"""


IN_ALL_PROCESSES = """
from serve_llm_hooks import ask

@hook("on_engine_process_start")
def parse(ctx): ...

@hook("on_after_engine_init")
async def warm_up(ctx):
    await ask(ctx, "Hello!")

class Registers:
    def on_before_init(self, ctx): ...
"""
ON_CPU = "accelerator_config: {kind: cpu}"
ALL_HOOKS = "[acme_hooks, 'acme_hooks:Registers']"


@pytest.fixture
def config(write_module: Write, write_yaml: Write) -> Path:
    """A deployment of HOOKS that downloads from a bucket."""
    write_module("acme_hooks", HOOKS)
    return write_yaml(CONFIG + "          model_loading_config: {model_source: 's3://b/m'}\n")


@pytest.mark.usefixtures("config")
def test_the_timeline_of_a_start(cli: Cli) -> None:
    answer = cli("dry-run", "config.yaml", "--nodes", 2)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[:2] == ["model llama-2 (llm, config.yaml:6)", "  started after 53.00 s on 2 nodes of a fake cluster"]
    assert [(line.split()[0], line.split()[4], line.split()[6]) for line in lines[2:]] == [
        ("0.000", "replica", "nodes"),
        ("0.000", "node-0", "look"),
        ("0.000", "node-1", "look"),
        ("3.000", "node-0", "download"),
        ("3.000", "node-1", "download"),
        ("23.00", "replica", "engine"),
        ("23.00", "replica", "add_up"),
    ]
    assert answer.err.count("looking") == 2


@pytest.mark.usefixtures("config")
def test_many_nodes_that_do_the_same_are_one_line(cli: Cli) -> None:
    lines = cli("dry-run", "config.yaml", "--nodes", 100).out.splitlines()
    assert [line.split()[4:6] for line in lines[2:]] == [
        ["replica", lines[2].split()[5]],
        *[["100", "nodes"]] * 2,
        *[["replica", line.split()[5]] for line in lines[5:]],
    ]


@pytest.mark.usefixtures("config")
def test_a_download_that_fails(cli: Cli) -> None:
    answer = cli("dry-run", "config.yaml", "--fail", "download:node-2")
    assert answer.code == 1
    assert "failed after 23.00 s on 4 nodes of a fake cluster" in answer.out
    assert "problem: NodeInitializationError: 1 node of model 'llama-2' could not be initialized" in answer.out
    assert "tell (on_failure)" in answer.out
    assert "warning" not in answer.out


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ("slow-download:node-1:300", "started after 333.0 s"),
        ("node:node-1", "NodeLostError"),
        ("module:node-1:acme_hooks", "acme_hooks"),
        ("placement-group", "PlacementGroupError"),
        ("engine", "CUDA out of memory (--fail)"),
        ("replica:on_after_download", "start 1, whose replica died"),
        ("other-path:node-1:/fast:2/m", "elsewhere on node node-1 (10.0.0.2) (/fast:2/m)"),
        ("hook:add_up", "hook acme_hooks:add_up failed at on_after_download for model 'llama-2': RuntimeError: it"),
        ("hook:look:node-1", "on node node-1 (10.0.0.2): RuntimeError: it fails (--fail)"),
        ("hook:acme_hooks:look:node-1", "1 node of model 'llama-2' could not be initialized"),
        ("hook:Registers", "hook acme_hooks:Registers.on_before_init failed at on_before_init"),
        ("hook:acme_hooks:Registers", "hook acme_hooks:Registers.on_before_init failed at on_before_init"),
        ("hook:Registers:node-0", "hook acme_hooks:Registers.on_before_init failed at on_before_init"),
        ("hook:Registers.on_before_init", "hook acme_hooks:Registers.on_before_init failed at on_before_init"),
        ("node:node-1:on_before_node_download", "NodeLostError"),
        ("node-process:node-1:look", "its worker died"),
        ("engine-process:worker-0", "hook acme_hooks:parse did not end at on_engine_process_start"),
        ("engine-process:core:parse", "in core on node node-0"),
        ("plugin:core", "core of the engine did not run 1 hook at on_engine_process_start"),
        ("answers", "the prompt is longer than the model's context (--fail)"),
        ("download:node-1", "RuntimeError: An error occurred (403): Forbidden (--fail)"),
    ],
)
@pytest.mark.usefixtures("config")
def test_all_that_can_fail(cli: Cli, write_module: Write, fault: str, shows: str) -> None:
    write_module("acme_hooks", HOOKS + IN_ALL_PROCESSES)
    (config := Path("config.yaml")).write_text(config.read_text().replace("[acme_hooks]", ALL_HOOKS))
    answer = cli("dry-run", "config.yaml", "--fail", fault)
    assert shows in answer.out
    assert f"  on purpose: --fail {fault}\n" in answer.out
    assert "never struck" not in answer.out
    assert answer.code == (0 if "started after" in answer.out else 1)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("disk", "it is one of download:NODE, slow-download:NODE:SECONDS"),
        ("download", "it is one of"),
        ("download:", "it is one of"),
        ("engine:node-1", "it is one of"),
        ("slow-download:node-1:long", "SECONDS is a number, 0 or more, as in slow-download:node-1:300, and not 'long'"),
        ("slow-download:node-1:-1", "0 or more"),
        ("slow-download:node-1:inf", "0 or more"),
        ("replica:on_node_failure", "that point runs on nodes; the end of a node is --fail node:NODE"),
        ("replica:on_shutdown", "the start is over by then"),
        ("replica:on_befor_init", "is not a hook point"),
        ("node:node-0", "the replica itself is on node-0; its end is --fail replica:POINT"),
        ("download:node-7", "no node of this cluster"),
        ("hook:on_before_init", "on_before_init is a hook point; a hook is named as `serve-llm-hooks plan` shows it"),
        ("hook:on_before_init:node-1", "on_before_init is a hook point"),
        ("hook::node-1", "node-1 is a node; a hook is named as"),
        ("hook:node-1", "and the node stands behind it, as in hook:check_disk, hook:check_disk:node-1"),
        ("hook:lok", "no hook is called 'lok' (did you mean 'look'?); there are acme_hooks:look, acme_hooks:add_up"),
        ("hook:lok:node-1", "no hook is called 'lok' (did you mean 'look'?)"),
        ("hook:look:node1", "no hook is called 'look:node1' (nodes are written node-0, node-1, ...)"),
        (
            "hook:add_up:node-1",
            "acme_hooks:add_up runs once, in the replica, and on no other node: write --fail hook:a",
        ),
        ("node-process:node-1:lok", "no hook is called 'lok' (did you mean 'look'?)"),
        (
            "node-process:node-1:add_up",
            "runs once, in the replica, and not on nodes; its failure is --fail hook:add_up",
        ),
        ("engine-process:core:lok", "no hook is called 'lok' (did you mean 'look'?)"),
        ("engine-process:core:look", "and not in the engine's processes; its failure is --fail hook:look, the end of"),
        ("hook:look:node-9", "no node of this cluster"),
        ("node:node-1:on_before_init", "that point does not run on nodes; those that do are on_before_node_download"),
        ("engine-process:frontend", "takes a process of the engine, 'core', 'config' or 'worker-1'"),
        ("replica:on_engine_process_start", "the end of one is --fail engine-process:PROCESS"),
    ],
)
@pytest.mark.usefixtures("config")
def test_faults_that_there_are_not(cli: Cli, fault: str, why: str) -> None:
    answer = cli("dry-run", "config.yaml", "--fail", fault)
    assert (answer.code, answer.out) == (2, "")
    assert why in answer.err
    assert "(at=" not in answer.err


@pytest.mark.usefixtures("config")
def test_a_fault_that_no_start_comes_to(cli: Cli, write_yaml: Write) -> None:
    fault = ("--fail", "module:node-1:acme_other")
    answer = cli("dry-run", "config.yaml", *fault)
    assert answer.code == 1
    assert "started after" in answer.out
    assert "warning: --fail module:node-1:acme_other never struck: the run did not come to it" in answer.out
    assert "MissingModuleFault" not in answer.out
    assert "on purpose" not in answer.out

    config = CONFIG + "          model_loading_config: {model_source: 's3://b/m'}\n"
    write_yaml(f"{config}        - model_id: plain\n          hooks: []\n")
    answer = cli("dry-run", "config.yaml", "--fail", "slow-download:node-1:300", "--json")
    assert (answer.code, [len(start["warnings"]) for start in answer.json["starts"]]) == (0, [0, 1])
    assert [start["struck"] for start in answer.json["starts"]] == [["slow-download:node-1:300"], []]


@pytest.mark.usefixtures("config")
def test_a_hook_that_only_one_of_two_models_has_fails_there(cli: Cli, write_yaml: Write) -> None:
    write_yaml(f"{CONFIG}        - model_id: plain\n          hooks: []\n")
    answer = cli("dry-run", "config.yaml", "--fail", "hook:look", "--json")
    assert answer.code == 1
    assert "it fails (--fail)" in answer.json["starts"][0]["problem"]
    assert answer.json["starts"][1]["problem"] is None
    unknown = ["--fail hook:look never struck: no hook is called 'look'; there are none"]
    assert [start["warnings"] for start in answer.json["starts"]] == [[], unknown]


def test_a_class_of_several_hooks_is_not_enough_to_say_which_fails(cli: Cli, write_module: Write) -> None:
    more = "\n\nclass Many:\n    def on_before_init(self, ctx): ...\n    def on_after_init(self, ctx): ..."
    write_module("acme_hooks", HOOKS + more)
    answer = cli("dry-run", "acme_hooks:Many", "--fail", "hook:Many")
    assert (answer.code, answer.out) == (2, "")
    assert "'Many' is ambiguous; write one of acme_hooks:Many.on_before_init, acme_hooks:Many.on_after" in answer.err
    assert cli("dry-run", "acme_hooks:Many", "--fail", "hook:Many.on_before_init").code == 1


def test_where_one_model_cannot_be_planned_the_faults_of_others_happen(cli: Cli, config: Path) -> None:
    config.write_text(f"{config.read_text()}        - {{model_id: bad, hooks: [acme_missing]}}\n")
    answer = cli("dry-run", "config.yaml", "--fail", "hook:look", "--json")
    assert answer.code == 1
    first, second = [start["problem"] for start in answer.json["starts"]]
    assert "it fails (--fail)" in first
    assert "acme_missing" in second


@pytest.mark.usefixtures("config")
def test_each_process_may_be_one_of_its_own(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", HOOKS + '@hook("on_engine_process_start")\ndef parse(ctx): print("in", ctx.process)\n')
    answer = cli("dry-run", "config.yaml", "--nodes", 2, "--processes", "--json")
    assert answer.code == 0, answer.out + answer.err
    [trace] = load_traces(answer.out).values()
    where = {(event.process_id, event.node_id if event.name == "look" else event.process) for event in trace}
    assert len({process_id for process_id, _ in where}) == len(where) - 1  # the frontend is the replica
    assert os.getpid() not in {process_id for process_id, _ in where}
    assert "in worker-0" in answer.err


@pytest.mark.parametrize("command", [("dry-run",), ("dry-run", "--processes"), ("check",), ("explore", "--seeds", "1")])
def test_what_starts_here_is_not_saved_among_real_starts(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_TRACE_DIR", str(tmp_path / "traces"))
    variables = f"{{SERVE_LLM_HOOKS_TRACE_DIR: {tmp_path / 'traces'}}}"
    config.write_text(f"{config.read_text()}          runtime_env: {{env_vars: {variables}}}\n")
    assert cli(*command, "config.yaml").code == 0
    assert not (tmp_path / "traces").exists()
    assert os.environ["SERVE_LLM_HOOKS_TRACE_DIR"] == str(tmp_path / "traces")


FETCHES = "[{hook: 'serve_llm_hooks.recipes:Fetch', kwargs: {src: 's3://m/a.json', dest: /fast}}]"


@pytest.mark.parametrize("command", [("dry-run",), ("check",), ("explore", "--seeds", "1")])
def test_a_folder_stands_for_all_stores(cli: Cli, write_yaml: Write, tmp_path: Path, command: tuple[str, ...]) -> None:
    write_yaml(CONFIG.replace("[acme_hooks]", FETCHES))
    (tmp_path / "stores/s3/m").mkdir(parents=True)
    answer = cli(*command, "config.yaml", "--fake-store", "stores")
    assert (answer.code, "a.json is not there" in answer.out) == (1, True)
    (tmp_path / "stores/s3/m/a.json").write_text("{}")
    answer = cli(*command, "config.yaml", "--fake-store", "stores")
    assert answer.code == 0, answer.out
    assert [file.name for file in (tmp_path / "stores").rglob("*") if file.is_file()] == ["a.json"]
    assert "SERVE_LLM_HOOKS_FAKE_STORE" not in os.environ


@pytest.mark.parametrize("command", [("dry-run",), ("dry-run", "--processes"), ("check",), ("explore", "--seeds", "1")])
def test_where_a_real_store_was_asked_in_vain_a_fake_one_is_named(
    cli: Cli, write_yaml: Write, tmp_path: Path, command: tuple[str, ...]
) -> None:
    write_yaml(CONFIG.replace("[acme_hooks]", FETCHES.replace("s3://m", str(tmp_path / "none"))))
    answer = cli(*command, "config.yaml")
    assert answer.code == 1
    assert "a.json is not there" in answer.out
    assert answer.out.count("warning: a ready-made hook has asked a real store; with --fake-store FOLDER, that") == 1


def test_no_fake_store_is_named_where_there_is_one_or_none_was_asked(
    cli: Cli, write_module: Write, write_yaml: Write, tmp_path: Path
) -> None:
    write_yaml(CONFIG.replace("[acme_hooks]", FETCHES))
    (tmp_path / "stores").mkdir()
    assert "ready-made" not in cli("dry-run", "config.yaml", "--fake-store", "stores").out
    write_module("acme_hooks", '@hook("on_before_init")\ndef parse(ctx):\n    return int("no number")')
    assert "ready-made" not in cli("dry-run", "acme_hooks").out


def test_a_store_that_a_start_does_without_is_told_of_too(
    cli: Cli, write_yaml: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half of a pair, with which nobody is asked")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    cache = f"[{{hook: 'serve_llm_hooks.recipes:CompileCache', kwargs: {{uri: 's3://m/c', dest: {tmp_path / 'c'}}}}}]"
    write_yaml(CONFIG.replace("[acme_hooks]", cache))
    answer = cli("dry-run", "config.yaml", "--json")
    assert answer.code == 0
    first, *_, last = answer.json["starts"][0]["warnings"]
    assert first.startswith("s3://m/c: nothing is restored: ")
    assert "a ready-made hook has asked a real store" in last


def test_a_folder_that_stands_for_no_stores(cli: Cli, tmp_path: Path) -> None:
    assert {*SCHEMES} == {*RECIPES_SCHEMES}
    answer = cli("check", "acme_hooks", "--fake-store", "stores")
    assert (answer.code, answer.out) == (2, "")
    assert "--fake-store stores: there is no such folder (in " in answer.err
    (tmp_path / "stores/models").mkdir(parents=True)
    answer = cli("check", "acme_hooks", "--fake-store", "stores")
    assert answer.code == 2
    assert "models stands for no kind of store. s3://models/a.json is stores/s3/models/a.json" in answer.err


def test_a_start_has_what_its_config_says_of_hardware(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    source = """
        @hook("on_before_node_download")
        def look(ctx): ...

        @hook("on_engine_process_start")
        def parse(ctx): ...
        """
    write_module("acme_hooks", source)
    two_nodes = "placement_group_config: {bundles: [{GPU: 1}, {GPU: 1}], strategy: STRICT_SPREAD}"
    write_yaml(f"{CONFIG}          {two_nodes}\n        - {{model_id: n, hooks: [acme_hooks], {ON_CPU}}}\n")
    traces = load_traces(cli("dry-run", "config.yaml", "--nodes", 3, "--json").out)
    assert [event.node_id for event in traces["llama-2"] if event.name == "look"] == ["node-0", "node-1"]
    assert [event.process for event in traces["llama-2"] if event.process] == ["frontend", "config", "core", "worker-0"]
    assert [event.process for event in traces["n"] if event.process] == ["frontend", "core", "worker-0"]
    assert "PlacementGroupError" in cli("dry-run", "config.yaml", "--nodes", 1).out


def test_a_hook_that_fails_shows_its_line(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", '@hook("on_before_init")\ndef parse(ctx):\n    return int("no number")')
    answer = cli("dry-run", "acme_hooks")
    assert answer.code == 1
    frames = [line.strip() for line in answer.out.splitlines() if line.strip().startswith("File")]
    assert [frame.partition('", ')[2] for frame in frames] == ["line 4, in parse"]
    assert "ValueError: invalid literal" in answer.out


@pytest.mark.parametrize(
    ("point", "options"),
    [
        ("on_before_init", ["--processes"]),
        ("on_before_node_download", []),
        ("on_before_node_download", ["--processes"]),
    ],
)
def test_a_hook_that_fails_elsewhere_shows_its_line(
    cli: Cli, write_module: Write, point: str, options: list[str]
) -> None:
    source = f'import json\n\n@hook("{point}")\ndef parse(ctx):\n    return json.loads(ctx.model_id[:0])'
    write_module("acme_hooks", source)
    answer = cli("dry-run", "acme_hooks", "--nodes", 2, *options)
    assert answer.code == 1
    at = next(number for number, line in enumerate(answer.out.splitlines()) if line.strip().startswith("File"))
    shown = [line.strip() for line in answer.out.splitlines()[at : at + 2]]
    assert shown[0].endswith('acme_hooks.py", line 6, in parse')
    assert shown[1] == "return json.loads(ctx.model_id[:0])"
    assert answer.out.count("File") == 1


def test_hooks_that_cannot_be_loaded_are_a_start_that_fails(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", "import acme_missing")
    answer = cli("dry-run", "acme_hooks", "--json")
    assert answer.code == 1
    assert "No module named 'acme_missing'" in answer.json["starts"][0]["problem"]


@pytest.mark.usefixtures("config")
def test_the_json_is_a_file_of_traces(cli: Cli, tmp_path: Path) -> None:
    answer = cli("dry-run", "config.yaml", "--json")
    assert [event.name for event in load_traces(answer.out)["llama-2"]] == ["look"] * 4 + ["add_up"]
    assert answer.json["starts"][0]["elapsed_s"] == 53
    (tmp_path / "dry.json").write_text(answer.out)
    assert "llama-2, 5 hook calls" in cli("trace", "dry.json").out


@pytest.mark.usefixtures("config")
def test_the_json_has_the_start_whose_replica_died_too(cli: Cli, tmp_path: Path) -> None:
    answer = cli("dry-run", "config.yaml", "--fail", "replica:on_after_download", "--json")
    [start] = answer.json["starts"]
    assert (start["trace"], start["earlier_starts"]) == ("llama-2", ["llama-2 (start 1)"])
    traces = load_traces(answer.out)
    assert [[event.name for event in traces[name]] for name in (*start["earlier_starts"], start["trace"])] == [
        [*["look"] * 4, "add_up"],
        [*["look"] * 4, "add_up"],
    ]
    lengths = [
        max(step.end_s for step in each.steps) - min(step.start_s for step in each.steps) for each in traces.values()
    ]
    assert start["elapsed_s"] > max(lengths)  # both starts together
    (tmp_path / "dry.json").write_text(answer.out)
    assert "llama-2 (start 1), 5 hook calls" in cli("trace", "dry.json").out


@pytest.mark.parametrize("options", [(), ("--processes",)])
def test_a_replica_that_has_started_is_stopped(cli: Cli, write_module: Write, options: tuple[str, ...]) -> None:
    source = """
        @hook("on_after_init", until="on_shutdown")
        def register(ctx):
            yield
            print("registered until", ctx.model_id, "stops")

        @hook("on_shutdown")
        def deregister(ctx):
            raise OSError("registry is gone")
        """
    write_module("acme_hooks", source)
    answer = cli("dry-run", "acme_hooks", "--json", *options)
    assert answer.code == 0  # Serve only logs it
    events = answer.json["traces"]["any-model"]
    assert [(event["hook"], event["outcome"]) for event in events] == [
        ("acme_hooks:register", "ok"),
        ("acme_hooks:register", "ok"),
        ("acme_hooks:deregister", "failed"),
    ]
    assert "registered until any-model stops" in answer.err
    [warned] = answer.json["starts"][0]["warnings"]
    assert "OSError: registry is gone" in warned
    assert "only logs" in warned
    assert "in deregister" in warned
    answer = cli("dry-run", "acme_hooks", "--fail", "engine", *options)
    assert "deregister" not in answer.out


@pytest.mark.parametrize("options", [(), ("--processes",)])
def test_a_hook_fails_when_the_replica_is_stopped(cli: Cli, write_module: Write, options: tuple[str, ...]) -> None:
    write_module("acme_hooks", '@hook("on_shutdown")\ndef bye(ctx): ...')
    [start] = cli("dry-run", "acme_hooks", "--fail", "hook:bye", "--json", *options).json["starts"]
    assert (start["problem"], start["struck"]) == (None, ["hook:bye"])
    [warned] = start["warnings"]
    assert "it fails (--fail)" in warned


PRINTS = """
import os, subprocess, sys

os.write(1, b"imported\\n")

@hook("on_before_init")
def tell(ctx):
    subprocess.run(["echo", "from a subprocess"])
    os.system("echo from a shell")
    print("past sys.stdout", file=sys.__stdout__)
"""


@pytest.mark.parametrize(
    "command", [("plan",), ("dry-run",), ("dry-run", "--processes"), ("check",), ("explore", "--seed", "1")]
)
def test_what_hooks_print_is_never_in_the_answer(
    cli: Cli, write_module: Write, capfd: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """Print around Python's `sys.stdout` too, as a subprocess does."""
    write_module("acme_hooks", PRINTS)
    answer = cli(*command, "acme_hooks", "--json")
    assert answer.json
    os.write(1, b"afterwards\n")
    printed = capfd.readouterr()
    assert printed.out == "afterwards\n"
    assert "imported" in printed.err
    if "dry-run" in command:
        assert all(f"{text}\n" in printed.err for text in ("from a subprocess", "from a shell", "past sys.stdout"))


def test_models_of_one_name_each_have_a_trace(cli: Cli, write_yaml: Write) -> None:
    config = "{model_id: m, hooks: []}"
    write_yaml(
        "applications: [{import_path: 'serve_llm_hooks.ray:build_pd_openai_app', "
        f"args: {{prefill_config: {config}, decode_config: {config}}}}}]"
    )
    answer = cli("dry-run", "config.yaml", "--json")
    assert list(answer.json["traces"]) == ["m", "m #2"]
    assert "no hook ran" in cli("dry-run", "config.yaml").out


@pytest.mark.parametrize("width", [20, 40, 71, 72, 100, 200])
@pytest.mark.usefixtures("config")
def test_it_is_as_wide_as_the_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    answer = cli("dry-run", "config.yaml", "--fail", "download:node-2")
    assert max(map(len, answer.out.splitlines())) <= width
    assert "█" in answer.out


def test_the_plan_of_the_demo_is_what_runs(cli: Cli) -> None:
    demo = (ROOT / "examples/demo.yaml", "--app-dir", ROOT / "examples", "--json")
    planned = [(hook["point"], hook["hook"]) for hook in cli("plan", *demo).json["models"][0]["hooks"]]
    ran = [(event["point"], event["hook"]) for event in cli("dry-run", *demo, "--nodes", 1).json["traces"]["smollm2"]]
    assert planned == [(point, hook.partition("(")[0]) for point, hook in ran]


def test_a_check_that_finds_nothing(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module("acme_hooks", HOOKS)
    write_yaml(CONFIG)
    for target in ("acme_hooks", "config.yaml"):
        answer = cli("check", target)
        assert answer.code == 0, answer.out
        assert re.search(r"no problem found in \d+ runs", answer.out)
        assert "warning" not in answer.out


def test_a_check_that_finds_something(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module(
        "acme_hooks",
        """
        SEEN = []

        @hook("on_before_node_download", model_id=["llama-*", "qwen"])
        def look(ctx):
            SEEN.append(ctx.node_id)

        @hook("on_after_download")
        def add_up(ctx):
            if not SEEN: raise ValueError("nothing seen")

        class Setup:
            def __init__(self, size): ...

            def on_before_init(self, ctx):
                raise OSError("no room")

        def phases(phase, config, data): ...

        def fails(phase, config, data): raise LookupError(phase)
        """,
    )
    answer = cli("check", "acme_hooks", "--json")
    assert answer.code == 1
    assert [model["model_id"] for model in answer.json["models"]] == ["llama-*", "qwen"]
    (problem,) = answer.json["models"][0]["problems"]
    assert "add_up fails at on_after_download when the replica and each node are processes of their own" in problem
    assert answer.json["models"][0]["notes"] == []

    write_yaml(
        CONFIG.replace("[acme_hooks]", "[]")
        + "          callback: acme_hooks:Setup\n          callback_kwargs: {size: 1}\n"
        + "          callbacks: [acme_hooks:phases]\n"
    )
    answer = cli("check", "config.yaml")
    assert answer.code == 1
    assert "OSError: no room" in answer.out
    write_yaml(CONFIG.replace("[acme_hooks]", "[]") + "          callbacks: [acme_hooks:fails]\n")
    assert "LookupError: pre_initialization" in cli("check", "config.yaml").out


def test_a_check_of_nothing(cli: Cli, write_yaml: Write) -> None:
    write_yaml(CONFIG.replace("[acme_hooks]", "[]"))
    answer = cli("check", "config.yaml")
    assert answer.code == 0
    assert "no hooks, so nothing is checked" in answer.out


def test_a_check_of_what_cannot_be_loaded(cli: Cli, write_module: Write) -> None:
    write_module("acme_hooks", "x = 1")
    answer = cli("check", "acme_hooks")
    assert answer.code == 1
    assert "has no hooks" in answer.out


def test_a_dry_run_leaves_the_environment_alone(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME", "before")
    monkeypatch.delenv("ACME_NEW", raising=False)
    text = config.read_text() + "          runtime_env: {env_vars: {ACME: inside, ACME_NEW: inside}}\n"
    config.write_text(text)
    assert cli("dry-run", "config.yaml").code == 0
    assert os.environ["ACME"] == "before"
    assert "ACME_NEW" not in os.environ


FORGETFUL = """
@hook("on_failure")
def tell(ctx):
    ctx.engine.stop()
"""


def test_an_exploration_that_finds_something(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module("acme_hooks", FORGETFUL)
    answer = cli("explore", "acme_hooks", "--seed", 3, "--seed", 4, "--json")
    assert answer.code == 1
    [model] = answer.json["models"]
    [problem] = model["problems"]
    assert "acme_hooks:tell fails at on_failure, so it cleans nothing up: AttributeError" in problem["problem"]
    assert problem["schedule"].startswith("Schedule(nodes=1, faults=")
    assert "def test_seed_" in problem["test"]
    assert set(problem["seeds"]) <= {3, 4}
    write_yaml(CONFIG)
    answer = cli("explore", "config.yaml", "--seed", 3, "--seed", 4)
    assert answer.code == 1
    assert "the smallest schedule that does, as a test:" in answer.out
    assert "     HOOKS = [...]  # what explore_hooks was given" in answer.out


def test_a_test_to_paste_is_python_on_any_screen(
    cli: Cli, write_module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines are not wrapped: a string that ends on the next line is no Python."""
    write_module("acme_hooks", FORGETFUL)
    monkeypatch.setenv("COLUMNS", "40")
    lines = cli("explore", "acme_hooks", "--seed", 3).out.splitlines()
    [problem] = cli("explore", "acme_hooks", "--seed", 3, "--json").json["models"][0]["problems"]
    code = problem["test"].rstrip().splitlines()
    assert [line.removeprefix("     ") for line in lines[-len(code) :]] == code


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("check", "--real-sleep-limit", "-1"),
        ("check", "--real-sleep-limit", "0"),
        ("check", "--real-sleep-limit", "nan"),
        ("check", "--real-sleep-limit", "inf"),
        ("explore", "--seed", "-1"),
        ("explore", "--seeds", "0"),
        ("explore", "--nodes", "-1"),
        ("dry-run", "--nodes", "0"),
    ],
)
def test_a_number_that_cannot_be_is_a_wrong_option(
    cli: Cli, write_module: Write, command: str, option: str, value: str
) -> None:
    write_module("acme_hooks", HOOKS)
    answer = cli(command, "acme_hooks", option, value)
    assert (answer.code, answer.out) == (2, "")
    assert f"Invalid value for '{option}'" in answer.err


def test_an_exploration_that_finds_nothing(cli: Cli, write_module: Write, write_yaml: Write) -> None:
    write_module("acme_hooks", HOOKS)
    answer = cli("explore", "acme_hooks", "--seeds", 2, "--nodes", 2)
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "  no problem found in 5 starts")
    assert "looking" not in answer.out + answer.err
    write_yaml(CONFIG.replace("[acme_hooks]", "[]"))
    assert "no hooks, so nothing is explored" in cli("explore", "config.yaml").out
    assert cli("explore", "acme_missing").code == 1
