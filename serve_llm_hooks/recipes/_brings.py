"""``Brings``: what the recipes share that bring something out of a store to a folder of each node."""

from __future__ import annotations

import os
from glob import escape
from typing import TYPE_CHECKING, Any, ClassVar

from serve_llm_hooks import RayServeLLMCallback

from ._stores.credentials import check_given
from ._stores.globs import may_be_one
from ._stores.uri import checked_folder, parse
from .baked_model import BakedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._stores.uri import Uri


class Brings(RayServeLLMCallback):
    """Keep where files come from and where they go, and refuse another recipe that writes the same ones.

    Attributes:
        owns_dest: whether all that is in the folder is its own, so that others may have nothing in there.
    """

    checks_arguments = True
    owns_dest: ClassVar[bool] = False

    def __init__(self, src: object, dest: object, *, what: str, schemes: tuple[str, ...]) -> None:
        """Check the arguments."""
        self.uri: Uri = parse(src, what=what, schemes=schemes)
        self.dest: str | None = None if dest is None else checked_folder(dest, what="dest")
        self.files: list[str] = []

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        """Look for another recipe with the same folder, and for half of a pair of credentials.

        Raises:
            ValueError: there is one.
        """
        self._check_src()
        for other in others:
            folder = other.path if isinstance(other, BakedModel) else getattr(other, "dest", None)
            if self.owns_dest and self.dest and isinstance(folder, str) and below(folder, self.dest) is not None:
                raise ValueError(
                    f"dest={self.dest!r} is saved as a whole, with what {type(other).__name__} has in {folder}: give "
                    f"{type(self).__name__} a folder of its own"
                )
            if isinstance(other, Brings) and self.dest and other.dest:
                way = below(other.dest, self.dest)
                if way is not None:
                    self._check_beside(other, way)
        check_given(self.uri, (getattr(llm_config, "runtime_env", None) or {}).get("env_vars") or {})

    def one_file(self) -> str:
        """Return the name of the one file that is brought, as far as the config tells; an empty string for others."""
        return ""

    def brought(self) -> tuple[Uri, list[str]]:
        """Return the folder in the store, and names and globs of what may be brought of it: ``*`` is anything."""
        uri, one = self.uri._replace(text="", pattern=""), self.one_file()
        if one:
            return uri._replace(path=self.uri.path.rpartition("/")[0]), [one]
        return uri, self.files or [self.uri.pattern or "*"]

    def is_same_place(self, other: Brings, way: str) -> bool:
        """Return True if a name that both bring is one file in the store, however the two are written.

        Args:
            other: another recipe.
            way: where its folder is below this one's; empty for the same.
        """
        if not way and self.uri._replace(text="") == other.uri._replace(text=""):
            return True
        (ours, _), (theirs, _) = self.brought(), other.brought()
        return theirs == ours._replace(path=f"{ours.path.rstrip('/')}/{way}".strip("/") if way else ours.path)

    def _check_src(self) -> None:
        """Check that a start does not bring again what an earlier one has brought.

        Raises:
            ValueError: it would.
        """
        (uri, names), dest = self.brought(), self.dest
        if uri.scheme != "file" or dest is None:
            return
        src = os.path.normpath(uri.path or "/")
        src_in_dest, dest_in_src = below(src, dest), below(dest, src)
        if self.owns_dest and src_in_dest is not None:
            raise ValueError(f"dest={dest!r} is saved as a whole, with the archives in {self.uri}: give another dest")
        way = dest_in_src if src_in_dest is None else src_in_dest
        if self.owns_dest or way is None:
            return
        if not way or any(may_be_one(name, f"{escape(way)}/*") for name in names):
            raise ValueError(
                f"{self.uri} and dest={dest!r} are one in the other, so that what was brought is brought again: give "
                f"{type(self).__name__} a dest outside of it"
            )

    def _check_beside(self, other: Brings, way: str) -> None:
        """Look whether another that brings to the same folder, or to one below it, may bring another file of one name.

        Raises:
            ValueError: it may.
        """
        if self.is_same_place(other, way) and type(self) is type(other):
            return
        (_, ours), (_, theirs) = self.brought(), other.brought()
        if way:  # one that says nothing of its names is not taken to have a folder of the other's
            ours, theirs = ([name for name in names if name != "*"] for names in (ours, theirs))
        prefix = f"{escape(way)}/" if way else ""
        meet = next(((a, b) for a in ours for b in theirs if may_be_one(a, prefix + b)), None)
        if meet is None:
            return
        which = "" if "*" in meet else f": {meet[0]!r} and {prefix + meet[1]!r} may be one name"
        raise ValueError(
            f"{self.uri} and {other.uri} are both fetched to {self.dest} (by {type(self).__name__} and "
            f"{type(other).__name__}){which}: give one of them another dest, or say in files= of both what is whose"
        )


def below(folder: str, top: str) -> str | None:
    """Return the way from a folder to one that is below it, or is the same one; nothing if it is elsewhere.

    Example:
        >>> below("/m/sub", "/m"), below("/m", "/m"), below("/mm", "/m")
        ('sub', '', None)
    """
    top = f"{top.rstrip('/')}/"
    return f"{folder}/"[len(top) :].rstrip("/") if f"{folder}/".startswith(top) else None
