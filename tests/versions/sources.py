"""Sources that are read and not imported: Ray's, out of a wheel, and ours."""

from __future__ import annotations

import ast
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Found:
    """Where a name leads to.

    Attributes:
        module: the module that defines it.
        node: the definition; ``None`` where it is a module, or is defined outside the wheel's Python.
    """

    module: str
    node: Definition | None


class Sources:
    """The Python modules in a wheel."""

    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel
        self._parsed: dict[str, ast.Module | None] = {}

    @cached_property
    def _files(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._wheel)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._files.namelist())

    def _file(self, module: str) -> str | None:
        base = module.replace(".", "/")
        return next((name for name in (f"{base}/__init__.py", f"{base}.py") if name in self._names), None)

    def module(self, name: str) -> ast.Module | None:
        """A module's syntax tree; ``None`` where there is no such Python module."""
        if name not in self._parsed:
            file = self._file(name)
            self._parsed[name] = None if file is None else ast.parse(self._files.read(file))
        return self._parsed[name]

    def modules(self, under: str) -> Iterator[tuple[str, ast.Module]]:
        """All modules of a package."""
        folder = under.replace(".", "/") + "/"
        for file in sorted(self._names):
            if file.startswith(folder) and file.endswith(".py"):
                name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                tree = self.module(name)
                assert tree is not None
                yield name, tree

    def find(self, module: str, name: str) -> Found | None:
        """Return what a module's name leads to, through imports of Ray's own; ``None`` if there is no such name."""
        tree = self.module(module)
        if tree is None:
            # Something compiled (``ray._raylet``) has its names, as far as can be told here.
            base = module.replace(".", "/")
            compiled = any(file.startswith(f"{base}.") and file.endswith(".so") for file in self._names)
            return Found(module, None) if compiled else None
        found = None
        for node in top_level(tree.body):
            if isinstance(node, ast.ImportFrom):
                origin = absolute(node, module)
                for alias in node.names:
                    # A package that imports a module of its own out of itself: that one is below.
                    if (alias.asname or alias.name) == name and (origin, alias.name) != (module, name):
                        found = self._imported(origin, alias.name)
            elif isinstance(node, ast.Import):
                if any((alias.asname or alias.name) == name for alias in node.names):
                    found = Found(name, None)
            elif name in defined(node):
                found = Found(module, node)  # the last one: those before it are overloads
        if found is None and self._file(f"{module}.{name}") is not None:
            return Found(f"{module}.{name}", None)
        return found

    def _imported(self, module: str, name: str) -> Found | None:
        if module.partition(".")[0] != "ray":
            return Found(module, None)
        return self.find(module, name)

    def linear(self, found: Found) -> list[tuple[str, ast.ClassDef]]:
        """A class and its bases in Ray, near enough to the order in which Python looks through them."""
        if not isinstance(found.node, ast.ClassDef):
            return []
        order = [(found.module, found.node)]
        for base in found.node.bases:
            leads_to = self.find(found.module, base.id) if isinstance(base, ast.Name) else None
            for one in self.linear(leads_to) if leads_to is not None else ():
                if one in order:
                    order.remove(one)  # a base that two have in common comes after both
                order.append(one)
        return order

    def member(self, found: Found, name: str) -> Definition | None:
        """A class's member, its own or inherited."""
        for _, cls in self.linear(found):
            for node in cls.body:
                if not isinstance(node, ast.Import | ast.ImportFrom) and name in defined(node):
                    return node  # type: ignore[return-value]  # what defines a name and imports nothing
        return None


def top_level(body: Iterable[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom | Definition]:
    """Yield what a module defines and imports at its import, ``if`` and ``try`` included, ``TYPE_CHECKING`` not."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom | Definition):
            yield node
        elif isinstance(node, ast.If):
            if not is_type_checking(node):
                yield from top_level(node.body)
            yield from top_level(node.orelse)
        elif isinstance(node, ast.Try):
            yield from top_level(node.body)
            for handler in node.handlers:
                yield from top_level(handler.body)
        elif isinstance(node, ast.With):
            yield from top_level(node.body)


def is_type_checking(node: ast.If) -> bool:
    """Return True for ``if TYPE_CHECKING:``."""
    return ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


def defined(node: ast.stmt) -> set[str]:
    """The names that a definition or an assignment gives a value, or a type."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {node.target.id} if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else set()


def absolute(node: ast.ImportFrom, module: str) -> str:
    """The module that a ``from … import`` names; Ray's are absolute but for a few in packages."""
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level] if node.level > 1 else module.split(".")
    return ".".join([*package, node.module] if node.module else package)


def own_names(cls: ast.ClassDef) -> set[str]:
    """Return what a class itself defines, the attributes that its methods give ``self`` included."""
    names: set[str] = set()
    for node in cls.body:
        names |= defined(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names |= {
                inner.attr
                for inner in ast.walk(node)
                if isinstance(inner, ast.Attribute)
                and isinstance(inner.ctx, ast.Store)
                and ast.unparse(inner.value) == "self"
            }
    return names


def fields(cls: ast.ClassDef) -> list[str]:
    """A dataclass's or a pydantic model's fields."""
    return [name for node in cls.body if isinstance(node, ast.AnnAssign) for name in defined(node)]


def members_of_enum(cls: ast.ClassDef) -> list[str]:
    """An enum's members."""
    return [name for node in cls.body if isinstance(node, ast.Assign) for name in defined(node)]


def parameters(function: Function) -> ast.arguments:
    """A function's parameters."""
    return function.args
