"""Test what can be sent to a node and back, and the errors of what cannot."""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    HookError,
    HookImportError,
    HookLoadError,
    HookPickleError,
    NodeCtx,
    NodeInitializationError,
    hook,
    load_hooks,
)
from serve_llm_hooks._node.packing import check_parameters_travel, pack_custom_data, unpack_custom_data
from tests.unit.stub import Config, Failed, StubCluster, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks._node.task import NodeReport, NodeTask

HERE = __name__


def local(test: Callable[..., object], name: str) -> str:
    """Return the name that messages give to a function that a test defines inside itself."""
    return f"{HERE}:{test.__name__}.<locals>.{name}"


def test_a_hook_that_captured_what_cannot_be_pickled() -> None:
    lock = threading.Lock()

    @hook("on_before_node_download")
    def guarded(ctx: NodeCtx) -> None:
        with lock:
            pass

    cluster = StubCluster()
    with pytest.raises(HookPickleError) as caught:
        start(guarded, cluster=cluster)
    ref = local(test_a_hook_that_captured_what_cannot_be_pickled, "guarded")
    assert str(caught.value) == (
        f"hook {ref} at on_before_node_download cannot be sent to another process: the variable 'lock' it captured "
        "(lock) cannot be pickled: TypeError: cannot pickle '_thread.lock' object. Make what it needs inside the hook, "
        "or pass plain data in ctx.custom_data."
    )
    assert cluster.calls == ["acquire", "remove"]


class Guarded:
    """A hook that is an object, and holds what cannot travel."""

    def __init__(self, inside: object) -> None:
        self.inside = inside

    def __call__(self, ctx: NodeCtx) -> None:
        """Do nothing."""


class WillNot:
    """An object that can be pickled, but only once in a while."""

    times = 0

    def __reduce__(self) -> Any:
        WillNot.times += 1
        if WillNot.times == 1:
            raise TypeError("not now")
        return (WillNot, ())


def in_a_script(source: str) -> Any:
    """Return a hook that a script defines: it travels by value, globals included."""
    names: dict[str, Any] = {"__name__": "__main__", "hook": hook, "threading": threading}
    exec(source, names)
    return names["guarded"]


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (
            lambda: hook("on_before_node_download")(Guarded(threading.Lock())),
            "its attribute 'inside' (lock) cannot be pickled: ",
        ),
        (
            lambda: in_a_script(
                "lock = threading.Lock()\n"
                "other = 3\n"
                "@hook('on_before_node_download')\n"
                "def guarded(ctx):\n"
                "    with lock:\n"
                "        print(other)\n"
            ),
            "the global 'lock' it uses (lock) cannot be pickled: ",
        ),
        (lambda: hook("on_before_node_download")(Guarded(WillNot())), "TypeError: not now. "),
    ],
)
def test_which_part_of_a_hook_cannot_be_pickled(make: Callable[[], Any], culprit: str) -> None:
    WillNot.times = 0
    with pytest.raises(HookPickleError) as caught:
        start(make())
    assert f"at on_before_node_download cannot be sent to another process: {culprit}" in str(caught.value)


def test_a_partial_of_a_hook_that_cannot_travel_is_told_by_its_name() -> None:
    def fetch(ctx: NodeCtx, *, lock: object) -> None: ...

    made: Any = functools.partial(fetch, lock=threading.Lock())
    with pytest.raises(
        HookPickleError, match=r"<locals>\.fetch at on_before_node_download cannot be sent to another process"
    ):
        start(hook("on_before_node_download")(made))


def test_a_parameter_that_cannot_be_pickled() -> None:
    @hook("on_before_node_download")
    def fetch(ctx: NodeCtx, *, bucket: str, lock: object) -> None: ...

    entry = {"hook": fetch, "kwargs": {"bucket": "b", "lock": threading.Lock()}}
    with pytest.raises(HookPickleError, match=r"its parameter 'lock' \(lock\) cannot be pickled: TypeError"):
        start(entry)


