"""Every way to write a callback, and all of them in one config: both wings must tell the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import styles as s
from .scenario import BUCKET, Model, Scenario
from .scenarios import NODES, failed, ran, went_well
from .test_contract import real_wing  # noqa: F401  # a fixture
from .wings import run_fake

if TYPE_CHECKING:
    from collections.abc import Callable

    from .real_wing import RealWing
    from .told import Told

HERE = "tests.contract.styles"
SCENARIOS: dict[str, Scenario] = {}

pytestmark = pytest.mark.filterwarnings("ignore:initialization_class:DeprecationWarning")


def styled(source: str | None = BUCKET, hooks: Any = (), **fields: Any) -> Callable[..., None]:
    """Make the decorated function, which says what must hold, a scenario."""

    def decorate(holds: Callable[[Told], None]) -> None:
        name = holds.__name__
        model = Model(list(hooks), source=source, fields=fields)
        SCENARIOS[name] = Scenario(name, [model], lambda told: holds(told["m"]))

    return decorate


def notes(told: Told, node: str | None = None) -> Any:
    return (told["ctx"] if node is None else told["nodes"][node])["custom data"]["notes"]


@styled(callback=s.Lean, callback_kwargs={"name": "mine"})
def a_class_has_one_object_per_process(told: Told) -> None:
    went_well(told)
    assert notes(told) == ["mine 1", "mine 2"]
    for node in NODES:
        assert notes(told, node) == ["mine 1", "mine 1", "mine 2"]
    assert [told["nodes"][node]["skipped"] for node in NODES] == [None, "mine has it", "mine has it"]


@styled(callback=f"{HERE}:Lean", source=None)
def a_class_by_its_path(told: Told) -> None:
    went_well(told)
    assert notes(told) == ["lean 1", "lean 2"]


@styled(callbacks=[s.phase_function, f"{HERE}.Counts"])
def phase_functions_see_every_phase(told: Told) -> None:
    went_well(told)
    assert told["ctx"]["custom data"]["phases"] == [
        "pre_initialization", "pre_download", "post_download", "post_placement_group", "pre_engine_init",
        "post_engine_init", "post_initialization",
    ]  # fmt: skip
    assert told["ctx"]["custom data"]["result"] == [True, "<downloaded>"]
    assert told["output"]["extra init kwargs"] == {"enforce_eager": True, "max_model_len": 128}
    assert {node["mode"] for node in told["nodes"].values()} == {"MODEL_AND_TOKENIZER"}


@styled(callbacks=[s.skips, s.Counts], callback=s.Lean)
def skip_default_skips_the_defaults_for_all(told: Told) -> None:
    went_well(told)
    assert told["nodes"] == {}
    assert told["ctx"]["custom data"]["skipped"]
    assert told["output"]["group"] == ["node-2"]
    assert ran(told)[:4] == [
        f"{HERE}:{name}" for name in ("Lean.on_before_init", "skips", "Counts", "Lean.on_custom_init")
    ]


@styled(
    hooks=[
        s.first.here,
        s.second.here,
        s.first.on_node,
        *({"hook": s.second.on_node, "kwargs": {"secret": s.Secret(value)}} for value in ("a", "b", "a")),
    ]
)
def bound_methods_travel_with_their_objects_and_secrets_are_told_apart(told: Told) -> None:
    went_well(told)
    assert notes(told) == ["first", "second"]
    assert notes(told, "node-1") == ["first", "second", "first ", "second a", "second b"]


@styled(callbacks=[s.too_late])
def skip_default_too_late_is_an_error(told: Told) -> None:
    failed(told, "HookError", cause="ValueError", point="on_after_download")


@styled(callbacks=[s.returns_a_list])
def what_cannot_be_merged_is_an_error(told: Told) -> None:
    failed(told, "HookResultError", point="on_before_init")


@styled(initialization_class=s.Replaces)
def replaces_everything(told: Told) -> None:
    went_well(told)
    assert told["output"]["group"] == ["node-1"]
    assert told["output"]["extra init kwargs"] == {"max_model_len": 64}
    assert told["nodes"] == {}


@styled(
    hooks=[s.functions, {"hook": f"{HERE}:Lean", "kwargs": {"name": "in hooks"}}],
    callbacks=[s.phase_function],
    callback=s.Lean,
)
def all_of_them_have_one_order(told: Told) -> None:
    went_well(told)
    assert notes(told) == [
        "lean 1", "pre_initialization", "function", "in hooks 1", "post_placement_group", "lean 2", "in hooks 2",
    ]  # fmt: skip
    assert notes(told, "node-1")[4:] == ["function on the node", "lean 1", "in hooks 1", "lean 2", "in hooks 2"]
    assert told["nodes"]["node-1"]["skipped"] == "lean has it"


@styled(
    hooks=[s.functions],
    callbacks=[s.phase_function],
    callback=s.Lean,
    initialization_class=f"{HERE}:Replaces",
)
def all_of_them_with_the_defaults_replaced(told: Told) -> None:
    went_well(told)
    assert notes(told) == ["lean 1", "pre_initialization", "function", "lean 2", "custom_initialization", "lean 3"]
    assert told["output"]["group"] == ["node-2"]  # the class comes after the one that replaces everything
    assert told["output"]["extra init kwargs"] == {"max_model_len": 128, "enforce_eager": True}


EVERY = [pytest.param(scenario, id=name) for name, scenario in SCENARIOS.items()]


@pytest.mark.parametrize("scenario", EVERY)
def test_fake(scenario: Scenario) -> None:
    scenario.holds(run_fake(scenario))


@pytest.mark.ray
@pytest.mark.parametrize("scenario", EVERY)
def test_real(scenario: Scenario, real_wing: RealWing) -> None:  # noqa: F811  # the fixture
    told = real_wing.run(scenario)
    assert told == run_fake(scenario)
    scenario.holds(told)
