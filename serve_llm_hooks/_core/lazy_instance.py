"""``LazyInstance``: the one object per process and start that the hooks of a class share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .origin import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class LazyInstance:
    """Create the instance of a callback class on first use. Pickles as (class, kwargs), never as the instance.

    Args:
        cls: the class; ``None`` for an object that the user made, which then travels itself.
        kwargs: the arguments that the class is called with.
        made: the object that the user made.
        key: identifies copies of one instance that arrive one by one in another process.
    """

    def __init__(
        self, cls: Callable[..., Any] | None, kwargs: Mapping[str, Any], made: Any = None, key: str | None = None
    ) -> None:
        self.cls: Callable[..., Any] | None = cls
        self.kwargs: dict[str, Any] = dict(kwargs)
        self.made: Any = made
        self.key: str = os.urandom(8).hex() if key is None else key

    def get(self) -> Any:
        """Return the object; create it if this is the first use."""
        if self.made is None and self.cls is not None:
            self.made = self.cls(**self.kwargs)
        return self.made

    def fresh(self) -> LazyInstance:
        """Return a copy whose object is not made yet, as after pickling."""
        rebuild, arguments = self.__reduce__()
        copy: LazyInstance = rebuild(*arguments)
        return copy

    @property
    def owner(self) -> Any:
        """The class, or the object that the user made."""
        return self.made if self.cls is None else self.cls

    @property
    def path(self) -> str:
        """``module:qualname`` of the class."""
        return path_of(self.owner)

    @property
    def identity(self) -> object:
        """Equal for the same class, whatever its arguments, or for the same object."""
        return id(self.owner)

    @property
    def parts(self) -> Mapping[str, object]:
        """The values that are pickled with it, by their names in words; a message names the one that cannot be."""
        if self.cls is not None:
            return {f"the argument {name!r} of its class": value for name, value in self.kwargs.items()}
        names = [*getattr(self.made, "__dict__", ()), *getattr(type(self.made), "__slots__", ())]
        return {
            f"the attribute {name!r} of its object": getattr(self.made, name)
            for name in names
            if hasattr(self.made, name)
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.cls, self.kwargs, self.made if self.cls is None else None, self.key))
