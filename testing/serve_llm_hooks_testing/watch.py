"""What a fake run must not do to the world around it: block, leave threads behind, start a real Ray."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import RayInFakeRunError
from .frames import Place, place_of_frame, place_of_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from .clock import VirtualLoop

__all__ = ["Watch", "watching"]


class Watch:
    """What was seen during one run.

    Attributes:
        notes: what a test's author will want to know, one line each.
    """

    def __init__(self, real_sleep_limit_s: float) -> None:
        self.limit_s = real_sleep_limit_s
        self.notes: list[str] = []
        self.loop: VirtualLoop | None = None
        self.loop_thread_id: int = threading.get_ident()
        self._seen: object = None
        self._seen_s = 0.0
        self._looked_s = 0.0
        self._told: set[str] = set()
        self._started: list[tuple[threading.Thread, Place | None]] = []

    def note(self, text: str) -> None:
        """Add a line, once."""
        if text not in self.notes:
            self.notes.append(text)

    def blocked(self, place: Place | None, seconds: float) -> None:
        """A sync hook has held its thread for so many real seconds."""
        self.note(
            f"{place or 'a sync hook'} really blocks, for more than {self.limit_s:g} s of real time. In a test, let it "
            "work on something small; if it must wait, make it async and await asyncio.sleep(), which takes no time "
            "here (real_sleep_limit_s= of FakeCluster is the limit)"
        )

    def failed(self) -> None:
        """The run has failed: perhaps because the clock went on without an answer that was only slow."""
        for waiting in self.loop.given_up if self.loop is not None else ():
            self.note(
                f"{waiting}: the clock went on without an answer from a socket, a subprocess or a thread that took "
                f"more than {self.limit_s:g} s of real time, so a timeout may have fired that would not have in "
                "production. In a test, put something quick in its place (real_sleep_limit_s= of FakeCluster is the "
                "limit)"
            )

    def look(self) -> None:
        """From the watcher's thread: is the loop held up, by one call of an async hook?"""
        now_s = time.perf_counter()
        # A look that comes late says that the machine is busy, and held up the loop as well: that is not the hook's.
        since_s = min(now_s - self._looked_s, 1.5 * look_every_s(self.limit_s))
        self._looked_s = now_s
        awake = self.loop is not None and self.loop.awake_since_s is not None
        place = place_of_thread(self.loop_thread_id) if awake else None
        if place is None:
            self._seen = None
        elif self._seen is not place.call:
            self._seen, self._seen_s = place.call, 0.0
        else:
            self._seen_s += since_s
        if place is not None and self._seen_s > self.limit_s and place.hook not in self._told:
            self._told.add(place.hook)
            self.note(
                f"{place} blocks the event loop, for more than {self.limit_s:g} s of real time: while it does, no "
                "timeout fires and the replica answers nobody. Make it a plain def, or await what it waits for"
            )

    def thread_started(self, thread: threading.Thread, place: Place | None) -> None:
        """A hook (or what it calls) has started a thread."""
        self._started.append((thread, place))
        if self.loop is not None:
            self.loop.threads.append(thread)

    def end(self) -> None:
        """The run is over: what is still alive?"""
        self._seen = None
        for thread, place in self._started:
            # A thread that is on its way out is none that is left behind.
            if thread.name.startswith("asyncio_"):
                continue
            thread.join(0.05)
            if thread.is_alive():
                self.note(f"{place or 'the run'} left a thread behind: {thread.name!r} is still running")


def look_every_s(limit_s: float) -> float:
    """How often a loop is looked at that may be held up for so long."""
    return max(limit_s / 4, 0.005)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Keep watch during a run. Several at once, in several threads, are fine."""
    with _lock:
        _watches.append(watch)
        if len(_watches) == 1:
            _put_guards()
    try:
        yield
    finally:
        with _lock:
            _watches.remove(watch)
            if not _watches:
                _take_guards()
        watch.end()


_YOUNG_PER_FULL_COLLECTION = 1000

_lock = threading.Lock()
_watches: list[Watch] = []
_undo: list[Callable[[], None]] = []


def _put_guards() -> None:
    start = threading.Thread.start

    def watched_start(self: threading.Thread) -> None:
        start(self)
        # The core's own threads end by themselves, and a worker that hangs is reported as what it is: blocked.
        if not self.name.startswith("serve-llm-hooks"):
            _thread_started(self)

    # Full collections go through all that is alive, which during a run on many nodes is much and no garbage: with
    # Python's own settings they take most of its time, and the more the more nodes there are. Put off, not off.
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], max(thresholds[2], _YOUNG_PER_FULL_COLLECTION))
    _undo.append(lambda: gc.set_threshold(*thresholds))
    threading.Thread.start = watched_start  # type: ignore[method-assign]
    _undo.append(lambda: setattr(threading.Thread, "start", start))
    if "ray" in sys.modules:
        _refuse_ray(sys.modules["ray"])
    else:
        finder = _RayFinder()
        sys.meta_path.insert(0, finder)
        _undo.append(lambda: sys.meta_path.remove(finder))
    _watcher.wake()


def _take_guards() -> None:
    while _undo:
        _undo.pop()()


def _thread_started(thread: threading.Thread) -> None:
    caller = threading.get_ident()
    place = place_of_frame(sys._getframe(2))
    for watch in _watches:
        # What no hook has started, and not in the run's own thread, is somebody else's: a test runner's watchdog.
        # With several runs at once, a sync hook's thread could be of any of them; then nobody is told.
        if watch.loop_thread_id == caller or (place is not None and len(_watches) == 1):
            watch.thread_started(thread, place)


def _refuse_ray(ray: ModuleType) -> None:
    """Make ``ray.init`` refuse, which all of Ray's API goes through when it is not connected yet."""
    real = getattr(ray, "init", None)
    if real is None:
        return

    def init(*args: Any, **kwargs: Any) -> Any:
        place = place_of_frame(sys._getframe(1))
        raise RayInFakeRunError(
            f"ray.init() was called inside a fake run, by {place or 'somebody'}: no test touches a real cluster by "
            "accident. Replace what needs Ray in the test, with monkeypatch for example"
        )

    ray.init = init  # type: ignore[attr-defined]
    _undo.append(lambda: setattr(ray, "init", real))


class _RayFinder:
    """Refuses for a Ray that is imported in the middle of a run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "ray":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_refuse(module: ModuleType) -> None:
                load(module)
                _refuse_ray(module)

            spec.loader.exec_module = load_and_refuse  # type: ignore[method-assign]
        return spec


class _Watcher:
    """One thread for the process, that looks after all loops; asleep when there is none."""

    def __init__(self) -> None:
        self._work = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="serve-llm-hooks", daemon=True)
            self._thread.start()
        self._work.set()

    def _run(self) -> None:
        while True:
            self._work.wait()
            with _lock:
                watches = tuple(_watches)
                if not watches:
                    self._work.clear()
                    continue
            for watch in watches:
                watch.look()
            time.sleep(look_every_s(min(watch.limit_s for watch in watches)))


_watcher = _Watcher()
