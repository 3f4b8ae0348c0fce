"""The author's own frames of a traceback, and those of Python, of libraries and of this one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import serve_llm_hooks
import serve_llm_hooks_testing
from serve_llm_hooks._core.frames import authors_frames

PYTHONS = os.path.dirname(os.__file__)
INSTALLED = f"{PYTHONS}/site-packages"  # as in an image without a virtual environment
OURS = str(Path(serve_llm_hooks.__file__).parent)


@pytest.mark.parametrize(
    "file",
    [
        "/app/hooks.py",
        "<stdin>",
        f"{INSTALLED}/acme/hooks.py",
        f"{INSTALLED}/acme_hooks.py",
        f"{INSTALLED}/ray_hooks/load.py",
        "/usr/lib/python3/dist-packages/acme/hooks.py",
        f"{OURS}_acme/hooks.py",
        f"{PYTHONS}-hooks/hooks.py",
    ],
)
def test_these_are_the_authors(file: str) -> None:
    assert authors_frames([(file, 1)]) == [1]


@pytest.mark.parametrize(
    "file",
    [
        json.__file__,
        "<frozen importlib._bootstrap>",
        f"{OURS}/_core/hook.py",
        serve_llm_hooks_testing.__file__,
        f"{INSTALLED}/serve_llm_hooks/_core/hook.py",
        f"{INSTALLED}/serve_llm_hooks_testing/cluster.py",
        f"{INSTALLED}/ray/serve/api.py",
        "/opt/venv/lib/python3.12/site-packages/vllm/engine/llm_engine.py",
    ],
)
def test_these_are_not(file: str) -> None:
    assert authors_frames([(file, 1)]) == []


def test_a_library_that_the_author_calls_is_not_the_authors() -> None:
    called = [("/app/hooks.py", 1), (f"{INSTALLED}/boto3/session.py", 2), (f"{INSTALLED}/botocore/client.py", 3)]
    assert authors_frames(called) == [1]
    assert authors_frames(called[1:]) == [2, 3]
