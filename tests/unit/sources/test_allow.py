"""Test which modules and files ``SERVE_LLM_HOOKS_ALLOW`` lets in."""

from __future__ import annotations

import functools
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import (
    CallbackCtx,
    CallbackRunner,
    HookNotAllowedError,
    HookRegistry,
    NodeCtx,
    NodeInitializationError,
    RayServeLLMCallback,
    hook,
    load_callback,
    load_hooks,
)
from serve_llm_hooks._node.packing import pack_hooks
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import Config, FullConfig, RayConfig, StubCluster, fn_of, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import DownloadMode
    from serve_llm_hooks._node.task import NodeReport, NodeTask

    WriteModule = Callable[[str, str], Path]

ALLOW = "SERVE_LLM_HOOKS_ALLOW"
HERE = __name__

HOOKS = """
    from pathlib import Path
    Path(__file__).with_suffix(".imported").touch()

    @hook("on_before_download")
    def fetch(ctx): ...

    class Style:
        def on_before_download(self, ctx): ...

    class Init:
        async def initialize(self, llm_config): ...

    def phase(phase, config, data): ...
"""


@pytest.fixture
def vendor(write_module: WriteModule) -> Callable[[], bool]:
    """A module ``vendor_hooks``; says whether it has been imported."""
    file = write_module("vendor_hooks", HOOKS)
    return lambda: file.with_suffix(".imported").exists()


