"""``@hook``: what it takes, what it refuses, and the registries that it fills."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import pytest

from serve_llm_hooks import Hook, HookRegistry, HookSignatureError, UnknownHookError, hook, registry
from serve_llm_hooks._core.hook import marked_hooks
from serve_llm_hooks._core.messages import describe
from serve_llm_hooks._core.options import HookOptions
from tests.unit.stub import LOGGED


def any_hook(point: Any, **options: Any) -> Any:
    """The decorator as an untyped script sees it."""
    return hook(point, **options)


# -- what it does -------------------------------------------------------------------------------------------------


def test_the_function_comes_back_as_it_was_and_is_registered() -> None:
    def choose(ctx: Any) -> None:
        """Choose."""

    decorated = hook("on_before_download", model_id="llama-2-7b")(choose)
    assert decorated is choose
    assert [one.fn for one in registry.hooks("on_before_download", "llama-2-7b")] == [choose]
    assert registry.hooks("on_before_download", "qwen") == ()
    assert registry.hooks("on_after_download", "llama-2-7b") == ()


def test_a_private_registry_has_the_same_decorator_and_leaves_the_process_alone() -> None:
    private = HookRegistry()

    @private.hook("on_before_init")
    def mine(ctx: Any) -> None: ...

    assert [one.name for one in private] == ["mine"]
    assert len(registry) == 0


def test_twice_is_once() -> None:
    def one(ctx: Any) -> None: ...

    hook("on_before_init", order=1)(one)
    hook("on_before_init", order=1)(one)
    assert len(registry) == 1
    assert len(marked_hooks(one)) == 1


def test_twice_with_other_options_is_an_error() -> None:
    @hook("on_before_init", order=1)
    def one(ctx: Any) -> None: ...

    with pytest.raises(ValueError) as caught:
        hook("on_before_init", order=2)(one)
    assert str(caught.value) == (
        f"{__name__}:test_twice_with_other_options_is_an_error.<locals>.one is a hook at on_before_init already, "
        "with other options; write one @hook with all of them (model_id= takes a list)"
    )


def test_one_function_at_several_points() -> None:
    @hook("on_after_init")
    @hook("on_failure")
    def report(ctx: Any) -> None: ...

    assert [one.point for one in registry.hooks()] == ["on_after_init", "on_failure"]


def test_the_hooks_of_all_points_come_in_the_order_of_the_points() -> None:
    @hook("on_after_init")
    def last(ctx: Any) -> None: ...

    @hook("on_before_init")
    def first(ctx: Any) -> None: ...

    assert [one.name for one in registry.hooks()] == ["first", "last"]
    assert repr(registry).startswith("<HookRegistry of ")
    assert repr(HookRegistry()) == "<HookRegistry of no hooks>"


# -- defined again ------------------------------------------------------------------------------------------------


CELL = """
from serve_llm_hooks import hook

@hook("{point}", order={order})
def prepare(ctx):
    pass
"""


def run_cell(point: str = "on_before_init", order: int = 0) -> None:
    exec(CELL.format(point=point, order=order), {"__name__": "notebook"})


def test_a_notebooks_cell_run_again_means_the_same_hook() -> None:
    run_cell()
    run_cell(order=5)
    (only,) = registry.hooks()
    assert only.options.order == 5


def test_a_notebooks_cell_that_has_moved_to_another_point_has_left_the_first() -> None:
    run_cell("on_before_init")
    run_cell("on_after_init")
    assert [one.point for one in registry.hooks()] == ["on_after_init"]
    assert len(registry) == 1


def test_a_module_that_is_reloaded_keeps_its_order() -> None:
    source = """
from serve_llm_hooks import hook

@hook("on_after_init")
@hook("on_before_init")
def a(ctx):
    pass

@hook("on_before_init")
def b(ctx):
    pass
"""
    for _ in range(2):
        exec(source, {"__name__": "reloaded"})
    assert [(one.point, one.name) for one in registry.hooks()] == [
        ("on_before_init", "a"),
        ("on_before_init", "b"),
        ("on_after_init", "a"),
    ]


def test_a_decorated_hook_that_is_wrapped_and_decorated_again_stays_at_both_points() -> None:
    source = f"""{LOGGED}
