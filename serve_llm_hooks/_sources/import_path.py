"""Import by path: the one way from ``"pkg.mod:name"`` or ``"hooks/file.py:name"`` to a module or an object."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .._core.errors import HookImportError, HookLoadError, is_a, reraise_if_not_a_failure
from .._core.messages import describe, did_you_mean, exit_of, has_value, kind_of, one_line, own, readable
from .._core.origin import file_module_name
from .allow import check_callable, check_source, is_allowed
from .shipped import how_to_ship

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


ALONE = (
    "a hooks file travels alone, and a node may not have what lies beside it. Put both into a package, name its module "
    "in hooks=[...], and ship the package or install it on every node."
)
"""The advice for a hooks file that imports the file beside it."""


def split_path(ref: str) -> tuple[str, str]:
    """Split ``path:name`` into its halves; the name is empty where there is none. A Windows drive is part of the path.

    Example:
        >>> split_path("hooks/file.py:check")
        ('hooks/file.py', 'check')
    """
    path, colon, name = ref.rpartition(":")
    if not colon or "/" in name or "\\" in name:
        return ref, ""
    return path, name


def is_file(path: str) -> bool:
    """Return True if a path means a ``.py`` file, and not a module's name."""
    return path.endswith(".py") or "/" in path


def files_in(path: str, named: str) -> list[str] | None:
    """Return the ``.py`` files of a folder, sorted; ``None`` where a path means no folder that is there.

    Raises:
        HookImportError: it has none, or it is a package, whose modules have names.
    """
    there = os.path.expanduser(path)  # pathlib's raises where there is no such user, and for a name that is too long
    if not is_file(path) or not os.path.isdir(there):
        return None
    folder = Path(there).resolve()
    name = ""
    package = folder
    while (package / "__init__.py").exists():
        name = f"{package.name}.{name}" if name else package.name
        package = package.parent
    if name:
        raise HookImportError(f"{named} is the package {name}: name that, or one of its modules, as in '{name}.hooks'")
    files = sorted(file.as_posix() for file in folder.glob("*.py"))
    if not files:
        raise HookImportError(f"{named} is a folder without .py files ({folder})")
    return files


def import_path(path: str, named: str, what: str) -> ModuleType:
    """Import a module by its name, or a ``.py`` file by its path.

    Args:
        path: the module or file.
        named: the entry of the config, in words: ``"'pkg.mod' in hooks=[...]"``.
        what: the module, in words: ``"hooks module 'pkg.mod'"``.

    Raises:
        HookNotAllowedError: ``SERVE_LLM_HOOKS_ALLOW`` does not list it; nothing was imported.
        HookImportError: it is no path, cannot be found, or fails while it is imported.
    """
    if is_file(path):
        return _import_file(Path(path), named, what)
    if not path or not all(part.isidentifier() for part in path.split(".")):
        raise HookImportError(f"{named} is no module path: write 'pkg.mod', 'pkg.mod:function' or 'path/to/file.py'")
    check_source(path, named)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = own(error, ImportError, "name") or path
        if path == missing or path.startswith(f"{missing}."):
            advice = how_to_ship(path.replace(".", "/"))
            raise HookImportError(f"{what} cannot be found (no module {missing!r}). {advice}") from readable(error)
        raise _import_failed(what, error) from readable(error)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        raise _import_failed(what, error) from readable(error)


def _import_file(path: Path, named: str, what: str) -> ModuleType:
    """Import a file. Its functions travel by value, since no other process can import it by name."""
    import cloudpickle

    try:
        file = path.expanduser().resolve()
        is_there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a loop of links, a NUL, a name that is too long
        raise HookImportError(f"{what} is no path of a file: {one_line(error)}") from None
    check_source(file.as_posix(), named)
    if file.is_dir():
        raise HookImportError(f"{what} is a folder: name a file in it, as in '{path.as_posix()}/hooks.py:function'")
    if not is_there:
        advice = "" if path.is_absolute() else f". {how_to_ship(path.as_posix())}"
        raise HookImportError(f"{what} is not there (looked at {file}){advice}") from FileNotFoundError(str(file))
    name = file_module_name(file.as_posix())
    if importlib.util.spec_from_file_location(name, file) is None:
        raise HookImportError(f"{what} is no Python file")
    _FILES.paths[name] = file
    if _FILES not in sys.meta_path:
        sys.meta_path.append(_FILES)
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        missing = str(own(error, ImportError, "name")).partition(".")[0] if is_a(error, ModuleNotFoundError) else ""
        if missing and (file.with_name(f"{missing}.py").is_file() or file.with_name(missing).is_dir()):
            raise HookImportError(f"{what} imports {missing!r}, which lies beside it: {ALONE}") from readable(error)
        raise _import_failed(what, error) from readable(error)
    cloudpickle.register_pickle_by_value(module)
    return module


class _HooksFiles:
    """Tell Python's import where hooks files are, so that its locks hold for them as for every other module."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a hooks file, by the name that it is loaded as."""
        file = self.paths.get(name)
        return None if file is None else importlib.util.spec_from_file_location(name, file)


