"""The command line as a program: how it is started, what it needs, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import serve_llm_hooks
from serve_llm_hooks import dump_traces
from serve_llm_hooks.cli.app import app
from tests.docs_blocks import ROOT
from tests.unit.core.test_saved_trace import EVENT, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer

    Cli = Callable[..., Answer]

COMMANDS = [str(command.name) for command in app.registered_commands]
MODULE = [sys.executable, "-m", "serve_llm_hooks.cli"]


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "testing")])
    env = {**os.environ, "PYTHONPATH": paths, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_module_and_the_script() -> None:
    done = run(*MODULE, "--version")
    assert (done.returncode, done.stdout.strip()) == (0, serve_llm_hooks.__version__)
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["serve-llm-hooks"]
    module, _, name = script.partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_how_it_exits(cli: Cli, command: str) -> None:
    answer = cli(command, "--help")
    assert answer.code == 0
    assert f"  serve-llm-hooks {command} " in answer.out.partition("Examples:\n")[2]
    assert "Exit code" in answer.out
    assert f"  {command} " in cli("--help").out


def test_the_list_of_commands_is_not_cut(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = cli("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS  # one line each
    assert [line for line in listed if not line.endswith(".") or line.endswith("..")] == []


def test_the_exit_codes_are_wrapped_to_the_terminal() -> None:
    told = run(*MODULE, "--help", COLUMNS="40").stdout.partition("Exit code 0")[2].splitlines()
    assert max(map(len, told)) <= 50  # the narrowest that click writes
    assert sum("Exit code" in line for line in told) == 2


def test_a_wrong_option_and_a_wrong_command(cli: Cli) -> None:
    assert cli("plan", "--modle", "m").code == 2
    assert cli("pln").code == 2


def test_nothing_imports_ray() -> None:
    code = (
        "import sys; from serve_llm_hooks.cli.app import app\n"
        f"app(['plan', {str(ROOT / 'examples/demo.yaml')!r}, '--app-dir', {str(ROOT / 'examples')!r}],"
        "standalone_mode=False)\n"
        "assert not {'ray', 'torch', 'vllm', 'pytest'} & set(sys.modules), sorted(sys.modules)"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "demo_hooks:check_disk" in done.stdout


@pytest.mark.parametrize("missing", ["typer", "rich", "yaml"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from serve_llm_hooks.cli import main; main()"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 2
    assert done.stderr == (
        f"serve-llm-hooks needs {missing}, which is not installed: pip install 'serve-llm-hooks[cli]'\n"
    )


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text(dump_traces({"m": trace_of(EVENT)}))
    done = run(*MODULE, "trace", str(file), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(on_before_init)" in done.stdout


def test_completion() -> None:
    words = {"COMP_WORDS": "serve-llm-hooks plan --mo", "COMP_CWORD": "2"}
    done = run(*MODULE, _SERVE_LLM_HOOKS_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == ["--model"]
    no_shell = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else it looks for one above this process
    shown = run(*MODULE, "--show-completion", "bash", **no_shell).stdout
    assert "complete -o default -F _serve_llm_hooks_completion" in shown