from serve_llm_hooks import hook

@hook("on_after_init")
@logged
@hook("on_before_init")
def a(ctx):
    pass
"""
    exec(source, {"__name__": "wrapping"})
    assert [one.point for one in registry.hooks()] == ["on_before_init", "on_after_init"]


def test_local_functions_of_one_name_are_two_hooks() -> None:
    def make() -> Any:
        @hook("on_before_init")
        def local(ctx: Any) -> None: ...

        return local

    first, second = make(), make()
    assert [one.fn for one in registry.hooks()] == [first, second]


class Fetch:
    """Hooks may be objects that are called."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def __call__(self, ctx: Any) -> None:
        """Fetch."""


def fetch(ctx: Any, *, bucket: str = "") -> None:
    """Fetch."""


def fetch_again(ctx: Any) -> None:
    """Fetch."""


def test_instances_and_partials_are_hooks_each_of_its_own() -> None:
    ours = [Fetch("a"), Fetch("b"), functools.partial(fetch, bucket="a"), functools.partial(fetch, bucket="b")]
    for one in ours:
        any_hook("on_before_init")(one)
    assert [one.fn for one in registry.hooks()] == ours
    assert [one.name for one in registry.hooks()] == ["Fetch", "Fetch", "fetch", "fetch"]


def test_a_partial_of_a_hook_is_another_hook() -> None:
    any_hook("on_before_init")(fetch_again)
    any_hook("on_after_init")(functools.partial(fetch_again))
    assert [one.point for one in registry.hooks()] == ["on_before_init", "on_after_init"]


def test_a_registry_can_be_cleared_and_filled_again() -> None:
    run_cell("on_before_init")
    registry.clear()
    assert registry.hooks() == ()
    run_cell("on_after_init")
    assert [one.point for one in registry.hooks()] == ["on_after_init"]


# -- for which models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "runs_for", "not_for"),
    [
        (None, ["anything", ""], []),
        ("llama", ["llama"], ["llama-2", "Llama"]),
        (["llama", "qwen"], ["llama", "qwen"], ["gemma"]),
        ("meta-llama/*", ["meta-llama/Llama-3-8B"], ["meta-llama", "qwen"]),
        (("qwen", "llama-?"), ["qwen", "llama-2"], ["llama-13"]),
    ],
)
def test_the_models_that_a_hook_is_for(model_id: Any, runs_for: list[str], not_for: list[str]) -> None:
    any_hook("on_before_init", model_id=model_id)(lambda ctx: None)
    for one in runs_for:
        assert len(registry.hooks("on_before_init", one)) == 1
        assert len(registry.for_model(one)) == 1
    for one in not_for:
        assert len(registry.hooks("on_before_init", one)) == 0
        assert len(registry.for_model(one)) == 0


# -- what a hook is -----------------------------------------------------------------------------------------------


async def fetch_async(ctx: Any) -> None:
    """Fetch."""


class FetchAsync:
    """An object whose call is async."""

    async def __call__(self, ctx: Any) -> None:
        """Fetch."""


@pytest.mark.parametrize(
    ("fn", "is_async"),
    [
        (fetch, False),
        (fetch_async, True),
        (functools.partial(fetch), False),
        (functools.partial(fetch_async), True),
        (Fetch("a"), False),
        (FetchAsync(), True),
    ],
)
def test_a_hook_knows_whether_it_is_async(fn: Any, is_async: bool) -> None:
    assert Hook(fn, HookOptions("on_before_init")).is_async is is_async


def test_a_hook_shows_what_it_is() -> None:
    plain = Hook(fetch, HookOptions("on_before_init"))
    keyed = Hook(fetch, HookOptions("on_before_init", model_ids=("a", "b")), {"bucket": "s3://b"})
    assert repr(plain) == f"<Hook {__name__}:fetch at on_before_init>"
    assert repr(keyed) == f"<Hook {__name__}:fetch(bucket=…) at on_before_init for a, b>"


def test_hooks_are_equal_when_function_point_and_parameters_are() -> None:
    one = Hook(fetch, HookOptions("on_before_init"))
    assert one == Hook(fetch, HookOptions("on_before_init", order=3))
    assert hash(one) == hash(Hook(fetch, HookOptions("on_before_init")))
    assert one != Hook(fetch, HookOptions("on_after_init"))
    assert one != Hook(fetch, HookOptions("on_before_init"), {"bucket": "b"})
    assert one != "fetch"


