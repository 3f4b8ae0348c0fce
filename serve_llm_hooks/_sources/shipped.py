"""Say how code is shipped; where something was shipped, what is in it and what was looked for."""

from __future__ import annotations

import os
import sys
from itertools import islice

_SHIP_IT = (
    "Is it installed on every node, or shipped with the deployment? runtime_env={'working_dir': ...} or "
    "{'py_modules': [...]} ships it."
)
_SHIP_FILE = (
    "Is it on every node, or shipped with the deployment? A file that is named by its path comes only with "
    "runtime_env={'working_dir': ...}; what py_modules ships is named as a module, 'pkg.mod'."
)
_FOR_PYTEST = (
    'Write pythonpath = ["."] below [tool.pytest.ini_options] in the pyproject.toml there, or run `python -m pytest`.'
)
# Where Ray unpacks what it ships: each has a folder of its own in one of these, and that folder is in sys.path.
_KINDS = {"working_dir_files": "working_dir", "py_modules_files": "py_modules"}
_SHOWN = 12  # names of a folder that a message shows
_READ = 500  # names of a folder that are looked at


def how_to_ship(wanted: str) -> str:
    """Return what to do about a module, or a file, that is missing in this process.

    Args:
        wanted: where it would be in a folder that is shipped: ``"pkg/mod"``, ``"hooks/file.py"``.
    """
    shipped = {path: _KINDS[kind] for path in sys.path if (kind := os.path.basename(os.path.dirname(path))) in _KINDS}
    if not shipped and _is_beside_pytest(wanted):
        return f"{wanted.partition('/')[0]} is in {os.getcwd()}, which pytest does not import from. {_FOR_PYTEST}"
    if not shipped:
        return _SHIP_FILE if wanted.endswith(".py") else _SHIP_IT
    found = "; ".join(f"{kind} ({path}) has {_shown(path, wanted)}" for path, kind in shipped.items())
    looked_for = wanted if wanted.endswith(".py") else f"{wanted}.py or {wanted}/__init__.py"
    return (
        f"Code was shipped to this process, but it is not in there: looked for {looked_for}; {found}. Ray takes away "
        "the one top folder of a zip, so a zip of a package has the package's parent as its top folder "
        "(anything/pkg/mod.py)."
    )


def _is_beside_pytest(wanted: str) -> bool:
    """Return True if a test is running in the folder where a module is, and that folder is not in ``sys.path``."""
    if "pytest" not in sys.modules or wanted.endswith(".py"):
        return False
    is_there = os.path.isfile(f"{wanted}.py") or os.path.isdir(wanted)
    return is_there and os.path.realpath(".") not in map(os.path.realpath, sys.path)


def _shown(path: str, wanted: str) -> str:
    """Return the names in the deepest folder there on the way to what is wanted, in words."""
    inside = ""
    for part in wanted.split("/")[:-1]:
        if not os.path.isdir(os.path.join(path, inside, part)):
            break
        inside = os.path.join(inside, part)
    try:
        with os.scandir(os.path.join(path, inside)) as entries:
            read = list(islice(entries, _READ))
    except OSError as error:
        return f"nothing that can be read ({type(error).__name__})"
    names = sorted(
        os.path.join(inside, entry.name) + "/" * entry.is_dir()
        for entry in read
        if not entry.name.startswith((".", "__pycache__"))
    )
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing in it") + more
