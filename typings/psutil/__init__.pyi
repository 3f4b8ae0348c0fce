from collections.abc import Iterator
from typing import Any

class Process:
    info: dict[str, Any]

def process_iter(attrs: list[str]) -> Iterator[Process]: ...
