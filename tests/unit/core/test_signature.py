"""Signatures in messages: names, and no default values."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, HookSignatureError, load_hooks
from serve_llm_hooks._core.signature import written
from serve_llm_hooks._sources.class_style import hooks_of_class
from serve_llm_hooks._sources.phase_style import hooks_of_phase_callbacks
from serve_llm_hooks._sources.replace_style import hooks_of_initialization_class
from tests.unit.unreadable import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, Any] = {"env": os.environ, "token": "hf_SECRET", "odd": Unreadable()}


@HookRegistry().hook("on_before_download")
def fetch(
    ctx: Any, *, env: Any = DEFAULTS["env"], token: str = "hf_SECRET", odd: Any = DEFAULTS["odd"], bucket: str
) -> None: ...


class Made:
    def __init__(self, bucket: str, env: Any = DEFAULTS["env"], odd: Any = DEFAULTS["odd"]) -> None: ...

    def on_after_init(self, ctx: Any) -> None: ...


class Method:
    def on_after_init(self, ctx: Any, bucket: str, odd: Any = DEFAULTS["odd"]) -> None: ...


class Replacing:
    async def initialize(self, llm_config: Any, bucket: str, odd: Any = DEFAULTS["odd"]) -> None: ...


def phase(one: str, odd: Any = DEFAULTS["odd"]) -> None: ...


def two(ctx: Any, bucket: str, odd: Any = DEFAULTS["odd"]) -> None: ...


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "(ctx, *, env=…, token=…, odd=…, bucket)": (lambda: load_hooks(fetch), "hook "),
    "(bucket, env=…, odd=…)": (lambda: hooks_of_class(Made), "Made"),
    "(ctx, bucket, odd=…)": (lambda: hooks_of_class(Method), "on_after_init"),
    "(llm_config, bucket, odd=…)": (lambda: hooks_of_initialization_class(Replacing), "initialize"),
    "(one, odd=…)": (lambda: hooks_of_phase_callbacks([phase]), "phase"),
    "two(ctx, bucket, odd=…)": (lambda: HookRegistry().hook("on_after_init")(two), "two"),
}


@pytest.mark.parametrize("shown", REFUSED)
def test_no_message_shows_a_default_value(shown: str) -> None:
    refuse, named = REFUSED[shown]
    with pytest.raises(HookSignatureError) as caught:
        refuse()
    text = str(caught.value)
    assert shown in text
    assert named in text
    assert "hf_SECRET" not in text
    assert "PATH" not in text


def test_the_kinds_of_parameters() -> None:
    def kinds(a: int, /, b: int, *args: int, c: int, d: int = 1, **rest: int) -> None: ...
    def by_position(a: int, b: int = 1, /) -> None: ...

    assert written(inspect.signature(kinds)) == "(a, /, b, *args, c, d=…, **rest)"
    assert written(inspect.signature(by_position)) == "(a, b=…, /)"


def test_a_long_signature_is_bounded() -> None:
    kind = inspect.Parameter.KEYWORD_ONLY
    many = inspect.Signature([inspect.Parameter(f"p{number}", kind) for number in range(1000)])
    assert written(many).endswith("p18, …)")
