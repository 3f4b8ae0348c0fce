"""``check_config``: classes of hooks look at the config where it is made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from serve_llm_hooks import HookLoadError, HookSignatureError, RayServeLLMCallback, hook, hook_options
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serve_llm_hooks import CallbackCtx

HERE = __name__


class Quantized(RayServeLLMCallback):
    """Refuse a config whose engine loads otherwise, and one with another of its kind."""

    checks_arguments = True

    def __init__(self, bits: int = 4) -> None:
        self.bits = bits

    def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
        if llm_config.engine_kwargs.get("quantization"):
            raise ValueError("leave quantization out of engine_kwargs")
        for other in others:
            if isinstance(other, Quantized):
                raise ValueError(f"{self.bits} and {other.bits} bits: leave one out")

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


ENTRY = {"hook": f"{HERE}:Quantized"}


def refused(**config: Any) -> str:
    with pytest.raises(HookLoadError) as error:
        FakeLLMConfig("m", **config)
    return str(error.value)


@pytest.mark.parametrize(
    "fields", [{"hooks": [ENTRY]}, {"hooks": [Quantized]}, {"hooks": [Quantized()]}, {"callback": Quantized}]
)
def test_a_config_that_a_class_refuses(fields: dict[str, Any]) -> None:
    told = f"model 'm': {HERE}:Quantized refuses the config: leave quantization out of engine_kwargs"
    assert refused(**fields, engine_kwargs={"quantization": "awq"}) == told
    assert FakeCluster().run(FakeLLMConfig("m", **fields)).error is None


@pytest.mark.parametrize(
    "fields",
    [
        {"hooks": [ENTRY | {"kwargs": {"bits": 4}}, ENTRY | {"kwargs": {"bits": 8}}]},
        {"hooks": [Quantized(4), ENTRY | {"kwargs": {"bits": 8}}]},
        {"callback": Quantized, "callback_kwargs": {"bits": 4}, "hooks": [ENTRY | {"kwargs": {"bits": 8}}]},
    ],
)
def test_classes_see_each_other_wherever_the_config_names_them(fields: dict[str, Any]) -> None:
    assert "refuses the config: 4 and 8 bits: leave one out" in refused(**fields)


def test_a_class_for_another_model_is_not_asked() -> None:
    class Other(Quantized):
        @hook_options(model_id="other")
        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    @hook("on_after_init")
    def ours(ctx: CallbackCtx) -> None: ...

    FakeLLMConfig("m", hooks=[Other, ours], engine_kwargs={"quantization": "awq"})


def test_what_was_assigned_later_is_told_when_the_replica_starts() -> None:
    config = FakeLLMConfig("m", hooks=[Quantized])
    config.engine_kwargs["quantization"] = "awq"
    run = FakeCluster().run(config, check=False)
    assert "leave quantization out" in str(run.error)


def test_the_object_that_is_asked_runs_no_hook() -> None:
    class Marks(RayServeLLMCallback):
        checks_arguments = True
        marked = False

        def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
            self.marked = True

        def on_after_init(self, ctx: CallbackCtx) -> None:
            assert not self.marked

    assert FakeCluster().run(FakeLLMConfig("m", hooks=[Marks])).error is None


def test_a_check_that_would_never_be_called_is_refused_where_it_is_written() -> None:
    with pytest.raises(HookSignatureError, match=r"Early has check_config, .*: set checks_arguments = True"):

        class Early(RayServeLLMCallback):
            def check_config(self, llm_config: Any, others: Sequence[object]) -> None: ...

    with pytest.raises(HookSignatureError, match=r"Narrow.check_config\(llm_config\) does not fit .*; it is `def"):

        class Narrow(RayServeLLMCallback):
            checks_arguments = True

            def check_config(self, llm_config: Any) -> None: ...  # type: ignore[override]  # that is the mistake

    class Async:
        checks_arguments = True

        async def check_config(self, llm_config: Any, others: Sequence[object]) -> NoReturn:
            raise AssertionError("nobody awaits it")

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    class Yields:
        checks_arguments = 1  # whatever is true

        def check_config(self, llm_config: Any, others: Sequence[object]) -> Iterator[None]:
            yield

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    for each in (Async, Yields):
        with pytest.raises(HookSignatureError, match=rf"{each.__name__}.check_config is async or has a yield"):
            FakeLLMConfig("m", hooks=[each])

    class Mixin:
        def check_config(self, llm_config: Any, others: Sequence[object]) -> None: ...

    with pytest.raises(HookSignatureError, match=r"Inherits has check_config, .*: set checks_arguments = True"):

        class Inherits(Mixin, RayServeLLMCallback): ...


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("no room"), "refuses the config: no room"),
        (ValueError(), "refuses the config: ValueError"),
        (KeyError("x"), "refuses the config: KeyError: 'x'"),
        (SystemExit(3), "refuses the config: it called sys.exit(3)"),
        (GeneratorExit("odd"), "refuses the config: GeneratorExit: odd"),
    ],
)
def test_a_refusal_says_why(error: BaseException, says: str) -> None:
    class Refuses:
        checks_arguments = 1  # whatever is true

        def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
            raise error

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    with pytest.raises(HookLoadError) as caught:
        FakeLLMConfig("m", hooks=[Refuses])
    assert str(caught.value).startswith(f"model 'm': {HERE}:test_a_refusal_says_why.<locals>.Refuses ")
    assert str(caught.value).endswith(says)


def test_an_interrupt_of_the_program_is_no_refusal() -> None:
    class Interrupted:
        checks_arguments = True

        def check_config(self, llm_config: Any, others: Sequence[object]) -> None:
            raise KeyboardInterrupt

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        FakeLLMConfig("m", hooks=[Interrupted])


def leaves(*args: object, **kwargs: object) -> NoReturn:
    sys.exit("no licence")


def leaves_the_second_time(self: Any, made: list[int]) -> None:
    """Stand for a constructor that does not look at its arguments alone."""
    made.append(1)
    if len(made) > 1:
        sys.exit("no licence")


def kind(**attributes: Any) -> Any:
    """Return a class of hooks with these attributes."""
    return type("Leaves", (), {"checks_arguments": True, "on_after_init": lambda self, ctx: None} | attributes)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (kind(__init__=leaves), "Leaves cannot be made with kwargs={}: it called sys.exit('no licence')"),
        (
            {"hook": kind(__init__=leaves_the_second_time), "kwargs": {"made": []}},
            "model 'm': tests.unit.sources.test_config_checks:Leaves refuses the config: it called sys.exit('no lic",
        ),
        (kind(check_config=property(leaves)), "Leaves.check_config is no method"),
        (kind(check_config=property(leaves))(), "Leaves.check_config cannot be read: it called sys.exit('no licence')"),
        (kind(checks_arguments=property(leaves))(), "Leaves.checks_arguments cannot be read: it called sys.exit("),
        (kind(on_before_init=property(leaves))(), "Leaves.on_before_init cannot be read: it called sys.exit("),
        (kind(on_before_init=property(lambda self: 1 / 0))(), "on_before_init cannot be read: ZeroDivisionError: div"),
    ],
)
def test_a_class_whose_own_code_fails_or_leaves_is_named(entry: Any, says: str) -> None:
    with pytest.raises((HookLoadError, HookSignatureError)) as caught:
        FakeLLMConfig("m", hooks=[entry])
    assert says in str(caught.value)


def test_a_method_of_that_name_in_a_class_that_says_nothing_of_it_is_its_own() -> None:
    class Own:
        def check_config(self) -> NoReturn:
            raise AssertionError("not ours to call")

        def on_after_init(self, ctx: CallbackCtx) -> None: ...

    FakeLLMConfig("m", hooks=[Own])
