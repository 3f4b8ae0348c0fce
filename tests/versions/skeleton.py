"""Compares what is relied upon, written as a skeleton of the other's code, with the code itself.

A skeleton is Python, and says less than the code:

- **A class** is there, has these bases among its own, and these members, its own or inherited.
- **A function** is there, ``async`` where the skeleton's is, with these decorators among its own. It takes these
  parameters: those before a ``*`` at these positions, those behind it by name. It needs no other parameter, unless
  there is a ``*_``: then it is only read, neither called nor overridden. ``=`` on a parameter: it may be left out, and
  where a value is written, that is the default.
- **A function's body** has these statements, in this order; others may be before, between and after them, and around
  them. An expression may be part of a larger one. A body that is ``pass`` does nothing.
- **A name** is assigned this value, or annotated: ``name: ...``.
- ``...`` stands for anything; as an argument of a call or a key of a dict, for any others besides.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from .sources import Found, Function, defined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .sources import Definition, Sources

COMPOUND = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try)


def differences(skeleton: str, module: str, sources: Sources) -> list[str]:
    """Return what a module does not have of its skeleton, one line each."""
    if sources.module(module) is None:
        return [f"there is no module {module}"]
    said: list[str] = []
    for wanted in ast.parse(skeleton).body:
        for name in sorted(defined(wanted)):
            found = sources.find(module, name)
            if found is None or found.node is None:
                said.append(f"{module} has no {name}")
            else:
                said += _compare(wanted, found.node, found, sources, f"{found.module}: {name}")
    return said


def _compare(wanted: ast.stmt, there: Definition, at: Found, sources: Sources, where: str) -> list[str]:
    if isinstance(wanted, ast.ClassDef):
        if not isinstance(there, ast.ClassDef):
            return [f"{where} is no class"]
        bases = {ast.unparse(base) for base in there.bases}
        said = [f"{where} has no base {ast.unparse(b)}" for b in wanted.bases if ast.unparse(b) not in bases]
        for member in wanted.body:
            for name in sorted(defined(member)):
                found = sources.member(at, name)
                if found is None:
                    said.append(f"{where} has no {name}")
                else:
                    said += _compare(member, found, at, sources, f"{where}.{name}")
        return said
    if isinstance(wanted, ast.FunctionDef | ast.AsyncFunctionDef):
        if not isinstance(there, ast.FunctionDef | ast.AsyncFunctionDef):
            return [f"{where} is no function"]
        return [f"{where} {what}" for what in (*_signature(wanted, there), *_body(wanted, there))]
    value = wanted.value if isinstance(wanted, ast.Assign | ast.AnnAssign) else None
    its = there.value if isinstance(there, ast.Assign | ast.AnnAssign) else None
    if value is not None and (its is None or not matches(value, its)):
        return [f"{where} is not {ast.unparse(value)}, but {ast.unparse(its) if its else 'something else'}"]
    return []


def _signature(wanted: Function, there: Function) -> Iterator[str]:
    if type(wanted) is not type(there):
        yield "is async" if isinstance(there, ast.AsyncFunctionDef) else "is not async"
    decorators = {ast.unparse(each) for each in there.decorator_list}
    for each in wanted.decorator_list:
        if ast.unparse(each) not in decorators:
            yield f"has no @{ast.unparse(each)}"
    yield from _parameters(wanted, there)


def _parameters(wanted: Function, there: Function) -> Iterator[str]:
    its = [*there.args.posonlyargs, *there.args.args]
    by_name = [*there.args.args, *there.args.kwonlyargs]
    names = {each.arg for each in by_name}
    for index, each in enumerate(wanted.args.args):
        if index >= len(its) or its[index].arg != each.arg:
            yield f"has no parameter {each.arg!r} at position {index}"
    for each in wanted.args.kwonlyargs:
        if each.arg not in names:
            yield f"has no parameter {each.arg!r}"
    if wanted.args.kwarg and not there.args.kwarg:
        yield f"takes no **{wanted.args.kwarg.arg}"
    defaults = default_values(there)
    for name, default in default_values(wanted).items():
        if name in names and name not in defaults:
            yield f"needs {name!r}, which was optional"
        elif name in names and not matches(default, defaults[name]):
            yield f"has another default for {name!r}: {ast.unparse(defaults[name])}"
    known = {each.arg for each in (*wanted.args.args, *wanted.args.kwonlyargs)}
    for name in required(there):
        if name not in known and not wanted.args.vararg:
            yield f"needs another parameter: {name!r}"


def default_values(function: Function) -> dict[str, ast.expr]:
    """The parameters that may be left out, and what they then are."""
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    behind = positional[len(positional) - len(args.defaults) :]
    pairs = [*zip(behind, args.defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {parameter.arg: value for parameter, value in pairs if value is not None}


def required(function: Function) -> list[str]:
    """The parameters that must be given."""
    args = function.args
    optional = default_values(function)
    return [each.arg for each in (*args.posonlyargs, *args.args, *args.kwonlyargs) if each.arg not in optional]


def _body(wanted: Function, there: Function) -> Iterator[str]:
    body = [node for node in there.body if not _says_nothing(node)]
    if [type(node) for node in wanted.body] == [ast.Pass]:
        if body:
            yield f"is no longer without effect: {ast.unparse(body[0])}"
        return
    missing = _missing(wanted.body, body)
    if missing is not None:
        yield f"no longer does, or no longer in this order: {ast.unparse(missing)}"


def _says_nothing(node: ast.stmt) -> bool:
    bare_return = isinstance(node, ast.Return) and node.value is None
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass) or bare_return or docstring


def _missing(wanted: Sequence[ast.stmt], body: Sequence[ast.stmt]) -> ast.stmt | None:
    """The first wanted statement that is not in a body, behind those before it."""
    rest = iter(list(_flat(body)))
    for each in wanted:
        if not _is_anything(each) and not any(_is(each, node) for node in rest):
            return each
    return None


def _flat(body: Sequence[ast.stmt]) -> Iterator[ast.stmt | ast.ExceptHandler]:
    """All statements of a body in the order of their lines, those in other statements too."""
    for node in body:
        yield node
        if isinstance(node, COMPOUND):
            yield from _flat(node.body)
            for handler in getattr(node, "handlers", ()):
                yield handler
                yield from _flat(handler.body)
            yield from _flat(getattr(node, "orelse", ()))
            yield from _flat(getattr(node, "finalbody", ()))


def _is_anything(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        node = node.value
    return isinstance(node, ast.Constant) and node.value is ...


def _is(wanted: ast.stmt, there: ast.stmt | ast.ExceptHandler) -> bool:
    """Return True if a statement is the wanted one, as far as that says."""
    if isinstance(wanted, COMPOUND):
        return (
            type(wanted) is type(there)
            and all(
                _same(getattr(wanted, name), getattr(there, name))
                for name in ("test", "target", "iter", "items")
                if hasattr(wanted, name)
            )
            and _missing(wanted.body, there.body) is None
            and all(
                any(
                    _same(handler.type, other.type) and _missing(handler.body, other.body) is None
                    for other in getattr(there, "handlers", ())
                )
                for handler in getattr(wanted, "handlers", ())
            )
        )
    if isinstance(wanted, ast.Expr):
        return any(isinstance(part, ast.expr) and matches(wanted.value, part) for part in _expressions(there))
    return type(wanted) is type(there) and _same_fields(wanted, there)


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Return what a statement itself evaluates: not the statements in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _expressions(child)


def matches(wanted: ast.expr, there: ast.expr) -> bool:
    """Return True if an expression is the wanted one, ``...`` in it standing for anything."""
    return _same(wanted, there)


def _same(wanted: object, there: object) -> bool:
    if isinstance(wanted, ast.AST) and _is_anything(wanted):
        return True
    if isinstance(wanted, list) and isinstance(there, list):
        return len(wanted) == len(there) and all(map(_same, wanted, there))
    if isinstance(wanted, ast.Call) and isinstance(there, ast.Call):
        return _same_call(wanted, there)
    if isinstance(wanted, ast.Dict) and isinstance(there, ast.Dict):
        return _same_dict(wanted, there)
    if isinstance(wanted, ast.AST) and isinstance(there, ast.AST):
        return type(wanted) is type(there) and _same_fields(wanted, there)
    return wanted == there


def _same_fields(wanted: ast.AST, there: ast.AST) -> bool:
    # Not the context: an attribute that is stored to is the same attribute.
    ignored = ("ctx", "type_comment", "type_params", "kind")
    return all(_same(getattr(wanted, name), getattr(there, name)) for name in wanted._fields if name not in ignored)


def _same_call(wanted: ast.Call, there: ast.Call) -> bool:
    args = [arg for arg in wanted.args if not _is_anything(arg)]
    others = len(args) < len(wanted.args)
    if not _same(wanted.func, there.func) or len(args) > len(there.args):
        return False
    if not others and (len(args) != len(there.args) or len(wanted.keywords) != len(there.keywords)):
        return False
    return all(map(_same, args, there.args)) and all(
        any(keyword.arg == other.arg and _same(keyword.value, other.value) for other in there.keywords)
        for keyword in wanted.keywords
    )


def _same_dict(wanted: ast.Dict, there: ast.Dict) -> bool:
    pairs = [(k, v) for k, v in zip(wanted.keys, wanted.values, strict=True) if not (k and _is_anything(k))]
    if len(pairs) == len(wanted.keys) and len(pairs) != len(there.keys):
        return False
    return all(
        any(_same(key, k) and _same(value, v) for k, v in zip(there.keys, there.values, strict=True))
        for key, value in pairs
    )
