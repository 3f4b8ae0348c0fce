"""``DownloadMode``: the files of the model that a node downloads."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

from .messages import describe, did_you_mean

DownloadModeName: TypeAlias = Literal["MODEL_AND_TOKENIZER", "TOKENIZER_ONLY", "EXCLUDE_SAFETENSORS", "NONE"]


class DownloadMode(StrEnum):
    """The files of the model that a node downloads from the mirror. The names are Ray's ``NodeModelDownloadable``.

    ``NONE`` is falsy; the others are truthy.
    """

    MODEL_AND_TOKENIZER = "MODEL_AND_TOKENIZER"
    TOKENIZER_ONLY = "TOKENIZER_ONLY"
    EXCLUDE_SAFETENSORS = "EXCLUDE_SAFETENSORS"
    NONE = "NONE"

    def __bool__(self) -> bool:
        return self is not DownloadMode.NONE

    @classmethod
    def of(cls, value: object) -> DownloadMode:
        """Return the mode for a mode, its name, or a member of Ray's own enum.

        Raises:
            ValueError: anything else; the message lists the four names.

        Example:
            >>> DownloadMode.of("TOKENIZER_ONLY")
            <DownloadMode.TOKENIZER_ONLY: 'TOKENIZER_ONLY'>
        """
        if isinstance(value, DownloadMode):
            return value
        # Ray's enum has the same names and other values, so it is recognised without importing Ray.
        name = value if isinstance(value, str) else getattr(value, "name", None)
        mode = cls.__members__.get(name) if isinstance(name, str) else None
        if mode is None:
            hint = did_you_mean(name.upper(), cls.__members__) if isinstance(name, str) else ""
            raise ValueError(f"{describe(value)} is no download mode{hint} (one of {', '.join(cls.__members__)})")
        return mode
