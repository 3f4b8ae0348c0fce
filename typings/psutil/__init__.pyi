from typing import Protocol

STATUS_ZOMBIE: str

class NoSuchProcess(Exception): ...

class Process:
    def __init__(self, pid: int | None = ...) -> None: ...
    def status(self) -> str: ...

class _Memory(Protocol):
    available: int

class _Disk(Protocol):
    free: int

def virtual_memory() -> _Memory: ...
def disk_usage(path: str) -> _Disk: ...
