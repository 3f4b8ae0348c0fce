"""Test that a message names only the type of an object that was found by its path: it may be a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookLoadError, load_callback, load_hooks
from tests.unit.stub import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = __name__
TOKEN = "hf_SECRET"
PIN = 190_823


class _Unbound:
    """A lazy proxy with nothing behind it, as werkzeug's and Flask's are outside of a request."""

    def _fail(self, *args: object) -> Any:
        raise RuntimeError("working outside of context")

    __class__ = property(_fail)
    __call__ = __getattr__ = _fail


class _UnboundWithAClass:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of context")

    def __call__(self) -> None: ...


current: Any = _Unbound()
current_app: Any = _UnboundWithAClass()
holder: Any = type("Holder", (), {"on_after_init": TOKEN})

FIELDS: dict[str, Callable[[Any, type[Exception]], str]] = {
    "callback": lambda given, error: refusal(error, callback=given),
    "callbacks": lambda given, error: refusal(error, callbacks=[given]),
    "initialization_class": lambda given, error: refusal(error, initialization_class=given),
}


def refused(load: Callable[[Any], object], given: object, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        load(given)
    return str(caught.value)


FIELDS["load_callback"] = lambda given, error: refused(load_callback, given, error)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("name", "kind"), [("TOKEN", "a str"), ("PIN", "an int")])
def test_of_a_value_the_type_is_said(field: str, name: str, kind: str) -> None:
    assert FIELDS[field](f"{HERE}:{name}", TypeError) == f"callback '{HERE}:{name}' is not callable: {kind}"


def test_of_a_value_at_a_hook_point_the_type_is_said() -> None:
    assert "on_after_init is a str; a method" in refusal(callback=f"{HERE}:holder")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", ["current", "current_app", "current.fetch"])
def test_a_lazy_proxy_found_by_its_path(field: str, name: str) -> None:
    text = FIELDS[field](f"{HERE}:{name}", HookLoadError)
    assert text.startswith(f"callback '{HERE}:{name}' is a {HERE}._Unbound")
    assert text.endswith("name the function or class that it stands for")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("proxy", [lambda: current, lambda: current_app])
def test_a_lazy_proxy_given_itself(field: str, proxy: Callable[[], Any]) -> None:
    assert "like a lazy proxy that nothing has been bound to" in FIELDS[field](proxy(), HookLoadError)


@pytest.mark.parametrize("name", ["current", "current_app"])
def test_a_lazy_proxy_as_a_hook(name: str) -> None:
    for entry in (f"{HERE}:{name}", globals()[name], {"hook": globals()[name]}):
        assert "like a lazy proxy" in refused(load_hooks, entry, HookLoadError)
    assert "like a lazy proxy" in refused(lambda given: load_hooks(given, given), globals()[name], HookLoadError)
