"""Compare ``may_be_one``, which judges two globs, with the names that ``fnmatch`` finds."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given, strategies as st

from serve_llm_hooks.recipes._stores.globs import fits, may_be_one

NAMES = ["".join(each) for length in range(6) for each in product("ab/", repeat=length)]
PIECES = st.sampled_from(["*", "?", "a", "b", "/", "[ab]", "[!a]", "[!a-b]", "[a-b]", "[b-a]", "[", "]", "[!]", "[]a]"])
GLOBS = st.lists(PIECES, max_size=4).map("".join)


@given(GLOBS, GLOBS)
@example("[]", "[]")
@example("[!]a", "[!]a")
def test_a_name_that_both_stand_for_is_found(one: str, other: str) -> None:
    both = [name for name in [*NAMES, one, other] if fits(name, one) and fits(name, other)]
    assert may_be_one(one, other) == may_be_one(other, one)
    assert not both or may_be_one(one, other)


SMALL = st.lists(st.sampled_from(["*", "?", "a", "b", "[ab]", "[a-b]"]), max_size=3).map("".join)


@given(SMALL, SMALL)
def test_nothing_is_found_that_is_not_there(one: str, other: str) -> None:
    # Of so short globs over these letters, a name of six letters is there if any is.
    names = ("".join(each) for length in range(7) for each in product("ab", repeat=length))
    assert may_be_one(one, other) == any(fits(name, one) and fits(name, other) for name in names)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("*.json", "config*", True),
        ("*.json", "*.jinja", False),
        ("a*", "*/b", True),  # a star matches a slash too
        ("model-?.bin", "model-[0-9].bin", True),
        ("model-[0-4].bin", "model-[5-9].bin", False),
        ("model-[!0-9].bin", "model-[5-9].bin", False),
        ("[!a]", "[!b]", True),
        ("[!\U0010ffff]", "\U0010ffff", False),
        ("*" * 40 + "a" * 400, "a" * 400 + "*" * 40, True),
    ],
)
def test_globs_as_they_are_written(one: str, other: str, expected: bool) -> None:
    assert may_be_one(one, other) is expected
