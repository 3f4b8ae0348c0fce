"""The frames of other threads."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

from serve_llm_hooks_testing._virtual_time.stacks import stack_of


def test_it_is_all_of_the_frames_from_the_innermost_on() -> None:
    frame: Any = sys._getframe()
    expected = []
    while frame is not None:
        expected.append(frame)
        frame = frame.f_back
    assert stack_of(sys._getframe()) == expected
    assert stack_of(expected[-1]) == expected[-1:]
    assert stack_of(None) == []
    assert gc.isenabled()


def test_frames_of_a_thread_that_goes_on_meanwhile_can_be_read() -> None:
    over = threading.Event()

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)

    def work() -> None:
        while not over.is_set():
            deep(50)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(2000):
            stack = stack_of(sys._current_frames().get(thread.ident or 0))
            assert all(frame.f_code.co_name for frame in stack)
    finally:
        over.set()
        thread.join()
