"""Workers that wait for what works in the background: they hear its end, and never wait for a replica that is gone."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks.ray import engine_gate, key_value_store, locked_folder
from serve_llm_hooks.ray.engine_channel import Channel
from serve_llm_hooks.ray.engine_gate import Gate, wait_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def channel() -> Iterator[Channel]:
    folder = locked_folder.make_folder()
    yield Channel(folder, "start-1:")
    locked_folder.remove_folder(folder)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Put a dict in the place of Ray's key-value store."""
    held: dict[str, bytes] = {}
    kv = SimpleNamespace(
        _internal_kv_put=lambda key, value, namespace: held.__setitem__(key, value),
        _internal_kv_get=lambda key, namespace: held.get(key),
        _internal_kv_del=lambda key, namespace: held.pop(key, None),
    )
    monkeypatch.setitem(sys.modules, "ray.experimental.internal_kv", kv)
    monkeypatch.setattr(key_value_store, "is_connected", lambda: True)
    return held


def elsewhere(channel: Channel) -> Channel:
    """Return the channel as a worker on another node has it."""
    return channel._replace(folder="/there/is/no/such/folder")


class Looks:
    """Stands in for the pauses between two looks: a test says what happens in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *happens: Any) -> None:
        self._happens = list(happens)
        self.now_s = 1000.0
        clock = SimpleNamespace(sleep=self._sleep, monotonic=lambda: self.now_s)
        monkeypatch.setattr(engine_gate, "time", clock)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self._happens:
            self._happens.pop(0)()


def test_a_worker_waits_until_it_is_over(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(channel)
    seen: list[str] = []
    Looks(monkeypatch, lambda: seen.append("waits"), lambda: gate.open(""))
    assert wait_at(channel) == ""
    assert seen == ["waits"]
    assert wait_at(channel) == ""  # it stays open


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_worker_hears_why_it_has_failed(
    channel: Channel, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, is_elsewhere: bool
) -> None:
    gate = Gate(channel)
    Looks(monkeypatch, lambda: gate.open("no space left"), lambda: gate.open("cancelled"))
    assert wait_at(elsewhere(channel) if is_elsewhere else channel) == "no space left"
    gate.close()
    assert store == {}


def test_the_first_failure_counts(channel: Channel) -> None:
    gate = Gate(channel)
    gate.open("no space left")
    gate.open("")
    assert wait_at(channel) == "no space left"


@pytest.mark.fault(
    "a replica is killed while its engine's workers wait for work in the background",
    promise="the workers end at once; on other nodes after a minute without a word of it",
)
def test_a_replica_that_is_killed_leaves_no_worker_waiting(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        lock = locked_folder._locks[channel.folder]
        assert lock is not None
        os.close(lock)  # as the kernel does
        locked_folder._locks[channel.folder] = None

    Looks(monkeypatch, die)
    assert "is gone" in wait_at(channel)


def test_a_start_that_is_over_leaves_no_worker_waiting(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    Looks(monkeypatch, lambda: shutil.rmtree(channel.folder))
    assert "is gone" in wait_at(channel)


def test_a_worker_ends_with_the_process_that_has_started_it(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    Looks(monkeypatch, lambda: monkeypatch.setattr(os, "getppid", lambda: 1))
    assert wait_at(channel) == "the process that started this one has ended"


def test_elsewhere_a_worker_waits_as_long_as_the_replica_lives(
    channel: Channel, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(channel)
    looks = Looks(monkeypatch, *[gate._put] * 400, gate._closed.set)  # it is killed then
    found = wait_at(elsewhere(channel))
    assert found.endswith("is gone: it has said nothing for 60 s")
    assert looks.now_s > 1000 + 400 * 0.25 + 60


def test_elsewhere_a_worker_hears_that_the_start_is_over(
    channel: Channel, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(channel)
    Looks(monkeypatch, gate.close, lambda: gate.open(""))  # too late, and nothing comes of it
    assert wait_at(elsewhere(channel)).endswith("is gone")


def test_elsewhere_a_worker_does_not_wait_for_a_replica_that_it_never_hears(
    channel: Channel, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    Looks(monkeypatch)
    assert wait_at(elsewhere(channel)).endswith("it has said nothing yet")


def test_a_worker_that_nobody_can_tell_says_so(channel: Channel) -> None:
    assert "nobody can tell it" in wait_at(elsewhere(channel))


def test_the_replica_goes_on_counting(
    channel: Channel, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_gate, "_BEAT_S", 0.001)
    gate = Gate(channel)
    first = store[engine_gate._key(channel)]
    counted = threading.Event()
    put = gate._put

    def put_and_tell() -> None:
        put()
        counted.set()

    monkeypatch.setattr(gate, "_put", put_and_tell)
    assert counted.wait(10)
    assert store[engine_gate._key(channel)] != first
    gate.close()


def test_a_folder_is_locked_as_long_as_its_replica_lives(channel: Channel, tmp_path: Path) -> None:
    assert locked_folder.is_locked(channel.folder)
    assert not locked_folder.is_locked(str(tmp_path))
    assert not locked_folder.is_locked("/there/is/no/such/folder")
