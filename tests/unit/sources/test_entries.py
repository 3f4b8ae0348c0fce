"""From what stands in ``hooks=[...]`` to hooks, and what is told when there is none."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    Hook,
    HookImportError,
    HookLoadError,
    HookOrderError,
    HookRegistry,
    HookSignatureError,
    hook,
    load_callback,
    load_hooks,
    registry,
)
from serve_llm_hooks._core.messages import describe, masked
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._sources.lists import checked_hooks
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import LOGGED, SHOP, Config, names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]


def refuse(*refs: Any) -> str:
    """Return what is said of a wrong entry."""
    with pytest.raises(HookLoadError) as caught:
        load_hooks(*refs)
    return str(caught.value)


# -- what leads to hooks ------------------------------------------------------------------------------------------


def test_a_module_by_its_path(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert names(load_hooks("shop")) == ["first", "second", "third"]


def test_a_function_by_its_path(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert names(load_hooks("shop:third", "shop:first")) == ["third", "first"]


def test_a_function_inside_a_class_by_its_path(write_module: WriteModule) -> None:
    write_module(
        "nested",
        """
        class Hooks:
            @staticmethod
            @hook("on_after_init")
            def inner(ctx): pass
        """,
    )
    assert names(load_hooks("nested:Hooks.inner")) == ["inner"]


def test_a_module_or_a_function_itself(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    shop = importlib.import_module("shop")
    assert names(load_hooks(shop)) == ["first", "second", "third"]
    assert names(load_hooks(shop.second)) == ["second"]


def test_a_registry_itself() -> None:
    private = HookRegistry()

    @private.hook("on_before_init")
    def mine(ctx: Any) -> None: ...

    assert names(load_hooks(private)) == ["mine"]


WRAPPERS = """
import functools

def labelled(label):
    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(ctx):
            return fn(ctx)
        {rename}
        return wrapper
    return decorate

def note(ctx):
    pass

at_start = hook("on_before_init")(labelled("start")(note))
at_end = hook("on_after_init")(labelled("end")(note))
"""


def test_two_wrappers_of_one_function_are_not_taken_for_one_hook(write_module: WriteModule) -> None:
    write_module("wrappers", WRAPPERS.replace("{rename}", ""))
    for refs in (["wrappers"], ["wrappers:at_start", "wrappers:at_end"]):
        assert [(one.name, one.point) for one in load_hooks(*refs)] == [
            ("note", "on_before_init"),
            ("note", "on_after_init"),
        ]
    assert names(load_hooks("wrappers:at_end")) == ["note"]

    write_module("named", WRAPPERS.replace("{rename}", "wrapper.__name__ = wrapper.__qualname__ = label"))
    assert names(load_hooks("named")) == ["start", "end"]


def test_nor_does_a_hook_run_twice_in_two_wrappers(write_module: WriteModule) -> None:
    source = WRAPPERS.replace("{rename}", "").replace("def note(", '@hook("on_before_download")\ndef note(')
    write_module("wrappers", source)
    assert "two wrappers of the hook wrappers:note would both run it at on_before_download" in refuse("wrappers")


def test_a_module_that_is_reloaded_has_no_two_hooks_of_one_name(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    old = importlib.import_module("shop")
    kept = old.third
    new = importlib.reload(old)
    assert kept is not new.third
    found = load_hooks("shop", {"hook": kept, "kwargs": {"bucket": "c"}})
    assert [(one.name, one.kwargs) for one in found] == [("first", {}), ("second", {}), ("third", {"bucket": "c"})]


CELL = f"""{LOGGED}
@hook("on_before_init")
@logged
def prepare(ctx):
    pass
"""


class Unbound:
    """As a proxy of what is not there yet, which a script may have imported."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("object is not bound")


