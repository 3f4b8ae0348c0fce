"""What importing the package costs, and what it offers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import serve_llm_hooks


def test_a_bare_import_is_cheap() -> None:
    script = "import json, sys, serve_llm_hooks; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert not imported & {"ray", "torch", "vllm", "pydantic", "asyncio", "cloudpickle", "logging"}
    assert {name for name in imported if name.startswith("serve_llm_hooks.")} == {
        "serve_llm_hooks.points",
        "serve_llm_hooks.registry",
    }


@pytest.mark.parametrize("name", serve_llm_hooks.__all__)
def test_all_that_is_offered_is_there(name: str) -> None:
    assert getattr(serve_llm_hooks, name) is not None


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serve_llm_hooks' has no attribute 'hok'"):
        _ = serve_llm_hooks.hok  # type: ignore[attr-defined]  # the checker knows it too