def test_a_hook_travels_with_its_parameters() -> None:
    again = pickle.loads(pickle.dumps(Hook(fetch, HookOptions("on_before_init", order=3), {"bucket": "b"})))
    assert again.fn is fetch
    assert again.options.order == 3
    assert again.kwargs == {"bucket": "b"}


# -- wrong functions ----------------------------------------------------------------------------------------------


def takes_nothing() -> None:
    """Wrong."""


def takes_two(ctx: Any, bucket: str) -> None:
    """Wrong."""


def takes_ctx_by_name(*, ctx: Any) -> None:
    """Wrong."""


@pytest.mark.parametrize(
    ("fn", "signature", "count"),
    [
        (takes_nothing, "()", "no"),
        (takes_two, "(ctx, bucket)", "2"),
        (takes_ctx_by_name, "(*, ctx)", "no"),
    ],
)
def test_a_function_that_cannot_be_called_with_ctx_alone(fn: Any, signature: str, count: str) -> None:
    with pytest.raises(HookSignatureError) as caught:
        any_hook("on_before_init")(fn)
    name = fn.__name__
    assert str(caught.value) == (
        f"{__name__}:{name}{signature} at on_before_init takes {count} positional arguments, but a hook is called "
        f"with one; a hook is `def {name}(ctx)`, its own parameters keyword-only: `def {name}(ctx, *, bucket)`"
    )
    assert len(registry) == 0


def test_an_object_whose_call_does_not_take_ctx() -> None:
    class Wrong:
        def __call__(self) -> None: ...

    with pytest.raises(HookSignatureError, match=r"<locals>\.Wrong|:Wrong\(\)"):
        any_hook("on_before_init")(Wrong())


@pytest.mark.parametrize(
    "fn", [lambda *args: None, lambda ctx, bucket="b": None, lambda ctx, *, bucket: None, lambda ctx, **options: None]
)
def test_functions_that_can(fn: Any) -> None:
    any_hook("on_before_init")(fn)
    assert len(registry) == 1


@pytest.mark.parametrize("fn", [None, "my.mod:fetch", 3])
def test_what_is_no_function(fn: Any) -> None:
    with pytest.raises(HookSignatureError) as caught:
        any_hook("on_before_init")(fn)
    assert str(caught.value) == f"@hook('on_before_init') decorates a function, not {fn!r}"


def test_a_class_is_no_function() -> None:
    with pytest.raises(HookSignatureError, match="decorates a function, not the class Fetch; decorate a function"):
        any_hook("on_before_init")(Fetch)


