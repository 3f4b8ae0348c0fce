"""Reads what the files of packages import: at the top, in functions, for checkers only; relative and absolute."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One name or module that a line imports.

    Attributes:
        file: the file that imports.
        line: where in it.
        target: the full name of the module that is imported, or of the name in a module that is not one of ours.
        at_once: whether it is imported with the file, and not in a function or for checkers only.
    """

    file: Path
    line: int
    target: str
    at_once: bool


class Packages:
    """The files of packages, by the full names of their modules."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.files: dict[str, Path] = {
            ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): file
            for package, folder in folders.items()
            for file in sorted(folder.rglob("*.py"))
        }
        self.names: dict[Path, str] = {file: name for name, file in self.files.items()}

    def imports(self) -> list[Import]:
        """Return the imports of all files."""
        return [each for file in self.names for each in self.imports_of(file)]

    def imports_of(self, file: Path) -> Iterator[Import]:
        """Yield the imports of a file. Relative ones are resolved in its package, if it belongs to one."""
        name = self.names.get(file, "")
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        yield from self.imports_in(file.read_text(encoding="utf-8"), file, package)

    def imports_in(self, text: str, file: Path, package: str = "") -> Iterator[Import]:
        """Yield the imports of a file's text, or of a part of it."""
        for node, at_once in _statements(ast.parse(text)):
            for target in self._targets(node, package):
                yield Import(file, node.lineno, target, at_once)

    def _targets(self, node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        ups = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*ups, *([node.module] if node.module else [])])
        for alias in node.names:
            # `from . import points` imports a module, `from .points import HookPoint` the one that the name is in.
            inside = f"{module}.{alias.name}"
            yield inside if inside in self.files or module not in self.files else module


def _statements(tree: ast.AST, *, at_once: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_once
        elif isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
            yield from _statements(ast.Module(node.body, []), at_once=False)
            yield from _statements(ast.Module(node.orelse, []), at_once=at_once)
        else:
            in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(node, at_once=at_once and not in_function)
