"""Give a process of a run what it has of the test's process, as a worker of Ray's has of its cluster."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import coverage_data
from .importable import dumps_function

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Surroundings:
    """The environment, working directory, ``sys.path``, levels of logging and filters of warnings of a process.

    Attributes:
        folder: the working directory.
        dump_file: where the process writes what its threads do, when it is asked to.
        setup: the test's own function, pickled; it is called before anything else.
        measured: how the test measures its coverage, if it does.
    """

    environ: Mapping[str, str]
    path: tuple[str, ...]
    folder: str
    levels: Mapping[str, int]
    filters: tuple[Any, ...]
    setup: bytes | None
    measured: Mapping[str, Any] | None
    dump_file: str = ""

    def on_node(self, folder: str, dump_file: str, env_vars: Mapping[str, str]) -> Surroundings:
        """Return the surroundings of a process on a node."""
        return replace(self, folder=folder, dump_file=dump_file, environ={**self.environ, **env_vars})

    def apply(self) -> None:
        """Make them those of this process, which is fresh from the template."""
        faulthandler.register(signal.SIGUSR2, file=_kept_open(self.dump_file), all_threads=True)
        os.environ.clear()
        os.environ.update(self.environ)
        sys.path[:] = self.path
        sys.argv[:] = ["fake_worker"]
        os.chdir(self.folder)
        for name, level in self.levels.items():
            logging.getLogger(name or None).setLevel(level)
        warnings.filters[:] = self.filters  # type: ignore[index]  # a list, which typeshed does not promise


def of_this_process(setup: Any) -> Surroundings:
    """Return what processes of a run that begins now get."""
    named = logging.root.manager.loggerDict.items()
    levels = {name: logger.level for name, logger in named if isinstance(logger, logging.Logger) and logger.level}
    return Surroundings(
        environ=dict(os.environ),
        path=tuple(os.path.abspath(entry) for entry in sys.path),  # "" is a folder, as of now
        folder=os.getcwd(),
        levels={"": logging.root.level, **levels},
        # Those that every process has the class for. The others are applied where the warning arrives.
        filters=tuple(each for each in warnings.filters if each[2].__module__ == "builtins"),
        setup=None if setup is None else dumps_function(setup),
        measured=coverage_data.settings(),
    )


_open: list[Any] = []


def _kept_open(file: str) -> Any:
    _open.append(open(file, "wb"))  # noqa: SIM115  # for as long as the process lives
    return _open[-1]
