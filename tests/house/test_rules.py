"""The rules find what breaks them, in small houses."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from . import rules
from .imports import Packages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., Packages]
    Short = Callable[[list[str]], list[str]]

BELOW = {"low": set[str](), "high": {"low"}, "face": {"low", "high"}}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build a package ``shop`` of these files, where a folder is a room."""

    def build(**texts: str) -> Packages:
        (tmp_path / "shop" / "low").mkdir(parents=True)
        (tmp_path / "shop" / "high").mkdir()
        for folder in ("", "low", "high"):
            (tmp_path / "shop" / folder / "__init__.py").touch()
        for name, text in texts.items():
            room, _, file = name.partition("_")
            (tmp_path / "shop" / room / f"{file}.py").write_text(dedent(text))
        return Packages({"shop": tmp_path / "shop"})

    return build


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "face"


@pytest.fixture
def short(tmp_path: Path) -> Short:
    """Without the folder that all is in."""
    return lambda lines: [line.replace(f"{tmp_path}/", "") for line in lines]


FUNCTION = "def f():\n    from {} import {}\n"
CHECKERS = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import {}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("from ..high.a import A", 1),
        ("from ..high import a", 1),
        ("from .. import high", 1),
        ("import shop.high.a", 1),
        ("import os\nfrom shop.high import a", 2),
        (FUNCTION.format("..high.a", "A"), 2),
        (CHECKERS.format("..high.a", "A"), 3),
        ("class C:\n    async def f(self):\n        if 1:\n            from ..high.a import A", 4),
    ],
)
def test_an_arrow_up(build: Build, short: Short, text: str, line: int) -> None:
    shop = build(low_b=text, high_a="from ..low import c\nA = 1", low_c="")
    (told,) = short(rules.arrows_up(shop, room_of, BELOW))
    assert told.startswith(f"shop/low/b.py:{line}: low -> high (shop.high")


def test_arrows_down_and_beside_and_out_are_fine(build: Build) -> None:
    shop = build(high_a="from ..low.b import B\nfrom . import d\nimport shop.low\nimport os", high_d="", low_b="B = 1")
    assert rules.arrows_up(shop, room_of, BELOW) == []


def test_a_room_without_a_layer(build: Build, short: Short) -> None:
    shop = build()
    (shop.files["shop"].parent / "cellar.py").touch()
    shop = Packages({"shop": shop.files["shop"].parent})
    assert short(rules.arrows_up(shop, room_of, BELOW)) == ["shop/cellar.py: it is in 'cellar', which has no layer"]


def test_a_circle_through_an_import_for_checkers(build: Build, short: Short) -> None:
    shop = build(
        low_a="from .b import B",
        low_b=FUNCTION.format(".", "c"),
        low_c="import os\n" + CHECKERS.format(".a", "A"),
        low_d="from .a import A\nfrom .c import C",
    )
    (told,) = short(rules.circles(shop))
    assert told.splitlines() == [
        "a circle:",
        "  shop/low/a.py:1: -> shop.low.b",
        "  shop/low/b.py:2: -> shop.low.c",
        "  shop/low/c.py:4: -> shop.low.a",
    ]


def test_a_room_and_its_file(build: Build) -> None:
    shop = build(low_a="from . import A")
    shop.files["shop.low"].write_text("from .a import A")
    assert len(rules.circles(shop)) == 1
    shop.files["shop.low.a"].write_text("from . import b")  # which is the file, and not the room
    (shop.files["shop.low"].parent / "b.py").touch()
    assert rules.circles(Packages({"shop": shop.files["shop"].parent})) == []


def test_what_only_one_file_may_import(build: Build, short: Short) -> None:
    shop = build(
        low_a='"""Of ray._own."""\nimport ray._own.x',
        low_b="def f():\n    from ray._own import x",
        low_c="from ray import _own",
        low_d='import_module(f"ray._own.{name}")',
        low_e="from ray import serve",
    )
    assert short(rules.imported_by_others(shop, "ray._own", shop.files["shop.low.a"])) == [
        "shop/low/b.py:2: -> ray._own.x (only shop/low/a.py may)",
        "shop/low/c.py:1: -> ray._own (only shop/low/a.py may)",
        "shop/low/d.py:1: -> ray._own. (only shop/low/a.py may)",
    ]


def test_a_file_that_is_too_long(build: Build, short: Short) -> None:
    shop = build(low_a="pass\n" * 300, low_b="pass\n" * 301)
    assert short(rules.too_long(shop.names)) == ["shop/low/b.py:301: longer than 300 lines"]


@pytest.mark.parametrize(
    ("text", "forwards"),
    [
        ('"""Doc."""\nfrom .b import B\n__all__ = ["B"]', True),
        (CHECKERS.format(".b", "B") + "else:\n    import b\n    B = b.B\n", True),
        ("from . import b\nB: int = b.B", True),
        ("from .b import B\ndef f(): ...", False),
        ("from .b import B\nC = 3", False),
        ("from .b import B\nB.begin()", False),
    ],
)
def test_a_file_that_only_forwards(build: Build, text: str, forwards: bool) -> None:
    shop = build(low_a=text)
    shop.files["shop.low"].write_text("from .a import A")  # a package's own file may
    assert len(rules.forwards_only(shop.names)) == forwards


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("from shop import A", True),
        ("import shop.high.a", True),
        ("from shop._low.a import A", False),
        ("import shop._low", False),
        ("from shop import _low", False),
        ("def f():\n    from shop.high import _a", False),
        ("from other._low import a", True),
    ],
)
def test_what_users_see(tmp_path: Path, text: str, allowed: bool) -> None:
    file = tmp_path / "example.py"
    file.write_text(text)
    broken = list(rules.behind_the_face(Packages({}).imports_of(file), ["shop"]))
    assert (broken == []) == allowed


def test_what_is_imported_with_the_file(build: Build) -> None:
    text = "import a1\ntry:\n    import a2\nexcept ImportError:\n    import a3\nclass C:\n    import a4\n"
    shop = build(low_a=f"{text}{FUNCTION.format('b', 'b1')}{CHECKERS.format('b', 'b2')}else:\n    import a5\n")
    found = {each.target: each.at_once for each in shop.imports()}
    del found["typing.TYPE_CHECKING"]
    assert found == {"a1": True, "a2": True, "a3": True, "a4": True, "a5": True, "b.b1": False, "b.b2": False}
