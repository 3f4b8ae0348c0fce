"""``hook_trace``, of a Ray that is not there: which replicas answer, and which do not."""

from __future__ import annotations

import itertools
import sys
import types
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import HookTraceError

from .test_trace import GOOD, SLOW

if TYPE_CHECKING:
    from serve_llm_hooks import Trace


class Replicas:
    """The handle of a deployment, whose replicas answer in turn; an error is raised."""

    def __init__(self, *answers: Trace | Exception) -> None:
        self.answers = answers
        self.turn = itertools.cycle(answers)
        self.hook_trace = types.SimpleNamespace(remote=lambda: types.SimpleNamespace(result=self.answer))

    def answer(self, timeout_s: float) -> Trace:
        answer = next(self.turn)
        if isinstance(answer, Exception):
            raise answer
        return answer


def application(**deployments: Replicas) -> None:
    """Put a Ray in the place of the real one on which an application ``llm`` runs."""
    statuses = {
        name: types.SimpleNamespace(replica_states={"RUNNING": len(each.answers)}) for name, each in deployments.items()
    }
    status = types.SimpleNamespace(applications={"llm": types.SimpleNamespace(deployments=statuses)})
    sys.modules["ray"] = ray = types.ModuleType("ray")
    serve = types.ModuleType("ray.serve")
    vars(serve).update(status=lambda: status, get_deployment_handle=lambda name, app_name: deployments[name])
    vars(ray).update(is_initialized=lambda: True, serve=serve)


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("silent", range(3))
def test_a_replica_that_gives_no_answer_hides_none_of_the_others(silent: int, caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Trace | Exception] = [GOOD, SLOW]
    answers.insert(silent, TimeoutError("none"))
    application(ingress=Replicas(AttributeError("hook_trace")), server=Replicas(*answers), other=Replicas(GOOD))
    from serve_llm_hooks.ray import hook_trace

    found = hook_trace("llm")
    assert {name: trace.events for name, trace in found.items()} == {
        "server": GOOD.events,
        "server #2": SLOW.events,
        "other": GOOD.events,
    }
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith("application 'llm': not all have said what their hooks did: ")
    assert warning.endswith(": 2 of 3 running replicas of server: TimeoutError: none")


@pytest.mark.usefixtures("no_ray_yet")
def test_a_deployment_that_gives_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    application(server=Replicas(TimeoutError("none within 30 s")), other=Replicas(GOOD), idle=Replicas())
    from serve_llm_hooks.ray import hook_trace

    assert list(hook_trace("llm")) == ["other"]
    assert "0 of 1 running replicas of server: TimeoutError: none within 30 s" in caplog.text


@pytest.mark.usefixtures("no_ray_yet")
def test_an_application_without_hooks() -> None:
    application(ingress=Replicas(AttributeError("no hook_trace")), idle=Replicas())
    from serve_llm_hooks.ray import hook_trace

    with pytest.raises(HookTraceError, match=r"ingress: AttributeError: no hook_trace; idle has no running replica\. "):
        hook_trace("llm")
