"""Real servers on loopback for what recipes fetch, and what is small enough to be tested in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.recipes._stores import store, transfer
from tests.file_server import FileServer, file_server

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1024


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """An S3 server whose bucket is named "models"; parts are small, and nobody waits between tries."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(store, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(transfer, "PART", 256 * KIB)
    monkeypatch.setattr(transfer, "SMALL", 64 * KIB)
    with file_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
