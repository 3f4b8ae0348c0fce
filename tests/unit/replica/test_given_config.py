"""Test which assignments of a hook count as changes of the config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import EngineArgumentError
from serve_llm_hooks._replica.given_config import GivenConfig

if TYPE_CHECKING:
    from collections.abc import Callable


class Array:
    """Compares as arrays do, and is copied."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as numpy's


class Plain:
    """Its copies are not equal to it."""


class Uncopied:
    def __deepcopy__(self, memo: object) -> Any:
        raise TypeError("cannot be copied")


@dataclass
class Config:
    model_id: str = "m"
    engine_kwargs: dict[str, Any] = field(
        default_factory=lambda: {
            "seed": 1, "nan": float("nan"), "array": Array(), "deep": {"a": [1]}, "plain": [Plain()],
            "uncopied": Uncopied(), "tp_size": 2,
        }
    )  # fmt: skip
    model_source: Any = "s3://models/m"
    runtime_env: dict[str, Any] | None = field(default_factory=lambda: {"env_vars": {"A": "1"}})
    placement_group_config: dict[str, Any] | None = None
    deployment_config: dict[str, Any] = field(default_factory=lambda: {"num_replicas": 1})
    accelerator_type: str | None = None
    hooks: list[Any] | None = field(default_factory=lambda: [Uncopied()])
    callback: Any = field(default_factory=Plain)
    callback_kwargs: dict[str, Any] = field(default_factory=lambda: {"object": Uncopied()})


def replace(config: Config) -> None:
    config.engine_kwargs = {**config.engine_kwargs, "seed": 2}


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "another value": (lambda config: config.engine_kwargs.update(seed=2), r"\['seed'\].*Set ctx.extra_init_kwargs"),
    "a new key": (lambda config: config.engine_kwargs.update(new=2), r"extra_init_kwargs\['new'\] instead"),
    "a key less": (lambda config: config.engine_kwargs.pop("seed"), r"\['seed'\]"),
    "in place": (lambda config: config.engine_kwargs["deep"]["a"].append(2), r"\['deep'\]"),
    "another array": (lambda config: config.engine_kwargs.update(array=Array()), r"\['array'\]"),
    "another dict": (replace, r"\['seed'\]"),
    "a parallel size": (lambda config: config.engine_kwargs.update(tp_size=4), "made for a parallel size"),
    "the source": (lambda config: setattr(config, "model_source", "/m"), "Set ctx.model_path"),
    "the id": (lambda config: setattr(config, "model_id", "other"), "the model_id of ctx.llm_config, by which its app"),
    "an environment": (lambda config: setattr(config, "runtime_env", None), "runtime_env.*Set ctx.runtime_env"),
    "a variable": (lambda config: config.runtime_env["env_vars"].update(B="2"), "runtime_env.*Set ctx.runtime_env"),
    "its group": (lambda config: setattr(config, "placement_group_config", {}), "Set ctx.placement_group"),
    "its deployment": (lambda config: config.deployment_config.update(num_replicas=2), "Write it into the config"),
    "its accelerator": (lambda config: setattr(config, "accelerator_type", "H100"), "Write it into the config"),
    "a hook": (lambda config: config.hooks.append(print), "the hooks of this start were chosen"),
    "hooks": (lambda config: setattr(config, "hooks", None), "the hooks of this start were chosen"),
    "an argument": (lambda config: config.callback_kwargs.update(a=1), "the hooks of this start were chosen"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_an_error(change: Callable[[Config], object], told: str) -> None:
    config = Config()
    given = GivenConfig(config)
    change(config)
    with pytest.raises(EngineArgumentError, match=f"model 'm': a hook at on_before_init changed .*{told}"):
        given.check("on_before_init")


def test_what_is_as_it_was_is_none() -> None:
    config = Config()
    given = GivenConfig(config)
    given.check("on_before_init")
    config.engine_kwargs = dict(config.engine_kwargs)
    config.engine_kwargs["deep"] = {"a": [1]}
    given.check("on_before_init")


def test_a_config_that_has_neither_is_left_alone() -> None:
    @dataclass
    class Small:
        model_id: str = "m"

    GivenConfig(Small()).check("on_before_init")
