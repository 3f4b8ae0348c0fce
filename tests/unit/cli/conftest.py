from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from typer.testing import CliRunner

import serve_llm_hooks
from serve_llm_hooks.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Answer(NamedTuple):
    """The answer of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answer]]:
    """Run a command in an empty folder, as in a pipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    before, known = list(sys.path), set(sys.modules)

    def run(*arguments: object) -> Answer:
        done = CliRunner().invoke(app, [str(each) for each in arguments], prog_name="serve-llm-hooks")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Answer(done.exit_code, done.stdout, done.stderr)

    yield run
    sys.path[:] = before
    for name in set(sys.modules) - known:  # of this folder: a package of files without an __init__.py has only a path
        module = sys.modules[name]
        where = getattr(module, "__file__", None) or list(getattr(module, "__path__", ()))
        if str(tmp_path) in str(where):
            del sys.modules[name]


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of `serve run`: whole, or the config of its one model."""

    def write(text: str, *, name: str = "config.yaml") -> Path:
        file = tmp_path / name
        file.write_text(textwrap.dedent(text))
        return file

    return write


def _is_of_ray(name: str) -> bool:
    return name.partition(".")[0] == "ray" or name.startswith("serve_llm_hooks.ray")


@pytest.fixture
def no_ray_yet() -> Iterator[None]:
    """Ray, and what adapts it here, as if not imported; whatever a test puts in their places goes again."""
    found = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_of_ray(name)}
    yield
    for name in [name for name in sys.modules if _is_of_ray(name)]:
        del sys.modules[name]
    vars(serve_llm_hooks).pop("ray", None)
    sys.modules.update(found)
    if "serve_llm_hooks.ray" in found:
        vars(serve_llm_hooks)["ray"] = found["serve_llm_hooks.ray"]
