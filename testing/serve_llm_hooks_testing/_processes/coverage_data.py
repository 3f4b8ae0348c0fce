"""Coverage of lines that run only in processes of a run: measured as the test's process measures its own."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def settings() -> dict[str, Any] | None:
    """Return how this process measures its coverage; ``None`` if it does not."""
    module = sys.modules.get("coverage")
    current = None if module is None else module.Coverage.current()
    if current is None:
        return None
    config = current.config
    return {
        "config_file": config.config_file or False,
        "data_file": os.path.abspath(config.data_file),
        "source": config.source,
        "branch": config.branch,
        "include": config.run_include,
        "omit": config.run_omit,
    }


@contextmanager
def measured(settings: Mapping[str, Any] | None) -> Iterator[None]:
    """Measure what runs inside the ``with`` block, into a file of its own that the test's process will find."""
    if settings is None:
        yield
        return
    import coverage

    measuring = coverage.Coverage(**settings, data_suffix=True)
    measuring._warn_no_data = False
    measuring.start()
    try:
        yield
    finally:
        measuring.stop()
        measuring.save()
