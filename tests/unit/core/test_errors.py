"""Errors cross processes, and say the same on the other side."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import serve_llm_hooks
from serve_llm_hooks import (
    DownloadError,
    HookError,
    HookOrderError,
    HookResultError,
    HookTimeoutError,
    NodeInitializationError,
    NodeLostError,
    ServeLLMHooksError,
)


def hook_error(kind: type[HookError] = HookError, node_id: str = "n1") -> HookError:
    return kind(
        "it failed",
        hook="mod:fetch",
        point="on_before_node_download",
        model_id="m",
        node_id=node_id,
        remote_traceback="Traceback …\nValueError: no disk\n",
    )


def group() -> NodeInitializationError:
    return NodeInitializationError("2 nodes", [hook_error(), NodeLostError("gone", node_id="n2")])


@pytest.mark.parametrize("kind", [HookError, HookTimeoutError, HookResultError])
def test_a_hook_error_travels(kind: type[HookError]) -> None:
    error = hook_error(kind)
    error.add_note("seen in production")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "it failed"
    assert (again.hook, again.point, again.model_id, again.node_id) == (
        "mod:fetch",
        "on_before_node_download",
        "m",
        "n1",
    )
    assert again.remote_traceback == error.remote_traceback
    assert again.__notes__ == ["Traceback on node n1:\nTraceback …\nValueError: no disk", "seen in production"]


def test_a_hook_error_of_this_process_has_no_remote_traceback() -> None:
    error = HookError("it failed", hook="mod:fetch", point="on_before_init", model_id="m")
    assert not hasattr(error, "__notes__")
    assert pickle.loads(pickle.dumps(error)).__notes__ == []


@pytest.mark.parametrize("kind", [NodeLostError, DownloadError])
def test_a_node_error_travels(kind: type[NodeLostError]) -> None:
    again = pickle.loads(pickle.dumps(kind("gone", node_id="n2", remote_traceback="Traceback …")))
    assert type(again) is kind
    assert str(again) == "gone"
    assert again.node_id == "n2"
    assert again.__notes__ == ["Traceback on node n2:\nTraceback …"]


def test_a_simple_error_travels() -> None:
    assert str(pickle.loads(pickle.dumps(HookOrderError("a circle")))) == "a circle"


def test_a_group_travels_and_is_of_our_base() -> None:
    again = pickle.loads(pickle.dumps(group()))
    assert type(again) is NodeInitializationError
    assert issubclass(NodeInitializationError, ServeLLMHooksError)
    assert issubclass(NodeInitializationError, ExceptionGroup)
    assert str(again) == "2 nodes"
    assert again.node_ids == ("n1", "n2")
    assert [str(error) for error in again.exceptions] == ["it failed", "gone"]


def test_a_group_is_taken_apart_by_kind() -> None:
    seen: list[ExceptionGroup[Any]] = []
    try:
        raise group()
    except* NodeLostError as lost:
        seen.append(lost)
    except* HookError as failed:
        seen.append(failed)
    assert {type(part) for part in seen} == {NodeInitializationError}
    assert [getattr(part, "node_ids", None) for part in seen] == [("n2",), ("n1",)]
    assert [[str(error) for error in part.exceptions] for part in seen] == [["gone"], ["it failed"]]


def test_a_group_holds_errors_that_know_no_node() -> None:
    assert NodeInitializationError("1 node", [ValueError("x")]).node_ids == ("?",)


PUBLIC = [getattr(serve_llm_hooks, name) for name in dir(serve_llm_hooks)]


@pytest.mark.parametrize("kind", [each for each in PUBLIC if isinstance(each, type) and issubclass(each, Exception)])
def test_a_traceback_shows_the_path_that_users_import(kind: type[Exception]) -> None:
    assert f"{kind.__module__}.{kind.__qualname__}" == f"serve_llm_hooks.{kind.__name__}"


def test_every_error_is_public() -> None:
    from serve_llm_hooks._core import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ServeLLMHooksError)]
    assert {kind.__name__ for kind in kinds} <= set(dir(serve_llm_hooks))
