"""Phase functions, as their authors have them; on a fake cluster and on a real one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HOOK_POINTS, HookError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from .conftest import Serve

HERE = __name__

PHASES = [row.phase for row in HOOK_POINTS.values() if row.phase not in (None, "custom_initialization")]


def tokenizer_only(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    """Changes what is downloaded, and the engine's arguments."""
    if phase == "pre_download":
        return {"worker_node_download_model": "TOKENIZER_ONLY", "local_node_download_model": "NONE"}
    if phase == "pre_engine_init":
        data["extra_init_kwargs"]["enforce_eager"] = True
        return {"extra_init_kwargs": {"max_model_len": 128}}
    return None


async def tell(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    """Async: counts the phases, and tells what became of the download."""
    await asyncio.sleep(0)
    assert config.model_id == "m"
    data["phases"] = [*data.get("phases", []), phase]
    if phase == "post_download":
        return {"path": data["download_result"].path, "local": data["download_result"].is_local}
    return None


class Timer:
    """An object with state; given as a class, it is made once."""

    def __init__(self) -> None:
        self.begun_s: dict[str, float] = {}

    def __call__(self, phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
        self.begun_s[phase] = time.monotonic()
        return {"times": len(self.begun_s)}


@pytest.mark.parametrize(
    "callbacks",
    [
        [tokenizer_only, tell, Timer],
        [f"{HERE}.tokenizer_only", f"{HERE}:tell", f"{HERE}:Timer"],
        [tokenizer_only, tell, Timer()],
    ],
    ids=["as they are", "by path", "an object"],
)
def test_phases(serve: Serve, callbacks: list[Any]) -> None:
    started = serve(callbacks=callbacks)

    assert started.config.callbacks == callbacks
    assert started.ctx.custom_data == {"phases": PHASES, "times": len(PHASES), "path": "/models/m", "local": True}
    assert started.ctx.worker_node_download_model == "TOKENIZER_ONLY"
    assert started.ctx.local_node_download_model == "NONE"
    assert started.output.extra_init_kwargs == {"enforce_eager": True, "max_model_len": 128}
    assert [event.hook.rpartition(":")[2] for event in started.replica] == ["tokenizer_only", "tell", "Timer"] * len(
        PHASES
    )
    if isinstance(callbacks[2], Timer):
        assert list(callbacks[2].begun_s) == PHASES


def test_own_everything(serve: Serve) -> None:
    def take_over(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
        if phase == "pre_initialization":
            data["skip_default"] = True
        if phase == "custom_initialization":
            return {"placement_group": serve.make_group(2), "runtime_env": {"env_vars": {"A": "1"}}, "model_path": "/b"}
        return None

    started = serve(callbacks=[take_over, tell])
    assert started.ctx.custom_data["phases"] == [
        "pre_initialization",
        "custom_initialization",
        "pre_engine_init",
        "post_engine_init",
        "post_initialization",
    ]
    assert dict(started.ctx.nodes) == {}
    assert started.output.runtime_env == {"env_vars": {"A": "1"}}
    assert [event.detail for event in started.replica if event.outcome == "vetoed"] == [
        "test_own_everything.<locals>.take_over set skip_default"
    ]


def another_group(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    return {"runtime_env": ["A=1"]} if phase == "post_download" else None


def test_a_wrong_value_is_told_where_it_is_given(serve: Serve) -> None:
    with pytest.raises(HookError, match=r"another_group failed at on_after_download .*ctx\.runtime_env is a dict with"):
        serve(callbacks=[another_group])
