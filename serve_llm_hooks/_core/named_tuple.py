"""``NamedTuple``: as ``typing`` has it, in half the time.

``typing`` compiles the annotation of each field when a class is made. A driver, a replica and a process on each node
make ten such classes before they can begin, and nobody asks for what is compiled. Checkers see ``typing``'s, and tell
what this takes without a word: another base, a field without a default behind one that has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Maker(type):
        """Makes a named tuple of a class body whose annotations are text, as all of ours are."""

        def __new__(cls, name, bases, body):
            if not bases:  # NamedTuple itself
                return super().__new__(cls, name, bases, body)
            annotations = body.pop("__annotations__")
            defaults = [body.pop(field) for field in annotations if field in body]
            made = namedtuple(name, annotations, defaults=defaults, module=body.pop("__module__"))
            made.__annotations__ = made.__new__.__annotations__ = annotations
            made.__orig_bases__ = bases  # by which some libraries know one
            for attribute, value in body.items():
                setattr(made, attribute, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """The base of a class whose annotated names are a tuple's fields."""