def test_custom_data_that_cannot_leave_the_replica() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["fine"] = 1
        ctx.custom_data["lock"] = threading.Lock()

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(HookPickleError) as caught:
        start(prepare, work)
    assert str(caught.value) == (
        "ctx.custom_data['lock'] (lock) cannot leave the replica: TypeError: cannot pickle '_thread.lock' object. "
        "Between the replica and its nodes goes what can be pickled."
    )
    # Without a hook that could read it there, it stays, and that is fine.
    assert start(prepare).ctx.nodes["n1"].custom_data == {}


def test_custom_data_that_cannot_leave_a_node() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()

    with pytest.raises(NodeInitializationError) as caught:
        start(work, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookPickleError)
    assert str(error).startswith("ctx.custom_data['lock'] (lock) cannot leave node n1: TypeError: ")
    assert caught.value.node_ids == ("n1",)


def test_a_hooks_failure_is_told_before_its_custom_datas() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()
        raise ValueError("the real one")

    with pytest.raises(NodeInitializationError, match="ValueError: the real one"):
        start(work)


def vanish(error: BaseException) -> None:
    """Raise, as an object does that cannot be made again when it is unpickled."""
    raise error


class NotThere:
    """An object whose module is not where it arrives."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or ImportError("no module named 'theirs'")

    def __reduce__(self) -> Any:
        return (vanish, (self.error,))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, "ImportError: no module named 'theirs'"),
        (SystemExit(3), "its module called sys.exit(3)"),
    ],
)
def test_custom_data_that_cannot_be_unpacked_on_a_node(error: BaseException | None, why: str) -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["theirs"] = NotThere(error)

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(NodeInitializationError) as caught:
        start(prepare, work, cluster=StubCluster(("n1",)))
    (told,) = caught.value.exceptions
    assert isinstance(told, HookPickleError)
    assert str(told) == (
        f"ctx.custom_data['theirs'] cannot be unpacked on node n1: {why}. "
        "Is the same version of its module on every node?"
    )


def test_custom_data_of_a_node_that_cannot_be_unpacked_in_the_replica() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["theirs"] = NotThere()
        if ctx.node_id != "n0":
            raise OSError("disk full")

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(work, failed.hook())
    assert caught.value.node_ids == ("n0", "n1", "n2")
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [HookPickleError, HookError, HookError], "each node's own failure, and the hook's before its data's"
    why = "ctx.custom_data['theirs'] cannot be unpacked in the replica, from node n0: "
    assert str(caught.value.exceptions[0]).startswith(why)
    assert f"HookPickleError: {why}" in str(failed.nodes["n0"].error)
    assert "OSError: disk full" in str(failed.nodes["n1"].error)


def test_a_config_that_cannot_be_sent_is_told_to_the_hook_that_asks_for_it() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    @hook("on_before_node_download")
    def ask(ctx: NodeCtx) -> None:
        assert ctx.llm_config.model_id

    config = Config(hooks=[work])
    config.lock = threading.Lock()  # type: ignore[attr-defined]  # what a user keeps on a config of his own
    assert start(config=config).names == ["work"] * 3
    config.hooks = [ask]
    with pytest.raises(NodeInitializationError) as caught:
        start(config=config)
    assert (
        "the config of model 'm' cannot be sent to another process: TypeError: cannot pickle '_thread.lock' object"
        in str(caught.value)
    )


# -- a hook's module that is not on the node ----------------------------------------------------------------------


def on_a_node_without(name: str, cluster: StubCluster, then: Callable[[], object] | None = None) -> None:
    """Let the node's process have no such module, as if it had never been shipped."""

    async def answer(task: NodeTask) -> NodeReport:
        del sys.modules[name]
        if then is not None:
            then()
        return await cluster.work(task)

    cluster.answers = {"n1": answer}


