"""A class that replaces the whole initialization, as people have it; on a fake cluster and on a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookResultError, InitializeNodeOutput

if TYPE_CHECKING:
    from .conftest import Serve

HERE = __name__

pytestmark = pytest.mark.filterwarnings("ignore:initialization_class:DeprecationWarning")


class OwnGroup:
    """Knows the machines better than the defaults do."""

    def __init__(self, make_group: Any, threads: int = 1) -> None:
        self.make_group = make_group
        self.threads = threads

    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        assert llm_config.model_id == "m"
        return InitializeNodeOutput(
            placement_group=self.make_group(2),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
            extra_init_kwargs={"max_model_len": 128},
        )


@pytest.mark.parametrize("given", [OwnGroup, f"{HERE}:OwnGroup", f"{HERE}.OwnGroup"])
def test_it_replaces_everything_but_the_engine(serve: Serve, given: Any) -> None:
    made = []

    def make_group(nodes: int) -> Any:
        made.append(serve.make_group(nodes))
        return made[-1]

    started = serve(initialization_class=given, initialization_kwargs={"make_group": make_group, "threads": 4})

    assert started.config.initialization_class is given
    assert started.output == InitializeNodeOutput(
        made[0], {"env_vars": {"OMP_NUM_THREADS": "4"}}, {"max_model_len": 128}
    )
    assert len(made) == 1
    assert dict(started.ctx.nodes) == {}
    assert [(event.hook.rpartition(":")[2], event.point) for event in started.replica] == [
        ("OwnGroup", "on_before_init"),
        ("OwnGroup.initialize", "on_custom_init"),
    ]


def test_it_is_deprecated(serve: Serve) -> None:
    with pytest.warns(DeprecationWarning, match=r"write a class with `async def on_custom_init\(self, ctx\)`") as told:
        serve(initialization_class=OwnGroup, initialization_kwargs={"make_group": serve.make_group})
    assert any(one.filename.endswith("conftest.py") for one in told)  # where the config is made


class ForgetsTheRest:
    async def initialize(self, llm_config: Any) -> dict[str, Any]:
        return {"placement_group": None}


def test_what_it_returns_is_checked(serve: Serve) -> None:
    with pytest.raises(HookResultError, match=r"ForgetsTheRest\.initialize .* returns an InitializeNodeOutput"):
        serve(initialization_class=ForgetsTheRest)
