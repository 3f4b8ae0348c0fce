"""``Brings``: what the recipes share that bring something out of a store to a folder of each node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from serve_llm_hooks import RayServeLLMCallback

from ._stores.credentials import check_given
from ._stores.places import fits
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
        for other in others:
            folder = other.path if isinstance(other, BakedModel) else getattr(other, "dest", None)
            if self.owns_dest and self.dest and isinstance(folder, str) and f"{folder}/".startswith(f"{self.dest}/"):
                raise ValueError(
                    f"dest={self.dest!r} is saved as a whole, with what {type(other).__name__} has in {folder}: give "
                    f"{type(self).__name__} a folder of its own"
                )
            if isinstance(other, Brings) and self.dest is not None and self.dest == other.dest and _meet(self, other):
                raise ValueError(
                    f"{self.uri} and {other.uri} are both fetched to {self.dest} (by {type(self).__name__} and "
                    f"{type(other).__name__}): give one of them another dest, or say in files= of both what is whose"
                )
        check_given(self.uri, (getattr(llm_config, "runtime_env", None) or {}).get("env_vars") or {})

    def names(self) -> list[str]:
        """Return names and globs of what may be brought; none, if that may be anything."""
        one = self.uri.path.rpartition("/")[2] if self.uri.scheme in ("http", "https") else self.uri.pattern
        return self.files or ([one] if one else [])


def _meet(one: Brings, other: Brings) -> bool:
    """Return True if two of one folder may bring different files of one name."""
    if type(one) is type(other) and one.uri.text == other.uri.text:
        return False
    ours, theirs = one.names(), other.names()
    return not ours or not theirs or any(fits(a, b) or fits(b, a) for a in ours for b in theirs)
