"""Test that the hooks in a module's namespace run, in all forms, and that a warning names its other ones."""

from __future__ import annotations

import importlib
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookLoadError, HookRegistry, hook, load_hooks
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import LOGGED, Config, RayConfig, names, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]

PLAIN = """
RAN = []

def plain(fn):
    def wrapper(ctx):
        RAN.append("wrapper")
        return fn(ctx)
    return wrapper

@plain
@hook("on_before_init")
def f(ctx):
    RAN.append("f")
"""


# -- what a module decorated, and the selection does not take -----------------------------------------------------


@pytest.mark.parametrize(
    ("source", "what", "why"),
    [
        (
            """
            class Hooks:
                @staticmethod
                @hook("on_after_init")
                def f(ctx): pass
            """,
            "shop:Hooks.f at on_after_init ({file}:10)",
            "it stands in a class: add 'shop:Hooks.f' to hooks=[...]",
        ),
        (
            """
            class Hooks:
                @hook("on_after_init")
                @staticmethod
                def f(ctx): pass
            """,
            "shop:Hooks.f at on_after_init ({file}:9)",
            "it stands in a class: add 'shop:Hooks.f' to hooks=[...]",
        ),
        (
            """
            @hook("on_after_init")
            def f(ctx): pass

            @hook("on_before_init")
            def f(ctx): pass
            """,
            "shop:f at on_after_init ({file}:8)",
            "a later definition has taken its name: give each a name of its own",
        ),
        (
            """
            @hook("on_before_init")
            def f(ctx): pass

            @hook("on_before_init", order=1)
            def f(ctx): pass
            """,
            "shop:f at on_before_init ({file}:8)",
            "a later definition has taken its name: give each a name of its own",
        ),
        (
            """
            def make(point):
                @hook(point)
                def f(ctx): pass
                return f

            ALL = [
                make("on_after_init"),
            ]
            """,
            "shop:make.<locals>.f at on_after_init ({file}:14)",
            "no name in it holds it: assign it to one, or give the function itself in hooks=[...]",
        ),
        (
            """
            class Object:
                def f(self, ctx): pass

            hook("on_after_init")(Object().f)
            """,
            "shop:Object.f at on_after_init ({file}:11)",
            "no name in it holds it: assign it to one, or give the function itself in hooks=[...]",
        ),
        (
            """
            import operator

            class Timed:
                def __init__(self, fn): self.fn = fn
                def __call__(self, ctx): return self.fn(ctx)

            @Timed
            @hook("on_after_init")
            def f(ctx): pass
            """,
            "shop:f at on_after_init ({file}:15)",
            "f now means something else: put @hook above its other decorators, or @functools.wraps(fn) into them",
        ),
    ],
)
def test_what_is_not_taken_is_told(
    write_module: WriteModule, caplog: pytest.LogCaptureFixture, source: str, what: str, why: str
) -> None:
    other = "\n@hook('on_before_init')\ndef other(ctx): pass\n\n"
    file = write_module("shop", other + "\n\n" + textwrap.dedent(source).lstrip("\n"))
    load_hooks("shop")
    assert told(caplog) == [
        f"hook {what.format(file=file)} does not run: shop, which hooks=[...] names, decorates it, and {why}"
    ]
    load_hooks("shop")
    assert told(caplog) == []  # once per import


def test_a_module_whose_every_hook_is_out_of_reach_says_so(write_module: WriteModule) -> None:
    file = write_module("shop", 'ALL = [hook("on_after_init")(lambda ctx: None)]')
    with pytest.raises(HookLoadError) as caught:
        load_hooks("shop")
    assert str(caught.value) == (
        f"hooks module 'shop' ({file}) has no hooks: nothing in its namespace is decorated with @hook(\"on_...\"); "
        f"shop:<lambda> at on_after_init ({file}:2) does not count: no name in it holds it: assign it to one, or give "
        "the function itself in hooks=[...]"
    )


