"""Ray's wheels of the supported versions, from the package index, kept in the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import IN_CI

# One of each supported minor version. A new one: put it at the end, and run `pytest tests/versions`.
VERSIONS = ("2.58.1", "2.59.0", "2.60.0")

TIMEOUT_S = 600
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serve-llm-hooks" / "ray"


def ray_wheel(version: str) -> Path:
    """The wheel's file; downloaded (80 MB) when the cache does not have it.

    Always the same one, whatever machine this is: it is read, not installed. Where the index cannot be reached the
    test is skipped; in CI that is a failure.
    """
    wheel = CACHE / f"ray-{version}-cp311-cp311-manylinux2014_x86_64.whl"
    why = None if wheel.is_file() else _download(version, wheel)
    if why is not None:
        message = f"Ray {version} cannot be had from the package index: {why}"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return wheel


@cache  # where it does not work, it is tried once, and not by every test
def _download(version: str, wheel: Path) -> str | None:
    """Download a wheel; gives what went wrong."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # In the same folder, then renamed: what has the name is whole, also after an interrupted run.
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{version}-") as scratch:
        command = [sys.executable, "-m", "pip", "download", f"ray=={version}", "--no-deps", "--dest", scratch]
        command += ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]
        command += ["--quiet", "--disable-pip-version-check", "--retries=1"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_S} s"
        if done.returncode != 0:
            return (done.stderr.strip() or f"pip ended with {done.returncode}").splitlines()[-1]
        (Path(scratch) / wheel.name).replace(wheel)
    return None
