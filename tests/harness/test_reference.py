"""The reference in docs/testing.md has the names and the defaults of the code: no more, no fewer."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks_testing as harness
from serve_llm_hooks import CallbackCtx, NodeCtx
from serve_llm_hooks_testing import FakeCluster, FakeEngine, FakeLLMConfig, FakeNode, FakeRun, plugin
from tests.docs_blocks import ROOT
from tests.unit.stub import public_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
REFERENCE = PAGE.partition("\n## Reference\n")[2].partition("\n## ")[0]
WORDS = {"all": None, "none": ()}
"""Defaults, as the page writes them."""


def table(first_column: str) -> list[list[str]]:
    """Return the rows of the reference's table whose head begins with this."""
    _, _, below = REFERENCE.partition(f"\n| {first_column} |")
    lines = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def code_in(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def parameters(call: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a function with their defaults; ``inspect.Parameter.empty`` for none."""
    return {
        name: one.default
        for name, one in inspect.signature(call).parameters.items()
        if name != "self" and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }


def written(signature: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of a signature as the page writes it."""
    (function,) = ast.parse(f"def {signature}: ...").body
    assert isinstance(function, ast.FunctionDef)
    names = [one.arg for one in function.args.args]
    defaults = [ast.literal_eval(value) for value in function.args.defaults]
    required = [inspect.Parameter.empty] * (len(names) - len(defaults))
    return function.name, dict(zip(names, [*required, *defaults], strict=True))


def public_attributes(kind: Any) -> set[str]:
    """Return the fields and properties of a class."""
    properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
    return {field.name for field in dataclasses.fields(kind)} | properties


def faults() -> list[str]:
    """Return the names of the functions that make a fault."""
    functions = {name: getattr(harness, name) for name in public_names(harness)}
    return [
        name for name, one in functions.items() if inspect.isfunction(one) and one.__annotations__["return"] == "Fault"
    ]


def signatures(*names: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return those of these functions that the reference writes outside of its tables."""
    return [written(code) for code in code_in(REFERENCE) if code.partition("(")[0] in names and "(" in code]


def test_the_arguments_of_a_fake_cluster() -> None:
    shown: dict[str, Any] = {}
    for names, defaults, _ in table("argument"):
        values = re.findall(r"`?([\w.]+)`?", defaults)
        several = code_in(names)
        for name, value in zip(several, values if len(values) == len(several) else values * len(several), strict=True):
            shown[name] = WORDS[value] if value in WORDS else ast.literal_eval(value)
    assert shown == parameters(FakeCluster)


def test_the_fields_of_a_fake_config() -> None:
    paragraph = next(text for text in REFERENCE.split("\n\n") if text.startswith("`FakeLLMConfig("))
    names = {name for name in code_in(paragraph) if name.isidentifier()}
    given = parameters(FakeLLMConfig)
    assert names - {"LLMConfig"} == set(given) - {"model_id", "hooks"}
    for name in ("model_source", "on_error"):
        assert re.search(rf'`{name}`\s\(`"{given[name]}"`\)', paragraph)


def test_the_fields_of_a_run() -> None:
    rows = {code_in(name)[0]: text for name, text in table("field")}
    assert set(rows) == public_attributes(FakeRun)
    assert public_attributes(FakeNode) <= {*code_in(rows["nodes"])}
    assert public_attributes(FakeEngine) <= {*code_in(rows["engine"])}


def test_the_faults() -> None:
    shown = dict(written(code_in(name)[0]) for name, _ in table("fault"))
    assert shown == {name: parameters(getattr(harness, name)) for name in faults()}


@pytest.mark.parametrize(("name", "kind"), [("callback_ctx", CallbackCtx), ("node_ctx", NodeCtx)])
def test_the_contexts_of_one_hook(name: str, kind: Any) -> None:
    ((_, shown),) = signatures(name)
    given = parameters(getattr(harness, name))
    assert shown == {each: given[each] for each in shown}
    sentence = REFERENCE.partition(f"`{name}(")[2].partition(". ")[0]
    assert set(given) - set(shown) <= set(code_in(f"`{sentence}"))


@pytest.mark.parametrize("name", ["call_hook", "acall_hook"])
def test_the_arguments_of_a_hook_that_is_called_alone(name: str) -> None:
    (shown,) = (code for code in code_in(REFERENCE) if code.startswith("call_hook("))
    assert [*parameters(getattr(harness, name)), "**parameters"] == re.findall(
        r"[\w*]+(?=[,=)])", shown.replace("=None", "")
    )


def test_every_name_is_on_the_page() -> None:
    words = set(re.findall(r"\w+", PAGE))
    fixtures = [name for name, one in vars(plugin).items() if type(one).__name__ == "FixtureFunctionDefinition"]
    assert fixtures
    assert [name for name in (*public_names(harness), *fixtures) if name not in words] == []