def test_importing_again_begins_anew(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module("shop", '@hook("on_after_init")\ndef f(ctx): pass\n@hook("on_before_init")\ndef f(ctx): pass\n')
    load_hooks("shop")
    assert len(told(caplog)) == 1
    importlib.reload(sys.modules["shop"])
    load_hooks("shop")
    assert len(told(caplog)) == 1
    write_module("shop", '@hook("on_after_init")\ndef f(ctx): pass\n# another line, for Python to see the change\n')
    importlib.reload(sys.modules["shop"])
    load_hooks("shop")
    assert told(caplog) == []


def test_there_is_no_false_alarm(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module(
        "helpers",
        f"""{LOGGED}
def at_the_end(fn):
    return hook("on_after_init")(fn)

def make(bucket):
    @hook("on_after_init")
    def made(ctx): pass
    return made

@hook("on_before_init")
def imported(ctx): pass
""",
    )
    write_module(
        "shop",
        """
        import helpers
        from helpers import imported, logged

        ours = HookRegistry = None
        from serve_llm_hooks import HookRegistry
        ours = HookRegistry()

        @helpers.at_the_end
        def by_a_helper(ctx): pass

        @hook("on_after_init")
        @logged
        @hook("on_before_init")
        def twice(ctx): pass

        @hook("on_before_init", model_id="another")
        def of_another_model(ctx): pass

        @hook("on_before_init")
        def fetch(ctx, *, bucket="b"): pass

        @logged
        @ours.hook("on_before_init")
        def of_a_registry(ctx): pass

        class Object:
            def method(self, ctx): pass

        made = helpers.make("a")
        bound = hook("on_after_init")(Object().method)
        elsewhere, = ALL = [hook("on_after_init")(lambda ctx: None)]
        """,
    )
    load_hooks("shop", "helpers", {"hook": "shop:fetch", "kwargs": {"bucket": "c"}})
    load_hooks("shop:fetch")
    load_hooks({"hook": "shop:twice"}, sys.modules["shop"].ours)
    assert told(caplog) == []


def test_what_another_entry_takes_is_not_absent(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module("first", 'ALL = [hook("on_after_init")(lambda ctx: None)]\n@hook("on_failure")\ndef f(ctx): pass')
    write_module("second", "from first import ALL\n(one,) = ALL")
    load_hooks("first", "second")
    assert told(caplog) == []
    load_hooks("first")
    assert len(told(caplog)) == 1


# -- wrappers ------------------------------------------------------------------------------------------------------

WRAPPED = "hook {module}:f at on_before_init is wrapped by a decorator that does not use functools.wraps."


@pytest.mark.parametrize("form", ["module", "path", "function", "kwargs"])
def test_a_wrapper_runs_in_all_forms(write_module: WriteModule, caplog: pytest.LogCaptureFixture, form: str) -> None:
    write_module("shop", PLAIN)
    shop = importlib.import_module("shop")
    entries: dict[str, Any] = {
        "module": "shop",
        "path": "shop:f",
        "function": shop.f,
        "kwargs": {"hook": "shop:f", "kwargs": {}},
    }
    (found,) = load_hooks(entries[form])
    assert found.path == "shop:f"
    assert found.fn is shop.f
    found.call(None)
    assert shop.RAN == ["wrapper", "f"]
    (message,) = told(caplog)
    assert message.startswith(WRAPPED.format(module="shop"))
    assert message.endswith("write @functools.wraps(fn) in the decorator, or put @hook above it")


def test_a_function_that_has_only_captured_a_hook_is_none(write_module: WriteModule) -> None:
    write_module(
        "shop",
        """
        @hook("on_before_init")
        def f(ctx): pass

        def using(fn):
            def use(ctx):
                return fn(ctx)
            def other():
                return other, unbound
            if fn is None:
                unbound = 1
            return use, other

        g, other = using(f)
        """,
    )
    assert [one.fn.__name__ for one in load_hooks("shop")] == ["f"]
    with pytest.raises(HookLoadError, match=r"use in hooks=\[\.\.\.\] is no hook"):
        load_hooks(sys.modules["shop"].g)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run source as the script that is running."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    def execute(source: str) -> dict[str, Any]:
        vars(main)["hook"] = hook
        exec(source, vars(main))
        return vars(main)

    return execute


@pytest.mark.parametrize("config", [Config("m", None), RayConfig("m")])
@pytest.mark.parametrize("source", [PLAIN, LOGGED.replace("return fn(ctx)", 'RAN.append("wrapper"); return fn(ctx)')])
def test_a_script_s_wrapper_runs(script: Callable[[str], dict[str, Any]], config: Any, source: str) -> None:
    if "wraps" in source:
        source = "RAN = []\n" + source + '\n@logged\n@hook("on_before_init")\ndef f(ctx):\n    RAN.append("f")\n'
    namespace = script(source)
    (found,) = hooks_of_config(config)
    assert found.path == "__main__:f"
    assert found.fn is namespace["f"]
    found.call(None)
    assert namespace["RAN"] == ["wrapper", "f"]
    assert [one.fn for one in load_hooks(namespace["f"])] == [found.fn]


def test_a_script_s_function_that_is_defined_again_without_hook_is_none(
    script: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    script('@hook("on_before_init")\ndef f(ctx): pass\n@hook("on_before_init")\ndef other(ctx): pass')
    assert names(hooks_of_config(Config("m", None))) == ["f", "other"]
    script("def f(ctx): pass\nother = 3")
    assert names(hooks_of_config(Config("m", None))) == []
    assert [message.partition(":")[2].partition(" does")[0] for message in told(caplog)] == [
        "f at on_before_init",
        "other at on_before_init",
    ]
    assert names(hooks_of_config(Config("m", None))) == []
    assert told(caplog) == []
    script('@hook("on_before_init")\ndef f(ctx): pass')
    assert names(hooks_of_config(Config("m", None))) == ["f"]


def test_a_script_keeps_hooks_without_a_name(script: Callable[[str], dict[str, Any]]) -> None:
    script(
        """
hook("on_before_init")(lambda ctx: None)

class Hooks:
    @hook("on_before_init")
    @staticmethod
    def static(ctx): pass

    def method(self, ctx): pass

hook("on_before_init")(Hooks().method)

@hook("on_before_init")
def gone(ctx): pass
del gone
"""
    )
    assert names(hooks_of_config(Config("m", None))) == ["<lambda>", "static", "method", "gone"]


def test_a_registry_of_ones_own_is_taken_as_it_is() -> None:
    hooks = HookRegistry()
    hooks.hook("on_before_init")(lambda ctx: None)
    assert len(load_hooks(hooks)) == 1


IN_A_CLASS = """
import functools
RAN = []
def logged(fn):
    @functools.wraps(fn)
    def wrapper(ctx):
        RAN.append("wrapper")
        return fn(ctx)
    return wrapper

class Hooks:
    @staticmethod
    @logged
    @hook("on_before_init")
    def f(ctx):
        RAN.append("f")
"""


def test_a_script_s_wrapper_in_a_class_runs(script: Callable[[str], dict[str, Any]]) -> None:
    namespace = script(IN_A_CLASS)
    (found,) = hooks_of_config(Config("m", None))
    assert found.fn is namespace["Hooks"].f
    found.call(None)
    assert namespace["RAN"] == ["wrapper", "f"]
    script(IN_A_CLASS.replace("    @staticmethod\n", ""))
    assert len(hooks_of_config(Config("m", None))) == 1


CALLABLE = """
import functools
class Logged:
    def __init__(self, fn):
        functools.update_wrapper(self, fn)
    def __call__(self, ctx):
        return self.__wrapped__(ctx)
@{decorator}
@hook("on_before_init")
def d(ctx): pass
"""


@pytest.mark.parametrize("decorator", ["Logged", "functools.cache"])
def test_an_object_above_hook_runs_in_all_forms(
    script: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture, decorator: str
) -> None:
    d = script(CALLABLE.format(decorator=decorator))["d"]
    for config in (Config("m", None), Config("m", [d]), RayConfig("m")):
        assert [one.fn for one in hooks_of_config(config)] == [d]
    assert told(caplog) == []