def allowed(module: str, value: str | None) -> bool:
    """Return True if a hook of a module loads where the variable has this value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ALLOW, raising=False)
        if value is not None:
            patch.setenv(ALLOW, value)
        try:
            load_hooks(fn_of(module))
        except HookNotAllowedError:
            return False
    return True


# -- the variable ---------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}(\.[a-z_][a-z0-9_]{0,6}){0,3}", fullmatch=True)
SEPARATORS = st.text(", \n\t", min_size=1, max_size=3)
EMPTY = st.text(", \n\t", max_size=5)


@given(st.lists(NAMES, min_size=1, unique=True), SEPARATORS, NAMES)
def test_names_allow_themselves_and_nothing_else(names: list[str], separator: str, other: str) -> None:
    value = separator.join(names)
    assert all(allowed(name, value) for name in names)
    assert allowed(other, value) == (other in names)


@given(NAMES, NAMES)
def test_a_package_is_allowed_with_what_is_in_it(package: str, name: str) -> None:
    assert allowed(package, f"{package}.*")
    assert allowed(f"{package}.{name}", f"{package}.*")
    assert not allowed(f"{package}x", f"{package}.*")
    assert not allowed(f"9.{package}", f"{package}.*")
    assert not allowed(f"{package}.{name}", package)


@given(NAMES, EMPTY)
def test_unset_allows_everything_and_empty_nothing(name: str, empty: str) -> None:
    assert allowed(name, None)
    assert not allowed(name, empty)


@given(st.text("*?[]!_main.", min_size=1))
def test_what_the_script_decorated_is_allowed_by_its_name_only(pattern: str) -> None:
    assert allowed("__main__", pattern) == (pattern == "__main__")


def test_the_case_of_a_name_matters() -> None:
    assert not allowed("My_company.hooks", "my_company.*")


def test_the_library_and_its_harness_are_no_ones_hooks_path() -> None:
    assert allowed("serve_llm_hooks.callbacks", "")
    assert allowed("serve_llm_hooks_testing.strikes", "")
    assert not allowed("serve_llm_hooks_of_others", "")


# -- the message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            "my_company.*",
            "'my_company.*', and no pattern in it matches the module 'vendor_hooks'",
        ),
        (" , ", "' , ', and the variable is set and empty, which allows nothing"),
    ],
)
def test_the_message_says_what_where_and_what_to_do(
    value: str, why: str, vendor: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW, value)
    with pytest.raises(HookNotAllowedError) as caught:
        load_hooks("vendor_hooks:fetch")
    assert str(caught.value) == (
        f"'vendor_hooks:fetch' in hooks=[...] may not run in this process: SERVE_LLM_HOOKS_ALLOW={why}. Name "
        "what it allows, or add 'vendor_hooks' to it in the environment of every process that runs hooks; unset, it "
        "allows everything"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_message_about_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "*")
    with pytest.raises(HookNotAllowedError, match=re.escape("(__main__) is allowed by '__main__', and by no pattern")):
        load_hooks(fn_of("__main__"))


def test_the_message_about_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "hooks.py, *")
    file = tmp_path / "hooks.py"
    with pytest.raises(HookNotAllowedError, match=re.escape(f"matches the file {file.as_posix()!r} (those with a /")):
        load_hooks(str(file))


def test_the_message_of_a_replica_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(hooks=["vendor_hooks"])
    monkeypatch.setenv(ALLOW, "my_company")
    with pytest.raises(HookNotAllowedError, match=r"in the replica of model 'm' on node n0: 'vendor_hooks'"):
        start(config=config)


# -- each way in, before its import -----------------------------------------------------------------------------------

PATHS: dict[str, Callable[[Path], object]] = {
    "a module": lambda folder: load_hooks("vendor_hooks"),
    "a function": lambda folder: load_hooks("vendor_hooks:fetch"),
    "a class": lambda folder: load_hooks("vendor_hooks:Style"),
    "with parameters": lambda folder: load_hooks({"hook": "vendor_hooks:fetch", "kwargs": {"bucket": 1}}),
    "a module with parameters": lambda folder: load_hooks({"hook": "vendor_hooks"}),
    "a submodule": lambda folder: load_hooks("vendor_hooks.sub"),
    "a file": lambda folder: load_hooks(str(folder / "vendor_hooks.py")),
    "a file's function": lambda folder: load_hooks(f"{folder}/vendor_hooks.py:fetch"),
    "a file by another way": lambda folder: load_hooks(f"{folder}/../{folder.name}/vendor_hooks.py"),
    "a callback with a colon": lambda folder: load_callback("vendor_hooks:phase"),
    "a callback with a dot": lambda folder: load_callback("vendor_hooks.phase"),
    "a callback's submodule": lambda folder: load_callback("vendor_hooks:sub.phase"),
    "callback=": lambda folder: FullConfig(callback="vendor_hooks:Style").callback_hooks(),
    "callbacks=": lambda folder: FullConfig(callbacks=["vendor_hooks:phase"]).callback_hooks(),
    "initialization_class=": lambda folder: FullConfig(initialization_class="vendor_hooks.Init").callback_hooks(),
    "a runner": lambda folder: CallbackRunner(["vendor_hooks:phase"]),
}


@pytest.mark.parametrize("load", PATHS.values(), ids=list(PATHS))
@pytest.mark.parametrize("value", ["", "vendor, *.vendor_hooks, vendor_hooks_too, */other/*.py"])
def test_a_path_is_refused_before_its_import(
    load: Callable[[Path], object],
    value: str,
    vendor: Callable[[], bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ALLOW, value)
    with pytest.raises(HookNotAllowedError, match="may not run in this process"):
        load(tmp_path)
    assert not vendor()


def test_finding_a_submodule_for_a_message_imports_nothing(
    vendor: Callable[[], bool], write_module: WriteModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "good"
    (package / "bad").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bad" / "__init__.py").write_text("import vendor_hooks")
    (package / "bad" / "deep.py").touch()
    monkeypatch.setenv(ALLOW, "good")
    with pytest.raises(AttributeError, match=r"good has no 'bad\.deep'"):
        load_callback("good:bad.deep")
    assert not vendor()


def test_what_is_allowed_runs(
    vendor: Callable[[], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_module: WriteModule
) -> None:
    write_module("node_hooks", '@hook("on_after_node_download")\ndef unpack(ctx): ...')
    file = tmp_path / "file_hooks.py"
    file.write_text(
        'from serve_llm_hooks import hook\n@hook("on_after_node_download")\ndef check(ctx): ...\n'
        "class Style:\n    def on_after_node_download(self, ctx): ...\n"
    )
    monkeypatch.setenv(ALLOW, f"vendor_hooks node_hooks {tmp_path.as_posix()}/*.py")
    started = start("vendor_hooks", "node_hooks", str(file), f"{file}:Style", cluster=StubCluster(nodes=("n0",)))
    assert started.names == ["fetch", "unpack", "check", "on_after_node_download"]
    assert vendor()


# -- what is given, and not named -------------------------------------------------------------------------------------


@hook("on_before_download")
def given_fn(ctx: CallbackCtx) -> None: ...


class GivenStyle(RayServeLLMCallback):
    def on_before_download(self, ctx: CallbackCtx) -> None: ...


class GivenPhases:
    def __call__(self, phase: str, config: object, data: object) -> None: ...


class GivenInitialization:
    async def initialize(self, llm_config: object) -> None: ...


given_registry = HookRegistry()
given_registry.hook("on_before_download")(given_fn)


def _registered() -> object:
    hook("on_before_download")(given_fn)
    return hooks_of_config(RayConfig())


def _arrived_with_the_pickle() -> object:
    config = Config(hooks=None)
    config._script_hooks = tuple(given_registry)  # type: ignore[attr-defined]  # as our LLMConfig has it
    return hooks_of_config(config)


GIVEN: dict[str, Callable[[], object]] = {
    "a function": lambda: load_hooks(given_fn),
    "a module": lambda: load_hooks(sys.modules[HERE]),
    "a registry": lambda: load_hooks(given_registry),
    "a class": lambda: load_hooks(GivenStyle),
    "an object": lambda: load_hooks(GivenStyle()),
    "with parameters": lambda: load_hooks({"hook": GivenStyle, "kwargs": {}}),
    "a callback": lambda: load_callback(given_fn),
    "a partial": lambda: load_callback(functools.partial(given_fn)),
    "callback=": lambda: FullConfig(callback=GivenStyle).callback_hooks(),
    "an object in callback=": lambda: FullConfig(callback=GivenStyle()).callback_hooks(),
    "callbacks=": lambda: FullConfig(callbacks=[GivenPhases]).callback_hooks(),
    "an object in callbacks=": lambda: FullConfig(callbacks=[GivenPhases()]).callback_hooks(),
    "initialization_class=": lambda: FullConfig(initialization_class=GivenInitialization).callback_hooks(),
    "registered, with a config of Ray's": _registered,
    "arrived with a config": _arrived_with_the_pickle,
    "sent on": lambda: pack_hooks(given_registry),
}


@pytest.mark.parametrize("load", GIVEN.values(), ids=list(GIVEN))
def test_what_is_given_is_judged_by_its_module(load: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, f"elsewhere, {HERE}")
    load()
    monkeypatch.setenv(ALLOW, "elsewhere")
    with pytest.raises(HookNotAllowedError, match=f"{HERE}:.* may not run in this process"):
        load()


def test_a_hook_that_was_imported_into_an_allowed_module_is_judged_by_its_own(
    vendor: Callable[[], bool], write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("ours", "from vendor_hooks import fetch, phase")
    monkeypatch.setenv(ALLOW, "ours")
    with pytest.raises(HookNotAllowedError, match="hook vendor_hooks:fetch at on_before_download may not run"):
        load_hooks("ours")
    with pytest.raises(HookNotAllowedError, match="callback vendor_hooks:phase may not run"):
        load_callback("ours:phase")


# -- on a node --------------------------------------------------------------------------------------------------------

imported: list[str] = []


def _import(name: str) -> str:
    imported.append(name)
    return name


class Telltale:
    """Says when it is unpickled, which is when its module would be imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return (_import, (self.name,))