_FILES = _HooksFiles()


def _import_failed(what: str, error: BaseException) -> HookImportError:
    from .._core.frames import authors_frames  # only a failure pays for this import

    frames, frame = list[tuple[str, str]](), own(error, BaseException, "__traceback__")
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        frames.append((file, f" ({file}:{frame.tb_lineno})"))
        frame = frame.tb_next
    at = "".join(authors_frames(frames)[-1:])  # @hook raises in here what is wrong on the author's line
    if is_a(error, SyntaxError) and (file := own(error, SyntaxError, "filename")):  # raised by Python, it says where
        at = f" ({file}:{own(error, SyntaxError, 'lineno')})"
    exit_called = exit_of(error)  # raised, it would end Serve's event loop, and the replica would hang
    why = f"it called {exit_called}" if exit_called else one_line(error)
    return HookImportError(f"{what} fails while it is imported: {why}{at}")


def attribute_of(module: ModuleType, name: str, what: str) -> Any:
    """Return ``module.name``; the name may be dotted.

    Args:
        module: the module.
        name: the name.
        what: the path, in words, for messages: ``"hook 'pkg.mod:name'"``.

    Raises:
        AttributeError: there is none.
        HookLoadError: a lazy proxy with nothing behind it.
    """
    target: Any = module
    for part in name.split("."):
        target = getattr(target, part)
        check_is_there(target, what)
    return target


def load_callback(spec: Any) -> Any:
    """Import a callable by its path; return one that is given as an object unchanged.

    Args:
        spec: ``"pkg.mod:name"``, ``"pkg.mod.name"``, or a callable.

    Raises:
        ValueError: a string without a dot or a colon.
        ImportError: the module cannot be imported; the message names it, and says what to do.
        AttributeError: the module has no such name; the message lists its callables.
        TypeError: the object is not callable.
        HookLoadError: it is a lazy proxy with nothing behind it.
        HookNotAllowedError: its module is not in ``SERVE_LLM_HOOKS_ALLOW``; nothing was imported.

    Example:
        >>> load_callback("os.path:basename")("/models/llama")
        'llama'
    """
    check_is_there(spec, "a callback")
    if not isinstance(spec, str):
        if callable(spec):
            check_callable(spec)
            return spec
        raise TypeError(f"a callback is a callable or its path ('pkg.mod:name'), not {describe(spec)}")
    check_is_no_secret(spec, "a callback")
    path, colon, name = spec.rpartition(":") if ":" in spec else spec.rpartition(".")
    if not colon or not path or not name:
        raise ValueError(f"{spec!r} is no path of a callback: write 'pkg.mod:name' or 'pkg.mod.name'")
    module = import_path(path, f"callback {spec!r}", f"callback {spec!r}: module {path!r}")
    try:
        target = attribute_of(module, name, f"callback {spec!r}")
    except AttributeError:
        if is_module(spec.replace(":", ".")):
            target = module  # a submodule that nobody has imported yet
        else:
            names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
            raise AttributeError(
                f"callback {spec!r}: {path} has no {name!r}{did_you_mean(name, names)}. "
                f"Its callables: {', '.join(names) or 'none'}."
            ) from None
    if isinstance(target, ModuleType):
        raise TypeError(f"callback {spec!r} names a module: write '{spec.replace(':', '.')}:name', with the name in it")
    if not callable(target):
        raise TypeError(f"callback {spec!r} is not callable: {kind_of(target)}")
    check_callable(target)  # it may come from another module than the one that it was found in
    return target


def check_is_there(target: object, what: str) -> None:
    """Check that what was found or given is the thing itself, and no lazy proxy with nothing behind it.

    Such a proxy raises whatever it is asked.

    Raises:
        HookLoadError: it is one.
    """
    try:
        # A proxy's are those of what it stands for.
        _ = isinstance(target, type), getattr(target, "__qualname__", None)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        raise HookLoadError(
            f"{what} is {kind_of(target)}, which cannot be looked at ({type(error).__name__}), like a lazy proxy that "
            "nothing has been bound to yet: name the function or class that it stands for"
        ) from readable(error)


def check_is_no_secret(path: str, what: str) -> None:
    """Check that a path is no URL, which may have a password in it, and no other text that may be a secret.

    Raises:
        HookImportError: it is one.
    """
    if "://" in path:
        raise HookImportError(
            f"{what} is the URL {describe(path)}, and nothing is imported from there: write 'pkg.mod', "
            "'pkg.mod:name' or 'path/to/file.py'"
        )
    file = split_path(path)[0]
    if has_value(path) and not file.endswith(".py") and not os.path.exists(os.path.expanduser(file)):
        raise HookImportError(f"{what} is a str that is no path: write 'pkg.mod', 'pkg.mod:name' or 'path/to/file.py'")


def is_module(path: str) -> bool:
    """Return True if a name is that of a module that hooks may come from; the packages above it are imported."""
    try:
        return is_allowed(path) and importlib.util.find_spec(path) is not None
    except ImportError:
        return False