class Slotted:
    __slots__ = ()

    def start(self, ctx: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize("fn", [print, getattr, Slotted().start])
def test_what_holds_no_attributes_is_to_be_wrapped(fn: Any) -> None:
    with pytest.raises(HookSignatureError, match=r"which holds no attributes; wrap it in a function"):
        any_hook("on_before_init")(fn)
    assert len(registry) == 0


class TellsNoSignature:
    """A function that ``inspect`` cannot read."""

    __signature__ = "unknown"

    def __call__(self, ctx: Any, **kwargs: Any) -> None:
        """Do nothing."""


def test_what_tells_no_signature_is_believed() -> None:
    any_hook("on_before_init")(TellsNoSignature())
    (one,) = registry.hooks()
    assert one.bind({"bucket": "b"}).kwargs == {"bucket": "b"}


# -- wrong options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"order": "1"}, TypeError, "order= is an int, lower first, not '1'"),
        ({"order": True}, TypeError, "order= is an int, lower first, not True"),
        ({"order": 1.5}, TypeError, "order= is an int, lower first, not 1.5"),
        ({"timeout_s": 0}, ValueError, "timeout_s= is a positive number of seconds, as in 600, not 0"),
        ({"timeout_s": -1}, ValueError, "timeout_s= is a positive number of seconds, as in 600, not -1"),
        ({"timeout_s": float("nan")}, ValueError, "timeout_s= is a positive number of seconds, as in 600, not nan"),
        ({"timeout_s": "3"}, ValueError, "timeout_s= is a positive number of seconds, as in 600, not '3'"),
        (
            {"timeout_s": 10**400},
            ValueError,
            "timeout_s= is a positive number of seconds, at most 1e12, as in 600, not a larger one",
        ),
        (
            {"timeout_s": 1e300},
            ValueError,
            "timeout_s= is a positive number of seconds, at most 1e12, as in 600, not 1e+300",
        ),
        ({"timeout_s": True}, ValueError, "timeout_s= is a positive number of seconds, as in 600, not True"),
        ({"on_error": "ignore"}, ValueError, "on_error= is 'raise' or 'warn', not 'ignore'"),
        ({"model_id": []}, ValueError, "model_id=[] matches no model; leave model_id out to match every model"),
        ({"model_id": ""}, TypeError, "model_id= takes a name or several, as strings, not ''"),
        ({"model_id": [1]}, TypeError, "model_id= takes a name or several, as strings, not 1"),
        ({"before": 3}, TypeError, "before= takes a name or several, as strings, not 3"),
        ({"after": [None]}, TypeError, "after= takes a name or several, as strings, not None"),
    ],
)
def test_an_option_of_the_wrong_kind(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        any_hook("on_before_init", **options)
    assert str(caught.value) == message


def test_a_function_in_place_of_its_name() -> None:
    with pytest.raises(TypeError) as caught:
        any_hook("on_before_init", after=fetch)
    assert str(caught.value) == f"after= takes a name or several, as strings, not {describe(fetch)}"


def test_options_are_kept_as_written() -> None:
    any_hook("on_before_init", order=-1, before="a", after=["b", "c"], timeout_s=3, on_error="warn")(lambda ctx: None)
    (one,) = registry.hooks()
    assert one.options == HookOptions("on_before_init", (), -1, ("a",), ("b", "c"), 3.0, "warn")


def test_what_is_no_hook_has_no_marks() -> None:
    assert marked_hooks("fetch") == ()
    assert marked_hooks(Fetch) == ()
    assert marked_hooks(fetch) == ()


def test_a_misspelt_option_is_told_with_the_right_one() -> None:
    wrong: Any = {"model": "llama-*"}
    with pytest.raises(TypeError) as caught:
        HookRegistry().hook("on_before_init", **wrong)
    assert str(caught.value) == (
        "@hook takes no model= (did you mean 'model_id'?); its options are model_id, order, before, after, timeout_s, "
        "on_error, roles, until, once_per_node"
    )


def test_a_decorator_without_a_point_says_how_to_write_it() -> None:
    def check_disk(ctx: Any) -> None: ...

    bare: Any = HookRegistry().hook
    with pytest.raises(
        UnknownHookError, match=r'@hook needs one: write @hook\("on_before_download"\) above the function'
    ):
        bare(check_disk)


# -- wrappers of generators ------------------------------------------------------------------------------------------


def wrapping(body: str) -> Any:
    """Return a functools.wraps wrapper of a generator function."""
    source = f"""
import functools
def make(fn):
    @functools.wraps(fn)
    def w(ctx, *args, **kwargs):
        {body}
    return w

@make
def gen(ctx):
    yield
"""
    namespace: dict[str, Any] = {"__name__": "wrapping"}
    exec(source, namespace)
    return namespace["gen"]


@pytest.mark.parametrize(
    "body", ["return fn(ctx)", "print(1); return fn(ctx)", "return fn(ctx, *args, **kwargs)", "return fn(ctx=ctx)"]
)
def test_a_wrapper_that_returns_a_generator_is_a_span(body: str) -> None:
    fn = wrapping(body)
    any_hook("on_before_init", until="on_after_init")(fn)
    with pytest.raises(HookSignatureError, match="wrapping:gen at on_failure has a `yield`"):
        any_hook("on_failure")(fn)


@pytest.mark.parametrize(
    "body",
    [
        "return list(fn(ctx)) and None",
        "list(fn(ctx))",
        "for _ in fn(ctx): pass",
        "return None if kwargs else fn(ctx)",
        "found = fn(ctx); return next(found)",
    ],
)
def test_a_wrapper_that_may_run_a_generator_is_taken(body: str) -> None:
    any_hook("on_before_init")(wrapping(body))
