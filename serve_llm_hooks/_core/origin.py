"""Find where a callable comes from: its path for messages, and the module or file that may be allowed or denied."""

from __future__ import annotations

import sys
from types import FunctionType, MethodWrapperType, WrapperDescriptorType
from typing import Any

_WRITTEN_IN_C = (MethodWrapperType, WrapperDescriptorType)


def path_of(owner: object) -> str:
    """Return ``module:qualname`` of a function, a class, or an instance's class; of a partial, its function's."""
    named: Any = owner if hasattr(owner, "__qualname__") else getattr(owner, "func", type(owner))
    # What is written in C may have no module: a list's method has that of its list.
    module = getattr(named, "__module__", None) or type(getattr(named, "__self__", None)).__module__
    return f"{module}:{getattr(named, '__qualname__', type(named).__name__)}"


def file_module_name(file: str) -> str:
    """Return the name of the module that a hooks file is loaded as: its stem and a hash of its resolved path.

    A module's name comes back as it is.
    """
    if "/" not in file:
        return file
    import hashlib

    stem = file.rpartition("/")[2].removesuffix(".py").replace(".", "_")  # a dot would mean a package
    return f"{stem}_{hashlib.sha256(file.encode(errors='surrogatepass')).hexdigest()[:8]}"


def source_of(owner: object) -> str:
    """Return the module or file that ``SERVE_LLM_HOOKS_ALLOW`` must allow for this function, class or instance.

    It is the module that the code was defined in; for a hooks file that was loaded by its path, the resolved file.
    Code that travelled by value from such a file still has the file in its globals.
    """
    module = path_of(owner).partition(":")[0]
    file = str(_globals_of(owner, module).get("__file__", "")).replace("\\", "/")
    return file if "/" in file and file_module_name(file) == module else module


def location_of(owner: Any) -> tuple[str, int] | None:
    """Return the file and the first line of a function, of a class, or of what an instance is called by.

    Example:
        >>> location_of(len) is None
        True
    """
    while not hasattr(owner, "__code__"):
        if isinstance(owner, type):
            return _location_of_class(owner)
        inner = getattr(owner, "func", None)  # a partial's function
        owner = getattr(type(owner), "__call__", None) if inner is None else inner  # noqa: B004  # its code is wanted
        if owner is None or isinstance(owner, _WRITTEN_IN_C):
            return None
    while hasattr(owner, "__wrapped__"):  # the author's own lines, and not those of a decorator
        owner = owner.__wrapped__
    code = getattr(owner, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def _location_of_class(owner: type) -> tuple[str, int] | None:
    import inspect  # it reads the file, and takes longer than the rest of this package

    try:
        return inspect.getfile(owner), inspect.getsourcelines(owner)[1]
    except (OSError, TypeError):  # no file, or one that has changed
        return None


def _globals_of(owner: Any, module: str) -> dict[str, Any]:
    """Return the module globals of a function, or of a method that was defined in the module of its class."""
    owner = getattr(owner, "__func__", owner)  # a bound method's function
    if not isinstance(owner, FunctionType) and not isinstance(owner, type):
        owner = getattr(owner, "func", type(owner))  # a partial's function, an instance's class
    if isinstance(owner, type):
        methods = [value for value in vars(owner).values() if isinstance(value, FunctionType)]
        in_module = vars(sys.modules[module]) if module in sys.modules else {}
        return next((each.__globals__ for each in methods if each.__globals__.get("__name__") == module), in_module)
    function: Any = owner
    while hasattr(function, "__wrapped__"):  # a wrapper's own globals may be any module's
        function = function.__wrapped__
    return getattr(function, "__globals__", {})
