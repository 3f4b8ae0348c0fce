"""Say clearly where a package of the extra ``recipes`` is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def from_the_extra() -> Iterator[None]:
    """Import what the extra ``recipes`` brings in the ``with`` block.

    Raises:
        ModuleNotFoundError: it is not there; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed on this node: pip install 'serve-llm-hooks[recipes]'", name=error.name
        ) from error
