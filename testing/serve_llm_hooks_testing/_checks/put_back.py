"""Put back what hooks change of the test's own process."""

from __future__ import annotations

import os
import socket
import sys
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