def test_a_notebook_may_keep_what_a_cell_had_defined_before(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    vars(notebook).update(hook=hook, request=Unbound())
    exec(CELL, vars(notebook))
    exec("kept = prepare", vars(notebook))
    exec(CELL, vars(notebook))
    assert [one.fn for one in hooks_of_config(Config("m", hooks=None))] == [vars(notebook)["prepare"]]


def test_nor_are_those_of_a_script(write_module: WriteModule, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_module("wrappers", WRAPPERS.replace("{rename}", ""))
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(file.read_text(), vars(script))
    assert names(hooks_of_config(Config("m", hooks=None))) == ["note", "note"]


def test_a_hook_and_its_own_wrapper_are_one(write_module: WriteModule) -> None:
    write_module(
        "chain",
        """
        import functools

        @hook("on_before_init")
        def note(ctx):
            pass

        @hook("on_after_init")
        @functools.wraps(note)
        def also(ctx):
            note(ctx)
        """,
    )
    assert [(one.name, one.point) for one in load_hooks("chain").hooks()] == [
        ("note", "on_before_init"),
        ("note", "on_after_init"),
    ]


def test_imported_hooks_stand_in_a_modules_namespace_too_once(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    write_module("ours", "from shop import second\nsame = second\n@hook('on_after_init')\ndef own(ctx):\n    pass\n")
    assert names(load_hooks("ours")) == ["second", "own"]
    assert refuse("ours:other").endswith("Its hooks: second, own.")


def test_the_order_is_that_of_the_entries(write_module: WriteModule) -> None:
    write_module("one", "@hook('on_before_init')\ndef a(ctx):\n    pass\n")
    write_module("two", "@hook('on_before_init')\ndef b(ctx):\n    pass\n")
    assert [one.name for one in load_hooks("two", "one").hooks("on_before_init")] == ["b", "a"]
    assert [one.name for one in load_hooks("one", "two").hooks("on_before_init")] == ["a", "b"]


def test_named_twice_is_once(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert names(load_hooks("shop:first", "shop", "shop:first")) == ["first", "second", "third"]


def test_loading_leaves_the_processs_registry_as_it_is() -> None:
    @hook("on_before_init")
    def decorated(ctx: Any) -> None: ...

    load_hooks(decorated).clear()
    assert names(registry) == ["decorated"]


# -- files --------------------------------------------------------------------------------------------------------


def test_a_file(tmp_path: Path, write_module: WriteModule) -> None:
    file = write_module("shop", SHOP)
    assert names(load_hooks(str(file))) == ["first", "second", "third"]
    assert names(load_hooks(f"{file}:second")) == ["second"]


def test_a_file_is_imported_once_and_by_relative_path_too(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_module("shop", SHOP)
    monkeypatch.chdir(file.parent)
    assert list(load_hooks("shop.py")) == list(load_hooks("./shop.py")) == list(load_hooks(str(file)))


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hooks.py").write_text(
            f"from serve_llm_hooks import hook\n@hook('on_after_init')\ndef of_{folder}(ctx):\n    pass\n"
        )
    assert names(load_hooks(f"{tmp_path}/a/hooks.py", f"{tmp_path}/b/hooks.py")) == ["of_a", "of_b"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refuse(f"{tmp_path}/gone.py") == (
        f"hooks file '{tmp_path}/gone.py' is not there (looked at {tmp_path}/gone.py)"
    )


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "hooks.txt").write_text("hello")
    assert refuse(f"{tmp_path}/hooks.txt") == f"hooks file '{tmp_path}/hooks.txt' is no Python file"


def test_a_file_that_fails_can_be_mended_and_loaded(write_module: WriteModule) -> None:
    file = write_module("shop", "1 / 0\n")
    assert refuse(str(file)) == (
        f"hooks file '{file}' fails while it is imported: ZeroDivisionError: division by zero ({file}:2)"
    )
    write_module("shop", SHOP)
    assert len(load_hooks(str(file))) == 3


def test_a_windows_path_is_no_path_with_a_function() -> None:
    assert "hooks file 'C:\\\\hooks\\\\shop.py' is not there" in refuse("C:\\hooks\\shop.py")


# -- what leads nowhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "missing"),
    [("no_such_hooks", "no_such_hooks"), ("no_such_pkg.hooks", "no_such_pkg"), ("json.hooks", "json.hooks")],
)
def test_a_module_that_is_missing(path: str, missing: str) -> None:
    assert refuse(path) == (
        f"hooks module {path!r} cannot be found (no module {missing!r}). Is it installed on every node, or shipped "
        "with the deployment? runtime_env={'working_dir': ...} or {'py_modules': [...]} ships it."
    )


def test_a_module_that_misses_another(write_module: WriteModule) -> None:
    file = write_module("needy", "import no_such_dependency\n")
    assert refuse("needy") == (
        "hooks module 'needy' fails while it is imported: ModuleNotFoundError: "
        f"No module named 'no_such_dependency' ({file}:2)"
    )


def test_a_module_that_fails(write_module: WriteModule) -> None:
    file = write_module("broken", "def check():\n    raise RuntimeError('no token')\n\ncheck()\n")
    assert refuse("broken") == (f"hooks module 'broken' fails while it is imported: RuntimeError: no token ({file}:3)")


EXITS = "import sys\nsys.exit('BUCKET is not set')\n"
PANICS = "class Panic(BaseException): ...\nraise Panic('index out of range')\n"


@pytest.mark.parametrize("by", ["module", "file", "callback"])
@pytest.mark.parametrize(
    ("source", "why"),
    [(EXITS, "it called sys.exit('BUCKET is not set')"), (PANICS, "Panic: index out of range")],
    ids=["exits", "panics"],
)
def test_a_module_that_exits_says_so_and_can_be_mended(
    by: str, source: str, why: str, write_module: WriteModule
) -> None:
    file = write_module("exits", source)
    ref = str(file) if by == "file" else "exits"
    if by == "callback":
        with pytest.raises(ImportError) as caught:
            load_callback("exits:phase")
        assert str(caught.value) == (
            f"callback 'exits:phase': module 'exits' fails while it is imported: {why} ({file}:3)"
        )
    else:
        assert refuse(ref) == f"hooks {by} {ref!r} fails while it is imported: {why} ({file}:3)"
    write_module("exits", SHOP)
    assert len(load_hooks(ref)) == 3


def test_a_module_with_a_wrong_hook_says_which(write_module: WriteModule) -> None:
    write_module("typo", "@hook('on_before_downlod')\ndef f(ctx):\n    pass\n")
    message = refuse("typo")
    assert message.startswith("hooks module 'typo' fails while it is imported: UnknownHookError: ")
    assert "did you mean 'on_before_download'" in message


def test_a_module_without_hooks(write_module: WriteModule) -> None:
    file = write_module("empty", "def fetch(ctx):\n    pass\n")
    assert refuse("empty") == (
        f"hooks module 'empty' ({file}) has no hooks: nothing in its namespace is decorated with @hook(\"on_...\")"
    )


def test_a_function_that_is_missing(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert refuse("shop:secnd") == (
        "hook 'shop:secnd': shop has no 'secnd' (did you mean 'second'?). Its hooks: first, second, third."
    )


RECIPES = "serve_llm_hooks.recipes"


def test_a_class_that_is_missing() -> None:
    message = refuse(f"{RECIPES}:CompileCach")
    assert f"{RECIPES} has no 'CompileCach' (did you mean 'CompileCache'?). Its hooks: BakedModel, " in message
    assert "PreloadLoRA, " in message


def test_a_module_of_classes_says_to_name_one() -> None:
    assert f"; name a class in it, as in '{RECIPES}:BakedModel': BakedModel, CheckNode, " in refuse(RECIPES)


def test_a_folder_of_classes_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    file = tmp_path / "b.py"
    file.write_text(
        "from serve_llm_hooks import *\nclass Own(RayServeLLMCallback):\n    def on_before_init(self, ctx): ..."
    )
    assert refuse(str(tmp_path)).endswith(f"; name a class in it, as in '{file}:Own': Own")


def test_a_class_that_cannot_be_read_is_not_advised(write_module: WriteModule) -> None:
    write_module("late", "def __dir__(): return ['Gone']\ndef __getattr__(name): raise ImportError(name)")
    assert refuse("late").endswith('is decorated with @hook("on_...")')


@pytest.mark.parametrize("entry", ["pack.missing", "pack.missing:f", "pack.missing.f"])
def test_what_a_module_does_not_find_is_no_slip_in_its_own_name(
    entry: str, tmp_path: Path, write_module: WriteModule
) -> None:
    (tmp_path / "pack").mkdir()
    write_module("pack/__init__", "")
    write_module("pack/missing", "import torch_not_there")
    message = refuse(entry)
    assert "fails while it is imported: ModuleNotFoundError: No module named 'torch_not_there'" in message
    assert "did you mean" not in message


def test_a_function_that_is_missing_where_there_are_none(write_module: WriteModule) -> None:
    write_module("empty", "")
    assert refuse("empty:fetch") == "hook 'empty:fetch': empty has no 'fetch'. Its hooks: none."


def test_a_function_that_is_not_decorated(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    advice = 'put @hook("on_...") on it to say where it runs'
    assert refuse("shop:no_hook") == f"hook 'shop:no_hook' is not decorated: {advice}"
    no_hook = importlib.import_module("shop").no_hook
    assert (
        refuse(no_hook)
        == 'the function shop:no_hook in hooks=[...] is no hook: decorate it with @hook("on_...") to say where it runs'
    )
    nameless = functools.partial(no_hook)
    assert refuse(nameless).startswith("a functools.partial in hooks=[...] is no hook: ")


@pytest.mark.parametrize("ref", ["", "not-a-module", "a b", ":fetch", "pkg..mod", "a:b:c"])
def test_what_is_no_path(ref: str) -> None:
    assert refuse(ref) == (
        f"{ref!r} in hooks=[...] is no module path: write 'pkg.mod', 'pkg.mod:function' or 'path/to/file.py'"
    )


@pytest.mark.parametrize("ref", ["A=hf_S3", "A=hf_S3:f", "A=S3/x", "A = hf_S3", "me:S3@host", {"hook": "A=hf_S3"}])
def test_a_text_that_may_be_a_secret_is_not_shown(ref: Any) -> None:
    advice = "write 'pkg.mod', 'pkg.mod:name' or 'path/to/file.py'"
    assert refuse(ref) == f"an entry of hooks=[...] is a str that is no path: {advice}"
    if isinstance(ref, str):
        with pytest.raises(HookLoadError) as caught:
            load_callback(ref)
        assert str(caught.value) == f"a callback is a str that is no path: {advice}"


def test_a_file_may_have_such_a_sign_in_its_path(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    for ref in (f"{tmp_path}/a=b/hooks.py", f"{tmp_path}/a=b"):
        assert "a=b" in refuse(ref)


@pytest.mark.parametrize("ref", [3, None, Config])
def test_what_is_no_reference(ref: Any) -> None:
    assert refuse(ref) == (
        "hooks=[...] takes 'pkg.mod', 'pkg.mod:function', a .py file, a decorated function, a class with methods named "
        f"after hook points, or {{'hook': ..., 'kwargs': {{...}}}}, not {describe(ref)}"
    )


# -- parameters ---------------------------------------------------------------------------------------------------

FETCH = """
@hook("on_before_node_download")
def fetch(ctx, *, bucket):
    ctx.custom_data["bucket"] = bucket

@hook("on_before_node_download")
def check(ctx):
    pass
"""


@pytest.mark.parametrize("kind", [list, tuple, set, dict.fromkeys, iter])
def test_a_list_that_is_not_unpacked_says_so(kind: Callable[[list[str]], object]) -> None:
    given: Any = kind(["no.such.module"])
    if isinstance(given, dict):
        given = given.keys()
    unpack = r"unpack the list, as in load_hooks\(\*hooks\) or hooks=\[\*hooks\]$"
    with pytest.raises(HookLoadError, match=unpack):
        load_hooks(given)
    with pytest.raises(HookLoadError, match=unpack):
        hooks_of_config(Config(hooks=[given]))


def test_a_string_that_is_unpacked_says_so() -> None:
    with pytest.raises(HookLoadError, match=r"^load_hooks\(\*'pkg.mod'\) takes a string apart into its letters"):
        load_hooks(*"pkg.mod")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("pkg.mod", "'pkg.mod'"),
        (["pkg.mod"], "'pkg.mod'"),
        (len, "a builtin_function_or_method"),
        ([len], "a builtin_function_or_method"),
        (sys, "a module"),
        (None, "a NoneType"),
        ([HookRegistry()], "a HookRegistry"),
        ([[]], "a list"),
        ([{"hook": len}], "a dict"),
    ],
)
def test_a_registry_of_what_is_no_hook_says_what_makes_one(given: Any, what: str) -> None:
    message = f"HookRegistry(...) takes the hooks of other registries, not {what}: load_hooks(...) makes a registry of"
    with pytest.raises(HookLoadError, match=f"^{re.escape(message)} "):
        HookRegistry(given)


def test_a_hook_that_is_given_bare_is_no_iterable_of_hooks() -> None:
    given: Any = Hook(print, HookOptions("on_before_init"))
    with pytest.raises(HookLoadError, match="not a Hook: "):
        HookRegistry(given)


def test_parameters_are_given_in_the_entry(write_module: WriteModule) -> None:
    write_module("store", FETCH)
    (fetch,) = load_hooks({"hook": "store:fetch", "kwargs": {"bucket": "s3://b"}})
    assert fetch.kwargs == {"bucket": "s3://b"}
    assert fetch.ref == "store:fetch(bucket=…)"


def test_an_entry_without_parameters_is_like_its_reference(write_module: WriteModule) -> None:
    write_module("store", FETCH)
    assert list(load_hooks({"hook": "store:check"})) == list(load_hooks("store:check"))
    assert list(load_hooks({"hook": "store:check", "kwargs": None})) == list(load_hooks("store:check"))


def test_parameters_replace_the_entry_without_any_that_came_with_the_module(write_module: WriteModule) -> None:
    write_module("store", FETCH)
    found = load_hooks("store", {"hook": "store:fetch", "kwargs": {"bucket": "b"}})
    assert [one.ref for one in found] == ["store:check", "store:fetch(bucket=…)"]


def test_one_hook_with_two_sets_of_parameters_is_two_hooks(write_module: WriteModule) -> None:
    write_module("store", FETCH)
    found = load_hooks(*({"hook": "store:fetch", "kwargs": {"bucket": bucket}} for bucket in ("a", "b", "a")))
    assert [one.kwargs["bucket"] for one in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        ({}, "missing a required argument: 'bucket'"),
        ({"buckt": "b"}, "missing a required argument: 'bucket'"),
        ({"bucket": "b", "region": "eu"}, "got an unexpected keyword argument 'region'"),
    ],
)
def test_parameters_that_do_not_fit(write_module: WriteModule, kwargs: dict[str, Any], why: str) -> None:
    write_module("store", FETCH)
    with pytest.raises(HookSignatureError) as caught:
        load_hooks({"hook": "store:fetch", "kwargs": kwargs})
    assert str(caught.value) == (
        f"hook store:fetch(ctx, *, bucket) cannot be called with parameters {masked(kwargs)}: {why}. "
        'Parameters are given in the config: hooks=[{"hook": "store:fetch", "kwargs": {...}}].'
    )


def test_parameters_that_were_forgotten(write_module: WriteModule) -> None:
    write_module("store", FETCH)
    assert "hook store:fetch(ctx, *, bucket) cannot be called with parameters {}" in refuse("store")


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ({"hok": "store:fetch"}, " (did you mean 'hook'?)"),
        ({"hook": "store:fetch", "kwarg": {}}, " (did you mean 'kwargs'?)"),
        ({"kwargs": {}}, ""),
    ],
)
def test_a_mapping_with_other_keys(entry: dict[str, Any], hint: str) -> None:
    assert refuse(entry) == (
        f"an entry of hooks=[...] that is a mapping has the keys 'hook' and 'kwargs'{hint}, not {masked(entry)}"
    )


def test_parameters_that_are_no_mapping() -> None:
    assert refuse({"hook": "store:fetch", "kwargs": ["b"]}) == (
        "'kwargs' of hook 'store:fetch' is a mapping, from names to values, not a list"
    )


# -- order, told at load ------------------------------------------------------------------------------------------


def test_a_circle_is_told_at_load(write_module: WriteModule) -> None:
    write_module(
        "circle",
        """
        @hook("on_before_init", before="b")
        def a(ctx): pass
        @hook("on_before_init", before="a")
        def b(ctx): pass
        """,
    )
    with pytest.raises(HookOrderError) as caught:
        load_hooks("circle")
    assert re.search(r"circle:a -> circle:b -> circle:a|circle:b -> circle:a -> circle:b", str(caught.value))


def test_a_circle_of_one_model_is_told_at_load_too(write_module: WriteModule) -> None:
    write_module(
        "circle",
        """
        @hook("on_before_init", before="b", model_id="llama-*")
        def a(ctx): pass
        @hook("on_before_init", before="a", model_id="llama-*")
        def b(ctx): pass
        """,
    )
    with pytest.raises(HookOrderError, match="form a circle at on_before_init"):
        load_hooks("circle")


def test_two_models_hooks_never_meet(write_module: WriteModule) -> None:
    write_module("one", "@hook('on_before_init', model_id='llama')\ndef setup(ctx):\n    pass\n")
    write_module(
        "two",
        """
        @hook("on_before_init", model_id="qwen")
        def setup(ctx): pass
        @hook("on_before_init", after="setup")
        def check(ctx): pass
        """,
    )
    found = load_hooks("two", "one")
    assert [each.path for each in found.hooks("on_before_init", "qwen")] == ["two:setup", "two:check"]
    assert [each.path for each in found.hooks("on_before_init", "llama")] == ["one:setup", "two:check"]


@pytest.mark.parametrize(
    "source", ['@hook("on_before_downlod")\ndef f(ctx): ...\n', '@hook("on_before_init")\ndef f(): ...\n']
)
def test_a_mistake_at_a_decorator_is_told_with_the_authors_line(source: str, write_module: WriteModule) -> None:
    file = write_module("shop", source)
    assert refuse("shop").endswith(f"({file}:2)")


# -- riddles ----------------------------------------------------------------------------------------------------------


def test_a_registry_in_place_of_the_list() -> None:
    with pytest.raises(HookLoadError, match=r"not a serve_llm_hooks\.HookRegistry\..*hooks=\[registry\]"):
        checked_hooks(HookRegistry())


def test_the_hooks_out_of_a_registry() -> None:
    registry = HookRegistry()

    @registry.hook("on_after_init")
    def fine(ctx: Any) -> None: ...

    with pytest.raises(HookLoadError, match=r"a hook out of a registry: give the registry whole, as in load_hooks\("):
        load_hooks(*registry)


def test_a_module_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fold_without_init").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HookLoadError, match=r"'fold_without_init' \(a folder without an __init__\.py: name a module"):
        load_hooks("fold_without_init")
    monkeypatch.setitem(sys.modules, "made_without_file", ModuleType("made_without_file"))
    with pytest.raises(HookLoadError, match="'made_without_file' has no hooks"):
        load_hooks("made_without_file")


def test_a_near_name_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "near_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from serve_llm_hooks import hook\n@hook('on_after_init')\ndef top(ctx): ...\n"
    )
    (package / "downloads.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for wrong, right in (("tpo", "top"), ("download", "downloads")):
        with pytest.raises(HookImportError, match=rf"installed on every node.*did you mean '{right}'\?") as caught:
            load_hooks(f"near_package.{wrong}")
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_what_ships_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HookImportError, match=r"comes only with runtime_env=\{'working_dir'"):
        load_hooks("hooks/not_there.py")


def test_a_syntax_error_is_told_with_its_own_line(write_module: WriteModule) -> None:
    file = write_module("shop", "def f(ctx:\n")
    assert refuse("shop").endswith(f"({file}:2)")
