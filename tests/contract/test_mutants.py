"""The lies that ``make mutants`` tells: their table in the docs. Whether they are caught takes it half a minute."""

from __future__ import annotations

from scripts.docs_tables import renew

from .mutants import CAUGHT_BY, MUTANTS, PAGE, table


def test_the_table_in_the_docs_is_theirs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renew(text, {"mutants": table}) == text, "stale: run `make mutants`"
    assert "<!-- mutants:begin -->" in text


def test_each_has_a_scenario_that_catches_it_and_says_what_it_is() -> None:
    assert len(MUTANTS) >= 10
    assert list(CAUGHT_BY) == list(MUTANTS)
    assert all(tell.__doc__ for tell in MUTANTS.values())
