"""The rules of a house. Each gives the lines that break it, and says of each which file, which line, which arrow."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from .imports import Import, Packages

LONGEST = 300
SHORTEST = 20


def arrows_up(packages: Packages, room_of: Callable[[str], str], below: Mapping[str, set[str]]) -> list[str]:
    """Imports that do not point down.

    Args:
        packages: the files.
        room_of: the room that a module is in.
        below: the rooms that each room may import.
    """
    broken = [
        f"{file}: it is in {room_of(name)!r}, which has no layer"
        for name, file in packages.files.items()
        if room_of(name) not in below
    ]
    for each in packages.imports():
        if each.target in packages.files:
            room, other = room_of(packages.names[each.file]), room_of(each.target)
            if other != room and other not in below.get(room, set()):
                broken.append(f"{each.file}:{each.line}: {room} -> {other} ({each.target})")
    return list(dict.fromkeys(broken))  # one line may import several names


def circles(packages: Packages) -> list[str]:
    """Files that import each other, over however many others; imports for checkers only count too."""
    arrows: dict[str, dict[str, Import]] = {name: {} for name in packages.files}
    for each in packages.imports():
        if each.target in packages.files:
            arrows[packages.names[each.file]].setdefault(each.target, each)
    found: dict[frozenset[str], str] = {}
    for name in arrows:
        around = _way(arrows, name, name)
        if around:
            lines = [f"{each.file}:{each.line}: -> {each.target}" for each in around]
            found.setdefault(frozenset(each.target for each in around), "a circle:\n  " + "\n  ".join(lines))
    return list(found.values())


def _way(arrows: Mapping[str, Mapping[str, Import]], start: str, end: str) -> list[Import]:
    """Return the shortest way from one file to another, or an empty list if there is none."""
    ways: dict[str, list[Import]] = {start: []}
    for name in (queue := [start]):
        for target, each in arrows[name].items():
            if target == end:
                return [*ways[name], each]
            if target not in ways:
                ways[target] = [*ways[name], each]
                queue.append(target)
    return []


def imported_by_others(packages: Packages, prefix: str, file: Path) -> list[str]:
    """Imports of what begins with a name, and texts that do (for ``import_module``), in all files but one."""
    imports = [(each.file, each.line, each.target) for each in packages.imports()]
    texts = [
        (each, node.lineno, node.value)
        for each in packages.names
        for node in ast.walk(ast.parse(each.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [
        f"{each}:{line}: -> {target} (only {file} may)"
        for each, line, target in [*imports, *texts]
        if each != file and target.startswith(prefix)
    ]


def too_long(files: Iterable[Path]) -> list[str]:
    """Files that nobody reads to their end."""
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    return [f"{file}:{length}: longer than {LONGEST} lines" for file, length in lengths.items() if length > LONGEST]


def forwards_only(files: Iterable[Path]) -> list[str]:
    """Short files, no packages' own, that only give other modules' names a second home."""
    return [
        f"{file}:1: it only forwards what others have"
        for file in files
        if file.name != "__init__.py"
        and len((text := file.read_text(encoding="utf-8")).splitlines()) < SHORTEST
        and not any(_says_something(node) for node in ast.parse(text).body)
    ]


def _says_something(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return any(_says_something(each) for each in [*node.body, *node.orelse])
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        is_all = any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
        return not is_all and not isinstance(node.value, ast.Name | ast.Attribute)
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not is_docstring and not isinstance(node, ast.Import | ast.ImportFrom)


def behind_the_face(imports: Iterable[Import], packages: Iterable[str]) -> Iterator[str]:
    """Imports of what users should not see: of a folder, a file or a name with an underscore."""
    for each in imports:
        top, *inside = each.target.split(".")
        if top in packages and any(part.startswith("_") for part in inside):
            yield f"{each.file}:{each.line}: -> {each.target}"