def test_a_module_that_was_not_shipped(write_module: Callable[[str, str], Path]) -> None:
    file = write_module("only_here", "@hook('on_before_node_download')\ndef work(ctx):\n    pass\n")
    cluster = StubCluster(("n1",))
    hooks = load_hooks("only_here")
    on_a_node_without("only_here", cluster, then=file.unlink)
    with pytest.raises(NodeInitializationError) as caught:
        start(hooks, cluster=cluster)
    (error,) = caught.value.exceptions
    assert isinstance(error, HookLoadError)
    assert str(error) == (
        "hooks module 'only_here' cannot be imported on node n1 (no module 'only_here'), so hook only_here:work cannot "
        "run there. Is it installed on every node, or shipped with the deployment? runtime_env={'working_dir': ...} or "
        "{'py_modules': [...]} ships it."
    )
    assert caught.value.node_ids == ("n1",)


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("renamed = 'work'  # and no such function", "AttributeError: "),
        ("import sys\nsys.exit('no BUCKET here')", "its module called sys.exit('no BUCKET here'). "),
    ],
    ids=["without the function", "that exits"],
)
def test_a_module_of_another_version(there: str, why: str, write_module: Callable[[str, str], Path]) -> None:
    write_module("older", "@hook('on_before_node_download')\ndef work(ctx):\n    pass\n")
    cluster = StubCluster(("n1",))
    hooks = load_hooks("older")
    on_a_node_without("older", cluster, then=lambda: write_module("older", there))
    with pytest.raises(NodeInitializationError) as caught:
        start(hooks, cluster=cluster)
    (error,) = caught.value.exceptions
    assert isinstance(error, HookLoadError)
    assert str(error).startswith(f"hook older:work cannot be unpacked on node n1: {why}")
    assert str(error).endswith(". Is the same version of its module on every node?")


# -- what a thread that was left behind still does ---------------------------------------------------------------------


class Grows:
    """A value that adds to the data that it is in while it is pickled, the first time."""

    def __init__(self, data: dict[str, Any], times: int = 1) -> None:
        self.data, self.times = data, times

    def __reduce__(self) -> Any:
        if self.times:
            self.times -= 1
            self.data[f"late {len(self.data)}"] = True
        return (int, (1,))


def test_custom_data_that_grows_while_it_is_packed() -> None:
    data: dict[str, Any] = {}
    data["stats"] = {"grows": None, "b": 2}
    data["stats"]["grows"] = Grows(data["stats"])
    data["grows"] = Grows(data)
    data["last"] = 3
    packed = pack_custom_data(data, where="the replica")
    back = unpack_custom_data(packed, where="there")
    assert back["last"] == 3
    assert back["stats"]["b"] == 2


def test_custom_data_that_never_stays_the_same_is_told_by_its_key() -> None:
    data: dict[str, Any] = {"stats": {"b": 2}}
    data["stats"] = {"grows": Grows(data["stats"], 10**6), "b": 2}
    data["stats"]["grows"].data = data["stats"]
    with pytest.raises(HookPickleError, match=r"custom_data\['stats'\] .*changed size during iteration"):
        pack_custom_data(data, where="the replica")


class Panic(BaseException):
    """As a panic in Rust code is raised."""


class Panics:
    """A value that cannot be pickled, and says so in a way of its own."""

    def __reduce__(self) -> Any:
        raise Panic("index out of range")


def test_a_node_reports_whatever_happens_after_its_work() -> None:
    @hook("on_after_node_download")
    def leave(ctx: NodeCtx) -> None:
        ctx.custom_data["odd"] = Panics()

    with pytest.raises(NodeInitializationError, match=r"custom_data\['odd'\] .*Panic: index out of range"):
        start(leave, cluster=StubCluster(("n0",)))


@pytest.mark.parametrize("kind", ["GeneratorExit", "asyncio.CancelledError", "KeyboardInterrupt"])
def test_a_module_that_ends_its_import_in_a_way_of_its_own(
    kind: str, write_module: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "KeyboardInterrupt":
        monkeypatch.setattr("serve_llm_hooks._core.errors._interrupts_are_real", False)  # as in a node's process
    write_module("ends_itself", f"import asyncio\nraise {kind}('of its own')")
    with pytest.raises(HookImportError, match=f"fails while it is imported: {kind.rpartition('.')[2]}: of its own"):
        load_hooks("ends_itself")


def test_a_parameter_of_a_hook_named_by_its_path_is_named_when_it_cannot_travel() -> None:
    with pytest.raises(HookPickleError) as caught:
        check_parameters_travel(["shop", {"hook": "shop:third", "kwargs": {"bucket": "b", "lock": threading.Lock()}}])
    assert str(caught.value).startswith(
        "parameter 'lock' (lock) of hook 'shop:third' cannot be sent to another process: TypeError: "
    )
    check_parameters_travel([{"hook": "shop:third", "kwargs": {"bucket": "b"}}, {"hook": "shop"}])
