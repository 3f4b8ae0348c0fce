"""Find mistakes in the code of hooks without running it: a veto that is thrown away, a name that nobody defines."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import sys
import textwrap
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import ask, skip
from serve_llm_hooks._core.hook import wrapped_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from serve_llm_hooks import Hook


def problems_in_code(hook: Hook) -> Iterator[str]:
    """Yield what is wrong with a hook's code, on whichever path it is."""
    about = f"hook {hook.ref} at {hook.point}"
    for fn in _functions(hook):
        for line, name in _asked_in_another_loop(fn):
            yield (
                f"{about} gives ask(...) to {name}(...) in line {line} of {fn.__module__}: the engine answers in the "
                "replica's event loop only, and not in one of a hook's own. Write `await ask(...)`, in an `async def`"
            )
        for line, name, called in _thrown_away(fn):
            where = f"in line {line} of {fn.__module__}"
            if called is skip:
                yield (
                    f"{about} calls skip(...) {where} and throws the result away, so nothing "
                    "is vetoed: write `return skip(...)`"
                )
            elif inspect.iscoroutinefunction(called):
                yield (
                    f"{about} calls {name}(...) {where} without `await`, so nothing of it "
                    f"runs: write `await {name}(...)`, in an `async def`"
                )
        for name, number in _unknown_names(fn):
            yield (
                f"{about} uses {name!r} in line {number} of {fn.__module__}, which has no such "
                "name: a NameError when a start comes to that line. Import it."
            )


def constants_of(hook: Hook) -> set[str]:
    """Return the texts that a hook's code holds, such as the keys that it writes into ``custom_data``."""
    return {
        constant
        for fn in _functions(hook)
        for code in _codes(fn.__code__)
        for constant in code.co_consts
        if isinstance(constant, str)
    }


def writers_of(problem: str, hooks: Iterable[Hook]) -> list[str]:
    """Return the hooks whose code holds the key that a problem is about, as in ``extra_init_kwargs['max_len']``."""
    return [hook.ref for hook in hooks if any(f"[{text!r}]" in problem for text in constants_of(hook))]


def _function_and_class(hook: Hook) -> tuple[Callable[..., Any] | None, type | None]:
    if hook.instance is None:
        return hook.fn, None
    owner = hook.instance.owner
    if isinstance(owner, FunctionType):
        return owner, None
    cls = owner if isinstance(owner, type) else type(owner)
    return getattr(cls, hook.method or "__call__", None), cls  # the latter: an object that is a phase function


def _functions(hook: Hook) -> list[FunctionType]:
    """Return a hook's function, and those of its own module or class that it calls."""
    fn, cls = _function_and_class(hook)
    first = wrapped_chain(fn)[-1]
    found: list[FunctionType] = []
    left: list[Any] = [first]
    while left:
        each = left.pop()
        if not isinstance(each, FunctionType) or each in found or each.__module__ != getattr(first, "__module__", None):
            continue
        found.append(each)
        for name in {name for code in _codes(each.__code__) for name in code.co_names}:
            left += [getattr(cls, name, None), each.__globals__.get(name)]
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _unknown_names(fn: FunctionType) -> Iterator[tuple[str, int]]:
    """Yield the names that a function reads and nobody has, each once, with their lines."""
    unknown: dict[str, int] = {}
    for code in _codes(fn.__code__):
        if "NameError" in code.co_names:  # it is prepared
            continue
        line = code.co_firstlineno
        for instruction in dis.get_instructions(code):
            line = getattr(instruction.positions, "lineno", None) or line
            name = instruction.argval
            if instruction.opname == "LOAD_GLOBAL" and name not in fn.__globals__ and not hasattr(builtins, name):
                unknown.setdefault(name, line)
    if unknown:
        written = _written_globals(fn)
        yield from ((name, line) for name, line in unknown.items() if name not in written)


def _written_globals(fn: FunctionType) -> set[str]:
    """Return the names that functions of the same module write with ``global``: they may be there by then."""
    module = sys.modules.get(fn.__module__)
    owners = [fn, *vars(module).values()] if module is not None else [fn]
    functions = [each for each in owners if isinstance(each, FunctionType) and each.__globals__ is fn.__globals__]
    return {
        instruction.argval
        for each in functions
        for code in _codes(each.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_GLOBAL"
    }


def _thrown_away(fn: FunctionType) -> Iterator[tuple[int, str, Any]]:
    """Yield what a function calls and makes nothing of: the line, the name as it is written, the callable.

    A call is a statement of its own; or its result, which of a coroutine function is a coroutine, is taken for a value.
    """
    for node, inside, line, names in _nodes(fn):
        if isinstance(node, ast.Call) and (isinstance(inside, ast.Expr) or _is_for_values(inside, names)):
            called = _value_of(node.func, names)
            if isinstance(inside, ast.Expr) or inspect.iscoroutinefunction(called):
                yield line, ast.unparse(node.func), called


def _is_for_values(inside: ast.AST, names: dict[str, Any]) -> bool:
    """Return whether code needs a value, and a coroutine is of no use to it."""
    if isinstance(inside, ast.Call):
        return isinstance(inside.func, ast.Name) and inside.func.id not in names and hasattr(builtins, inside.func.id)
    return isinstance(inside, ast.Attribute | ast.Subscript | ast.FormattedValue | ast.Compare | ast.BinOp)


def _asked_in_another_loop(fn: FunctionType) -> Iterator[tuple[int, str]]:
    """Yield the lines in which a function asks the engine in an event loop that it makes, and with what."""
    for node, inside, line, names in _nodes(fn):
        if isinstance(node, ast.Call) and isinstance(inside, ast.Call) and _value_of(node.func, names) is ask:
            name = ast.unparse(inside.func)
            if name.rpartition(".")[2] in ("run", "run_until_complete"):
                yield line, name


def _nodes(fn: FunctionType) -> Iterator[tuple[ast.AST, ast.AST, int, dict[str, Any]]]:
    """Yield the parts of a function's code: each with what it is part of, its line, and the function's names."""
    try:
        lines, first = inspect.getsourcelines(fn)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # it has no source, or is a piece of a line
        return
    names = {**fn.__globals__, **inspect.getclosurevars(fn).nonlocals}
    for inside in ast.walk(tree):
        for node in ast.iter_child_nodes(inside):
            yield node, inside, first + getattr(node, "lineno", 1) - 1, names


def _value_of(called: ast.expr, names: dict[str, Any]) -> Any:
    """Return what a name, or an attribute of one, stands for; ``None`` if that is not known."""
    if isinstance(called, ast.Name):
        return names.get(called.id)
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        return getattr(names.get(called.value.id), called.attr, None)
    return None
