"""Compare a run in one process with one in processes of their own, and tell which differences are faults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from .story import Key, Story

_BAD = ("failed", "timed_out", "warned")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ROUNDING_S = 0.05
_EMPTY = ("", "[]", "{}", "0", "0.0")


@dataclass
class Differences:
    """Differences that were found in one scenario.

    Attributes:
        failures: hooks that fail only in processes of their own: the point, the hook, and its error; of a start that
            fails without one, the error alone.
        faults: in words, what differs.
        doubtful: in words, what differs, and may do so by right: a process's own counter does.
    """

    failures: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return True if there is any."""
        return bool(self.failures or self.faults or self.doubtful)


def differences(one: Story, apart: Story, varying: Collection[Key] = (), begun: Collection[float] = ()) -> Differences:
    """Compare a scenario's start in one process with one in processes of their own; return the differences.

    What happens only in processes of their own is none: each makes its own client, and passes its own guard.

    Args:
        one: what happened in one process.
        apart: what happened in processes of their own.
        varying: what differs between runs of one kind too.
        begun: when the processes began: each is as much younger than the one process.
    """
    found = Differences()
    for key in sorted({*one, *apart} - set(varying)):
        here, there = one.get(key, set()), apart.get(key, set())
        if key[0] == "hook":
            found.failures += [(key[1], key[2], text.partition("\n")[2]) for text in sorted(_bad(there - here))[:1]]
    ends = _bad(apart[("end",)]) if one[("end",)] == {"ok"} else []
    if ends and not found.failures:
        found.failures.append(("", "", ends.pop().partition("\n")[2]))
    only_in_one = [key for key in one if key[0] == "hook" and _bad(one[key] - apart.get(key, set()))]
    if found.failures or only_in_one:
        return found  # what else differs follows from it
    calls = sum(len(texts) for key, texts in one.items() if key[0] == "hook")
    for key in sorted({*one, *apart} - {("end",), *varying}):
        lost, new = one.get(key, set()) - apart.get(key, set()), apart.get(key, set()) - one.get(key, set())
        gone = key[0] == "data" and key not in apart
        if lost and (new or gone):
            is_count = bool(new) and _may_be_its_own(lost, new, calls, begun)
            (found.doubtful if is_count else found.faults).append(_in_words(key, new))
        elif lost and key[0] == "data":
            found.doubtful.append(_in_words(key, new))
    return found


def _bad(texts: Collection[str]) -> list[str]:
    return [text for text in texts if text.startswith(_BAD)]


def _may_be_its_own(lost: Collection[str], new: Collection[str], calls: int, begun: Collection[float]) -> bool:
    """Return whether texts differ as those do that tell of a process's own calls, or of its age."""

    def is_own(few: float, many: float) -> bool:
        is_count = 1 <= few < many <= few + calls and few == int(few) and many == int(many)
        return few == many or is_count or any(abs(many - few - age_s) < _ROUNDING_S for age_s in begun)

    def are_own(text: str, other: str) -> bool:
        pairs = zip(_NUMBER.findall(text), _NUMBER.findall(other), strict=False)
        is_alike = _NUMBER.sub("#", text) == _NUMBER.sub("#", other)
        return is_alike and all(is_own(float(few), float(many)) for few, many in pairs)

    return all(any(are_own(text, other) for other in lost) for text in new)


def _in_words(key: Key, new: Collection[str]) -> str:
    if key[0] == "hook":
        return f"how {key[2]} ends at {key[1]}"
    if key[0] == "line":
        return f"what is printed or logged at {key[1]}"
    if key[0] == "effect":
        return f"what is run or connected to at {key[1]}"
    if not new:
        return f"{key[1]} (missing there)"
    if len(new) == 1:
        (text,) = new
        return f"{key[1]} ({'None' if text == 'None' else 'empty' if text in _EMPTY else 'another value'} there)"
    return f"{key[1]} (other values there)"


def names_in(words: str, names: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield those whose texts hold a key that is written in words, as in ``custom_data['free_gb']``."""
    for name, texts in names.items():
        if any(f"[{text!r}]" in words for text in texts):
            yield name