def on_nodes_with(value: str) -> dict[str, Callable[[NodeTask], Any]]:
    """Nodes on which the variable has a value that it does not have in the replica."""

    async def download(task: NodeTask, mode: DownloadMode) -> str:
        return "/models/m"

    async def work(task: NodeTask) -> NodeReport:
        return await run_task(task, download, environ={ALLOW: value})

    return {"n0": work, "n1": work}


def test_a_node_refuses_by_its_own_environment_before_anything_is_unpacked() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_download")
    def send(ctx: CallbackCtx) -> None:
        ctx.custom_data["parcel"] = Telltale("custom_data")

    @hooks.hook("on_before_node_download")
    def first(ctx: NodeCtx, *, what: object = None) -> None: ...

    imported.clear()
    entry = {"hook": first, "kwargs": {"what": Telltale("a parameter")}}
    cluster = StubCluster(nodes=("n0", "n1"), answers=on_nodes_with("elsewhere.*"))
    with pytest.raises(NodeInitializationError) as caught:
        start(hooks, entry, cluster=cluster)
    assert imported == []
    assert [type(error) for error in caught.value.exceptions] == [HookNotAllowedError] * 2
    assert caught.value.node_ids == ("n0", "n1")
    assert "may not run on node n1: SERVE_LLM_HOOKS_ALLOW='elsewhere.*'" in str(caught.value.exceptions[1])


