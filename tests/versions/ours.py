"""Read out of this library's own sources what it takes from Ray."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import _lazy_imports
from serve_llm_hooks.ray import internals

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[2] / "serve_llm_hooks"
INTERNAL = "ray.llm._internal"


@dataclass(frozen=True, order=True)
class Name:
    """Something of Ray's, and one of our files that uses it."""

    module: str
    name: str
    file: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Call:
    """A call of something of Ray's."""

    of: Name
    line: int
    positional: int
    keywords: tuple[str, ...]
    starred: bool

    def __str__(self) -> str:
        return f"{self.of.file}:{self.line} {self.of.name}"


@cache
def files() -> dict[str, ast.Module]:
    """Our sources, by their paths in the package."""
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}


def internal_names() -> dict[str, str]:
    """Return what ``internals`` gives, and the modules that it takes it from."""
    return _lazy_imports.listed(internals.__name__)


def _aliases(file: str, tree: ast.Module) -> dict[str, Name]:
    """Return what the names in a file of ours mean, those of Ray's only."""
    found: dict[str, Name] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        for alias in node.names:
            if node.module.partition(".")[0] == "ray" and not node.level:
                found[alias.asname or alias.name] = Name(node.module, alias.name, file)
            elif node.module == "internals" and alias.name in internal_names():
                found[alias.asname or alias.name] = Name(internal_names()[alias.name], alias.name, file)
    return found


def _attribute(node: ast.AST, file: str) -> Name | None:
    """``ray.util.placement_group_table`` as a name in a module."""
    if not isinstance(node, ast.Attribute):
        return None
    module, _, name = ast.unparse(node).rpartition(".")
    ours = module.partition(".")[0] == "ray" and module.replace(".", "").isidentifier()
    return Name(module, name, file) if ours else None


def names() -> list[Name]:
    """All that our files import from Ray, and all that they reach as ``ray.…``."""
    found: set[Name] = set()
    for file, tree in files().items():
        found.update(_aliases(file, tree).values())
        reached = (_attribute(node, file) for node in ast.walk(tree))
        found.update(name for name in reached if name is not None)
    return sorted(found)


def calls() -> list[Call]:
    """All calls of Ray's functions and classes that can be told by their names."""
    found = []
    for file, tree in files().items():
        aliases = _aliases(file, tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            of = aliases.get(node.func.id) if isinstance(node.func, ast.Name) else _attribute(node.func, file)
            if of is not None:
                positional = sum(not isinstance(arg, ast.Starred) for arg in node.args)
                keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
                starred = positional < len(node.args) or len(keywords) < len(node.keywords)
                found.append(Call(of, node.lineno, positional, keywords, starred))
    return found


def class_in(file: str, name: str) -> ast.ClassDef:
    """A class of ours."""
    [cls] = [node for node in ast.walk(files()[file]) if isinstance(node, ast.ClassDef) and node.name == name]
    return cls


def value_in(file: str, name: str) -> ast.expr:
    """Return the value of a constant of ours."""
    for node in files()[file].body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name and node.value is not None:
            return node.value
    raise LookupError(f"{file} has no {name}")


def mentions_of_internals() -> list[str]:
    """Where our files name ``ray.llm._internal`` in an import, or in a string that is no documentation."""
    return [
        f"{file}:{line}"
        for file, tree in files().items()
        for line, text in _imported_and_said(tree)
        if f"{text}.".startswith(f"{INTERNAL}.") or INTERNAL in text.split()
    ]


def _imported_and_said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
