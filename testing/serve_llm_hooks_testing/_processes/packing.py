"""Pickle what a replica's process gives back: as much of it as can travel, and placeholders for the rest."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle

from serve_llm_hooks._core.messages import one_line

from ..errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Packed = bytes | dict[str, bytes]
"""Values by name, in one pickle; or, where one of them cannot be pickled, in one for each."""


class NotSent:
    """Stands for a value that stayed in a process that has ended.

    Whoever asks it for anything is told what to do.
    """

    def __init__(self, what: str, why: str) -> None:
        self.__dict__.update(_what=what, _why=why)

    def __repr__(self) -> str:
        return f"<{self._what}, which did not leave the replica's process: {self._why}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy, pickle and others try many of these
            raise AttributeError(name)
        raise HarnessError(
            f"{self._what} stayed in the replica's process, which has ended: {self._why}. Let the hook put what the "
            "test looks at into ctx.custom_data, as plain data; or leave the replica in the test's process, with "
            "processes='nodes' or False"
        )


class Packer:
    """Pickles values by name.

    Args:
        known: objects that both sides have, in this order. They arrive as these very objects.
    """

    def __init__(self, known: Sequence[object]) -> None:
        self._known = known

    def pack(self, values: Mapping[str, object]) -> Packed:
        """Pickle values; a value that cannot be is a :class:`NotSent`."""
        try:
            data = self._dump(dict(values))
            self._load(data)  # some values can be pickled, and not unpickled
            return data
        except Exception:  # of any kind: it is some value's own code
            return {name: self._pack_one(name, value) for name, value in values.items()}

    def unpack(self, packed: Packed) -> dict[str, Any]:
        """Return the values."""
        if isinstance(packed, bytes):
            values: dict[str, Any] = self._load(packed)
            return values
        return {name: self._load(data) for name, data in packed.items()}

    def _pack_one(self, name: str, value: object) -> bytes:
        try:
            data = self._dump(value)
            self._load(data)
        except Exception as error:  # as above
            return self._dump(_stand_in(name, value, error))
        return data

    def _dump(self, value: object) -> bytes:
        with io.BytesIO() as file:
            _Pickler(file, self._known).dump(value)
            return file.getvalue()

    def _load(self, data: bytes) -> Any:
        with io.BytesIO(data) as file:
            return _Unpickler(file, self._known).load()


def _stand_in(name: str, value: object, why: Exception) -> object:
    if isinstance(value, Exception):
        return _described(value)
    return NotSent(f"{name} ({type(value).__name__})", f"it cannot be pickled ({one_line(why)})")


def _described(error: BaseException) -> RuntimeError:
    """Return an error in the place of one that cannot travel."""
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, known: Sequence[object]) -> None:
        super().__init__(file)
        self._known = {id(each): index for index, each in enumerate(known)}

    def persistent_id(self, obj: object) -> int | None:
        return self._known.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        """Keep an exception's cause, which pickle forgets; and its text, where it cannot be made again."""
        if not isinstance(obj, BaseException):
            return super().reducer_override(obj)
        try:
            reduced: Any = obj.__reduce_ex__(4)
            make, arguments, *state = reduced
            make(*arguments)
        except Exception:  # of any kind: it is the exception's own code
            return RuntimeError, _described(obj).args, (None, obj.__cause__), None, None, _complete
        return make, arguments, (state[0] if state else None, obj.__cause__), None, None, _complete


def _complete(error: BaseException, state: tuple[Any, BaseException | None]) -> None:
    """Give an exception that was made again what it had."""
    own, cause = state
    if own is not None:
        error.__setstate__(own)
    if cause is not None:
        error.__cause__ = cause


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: Sequence[object]) -> None:
        super().__init__(file)
        self._known = known

    def persistent_load(self, pid: Any) -> object:
        return self._known[pid]