def test_a_hook_that_is_not_from_where_it_says_does_not_run() -> None:
    async def forged(task: NodeTask) -> NodeReport:
        task = task._replace(hooks=tuple(packed._replace(source="elsewhere.hooks") for packed in task.hooks))
        report: NodeReport = await on_nodes_with("elsewhere.*")["n0"](task)
        return report

    ran = HookRegistry()

    @ran.hook("on_before_node_download")
    def never(ctx: NodeCtx) -> None:
        ctx.custom_data["it"] = "ran"

    cluster = StubCluster(nodes=("n0",), answers={"n0": forged})
    with pytest.raises(NodeInitializationError, match=r"was sent as one from elsewhere\.hooks, may not run") as caught:
        start(ran, cluster=cluster)
    assert isinstance(caught.value.exceptions[0], HookNotAllowedError)


def test_a_node_allows_a_file_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "file_hooks.py"
    file.write_text('from serve_llm_hooks import hook\n@hook("on_after_node_download")\ndef check(ctx): ...\n')
    allowing = StubCluster(nodes=("n0",), answers=on_nodes_with(f"{tmp_path.as_posix()}/*"))
    assert start(str(file), cluster=allowing).names == ["check"]
    other = StubCluster(nodes=("n0",), answers=on_nodes_with("/elsewhere/*"))
    with pytest.raises(NodeInitializationError, match=re.escape(f"matches the file {file.as_posix()!r}")):
        start(str(file), cluster=other)


def test_the_config_is_unpacked_on_a_node_only_where_all_its_hooks_are_allowed() -> None:
    def asks(ctx: NodeCtx) -> None:
        ctx.custom_data["model"] = ctx.llm_config.model_id

    asks.__module__ = "ours"
    hooks = HookRegistry()
    hooks.hook("on_after_node_download")(asks)
    hooks.hook("on_after_init")(fn_of("theirs"))
    allowing = StubCluster(nodes=("n0",), answers=on_nodes_with("ours theirs"))
    assert start(hooks, cluster=allowing).ctx.nodes["n0"].custom_data == {"model": "m"}
    some = StubCluster(nodes=("n0",), answers=on_nodes_with("ours"))
    with pytest.raises(NodeInitializationError, match=r"config of model 'm', which has hooks from there, may not run"):
        start(hooks, cluster=some)
    for_another = HookRegistry()  # it will not run, and is unpacked with the config all the same
    for_another.hook("on_after_init", model_id="another")(fn_of("of_another"))
    with pytest.raises(NodeInitializationError, match="add 'of_another' to it"):
        start(hooks, for_another, cluster=allowing)
