"""Set up for recipes a vLLM that does nothing, a model's folder, a webhook, a store on loopback."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks.recipes._stores import store, transfer
from tests.file_server import FileServer, file_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB = 1024

# As much of vLLM as the recipes use. A folder on the path, and not a module of the test's: other processes find it too.
REGISTRY = """
registered = []

class ModelRegistry:
    @staticmethod
    def register_model(arch, path):
        registered.append((arch, path))
"""
PARSERS = """
from . import registered

class {kind}: ...

class {kind}Manager:
    @staticmethod
    def register_module(name, force, module):
        if not issubclass(module, {kind}):
            raise TypeError("module must be subclass of {kind}")
        registered.append((name, module.__name__))
"""
OURS = """
from vllm.reasoning import ReasoningParser
from vllm.tool_parsers import ToolParser

class OurModel: ...
class OurTools(ToolParser): ...
class OurThoughts(ReasoningParser): ...
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a small vLLM and a module ``our_classes`` of a user's on the path; return that vLLM."""
    folder = tmp_path / "stand-in"
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm" / "__init__.py").write_text(REGISTRY)
    (folder / "vllm" / "tool_parsers.py").write_text(PARSERS.format(kind="ToolParser"))
    (folder / "vllm" / "reasoning.py").write_text(PARSERS.format(kind="ReasoningParser"))
    (folder / "our_classes.py").write_text(OURS)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("vllm", "our_classes"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder)
    import vllm

    yield vllm
    for name in list(sys.modules):
        if name.partition(".")[0] in ("vllm", "our_classes"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, as far as recipes look."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    return folder


class Webhook:
    """A server on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                webhook.authorizations.append(self.headers["Authorization"])
                self.send_response(webhook.status)
                for name, value in webhook.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that is there."""
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """An S3 server whose bucket is named "models"; parts are small, and nobody waits between tries."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)  # another test's server, and it would be preferred
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(store, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(transfer, "PART", 256 * KIB)
    monkeypatch.setattr(transfer, "SMALL", 64 * KIB)
    with file_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
