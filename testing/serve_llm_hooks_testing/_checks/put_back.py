"""Put back what hooks change of the test's own process, and let them find no files of each other's runs."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def put_back() -> Iterator[None]:
    """After the ``with`` block, give this process the variables, paths and folder that it had before."""
    environ, path, folder, timeout_s = dict(os.environ), [*sys.path], os.getcwd(), socket.getdefaulttimeout()
    try:
        yield
    finally:
        for name in os.environ.keys() - environ:
            del os.environ[name]
        os.environ.update(environ)
        sys.path[:] = path
        socket.setdefaulttimeout(timeout_s)
        with suppress(OSError):  # it has gone
            os.chdir(folder)


@contextmanager
def empty_temporary_folder() -> Iterator[None]:
    """Let ``tempfile``, and programs that are started, use a folder that is empty now and removed at the end."""
    name, folder, value = "TMPDIR", tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="check-hooks-", ignore_cleanup_errors=True) as own:
        tempfile.tempdir = os.environ[name] = own
        try:
            yield
        finally:
            tempfile.tempdir = folder
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
