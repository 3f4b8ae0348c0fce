"""Send hooks to the engine's processes, and read their reports.

There, by the environment, which every process of an engine inherits. Back, by files in a folder of the replica's node,
which outlive a process that dies, or, from other nodes, by Ray's key-value store. The environment of a replica is shown
by no API of Ray's, and the folder is the user's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.errors import HookLoadError
from .._core.messages import one_line
from .._core.named_tuple import NamedTuple
from .._process.payload import PLUGIN, to_text
from . import key_value_store
from .locked_folder import make_folder, remove_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._process.task import ProcessReport, ProcessTask

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

VARIABLE = "SERVE_LLM_HOOKS_ENGINE"  # as in serve_llm_hooks_engine, which imports nothing of this
GROUP = "vllm.general_plugins"


class Channel(NamedTuple):
    """The way back to the replica.

    Attributes:
        folder: the folder for processes of its node.
        key: what begins the keys of processes on other nodes.
    """

    folder: str
    key: str

    def tell(self, report: ProcessReport) -> None:
        """Tell the replica; the last report of a process counts."""
        data = pickle.dumps(report)
        if os.path.isdir(self.folder):
            file = Path(self.folder, str(report.process_id))
            part = file.with_suffix(".part")
            part.write_bytes(data)
            part.replace(file)  # whole, or not at all
        elif key_value_store.is_connected():
            key_value_store.put(f"{self.key}{report.node.node_id}:{report.process_id}", data)
        else:
            logger.warning(
                "the replica of the engine cannot be told of the hooks in %s: its folder %s is not here, and this "
                "process is not connected to Ray",
                report.process.name,
                self.folder,
            )

    def reports(self) -> Iterator[ProcessReport]:
        """Yield what processes have told."""
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(Path(self.folder).iterdir()):
                if file.name.isdigit():  # not a part of one, nor the lock
                    yield pickle.loads(file.read_bytes())
        if key_value_store.is_connected():
            for key in key_value_store.keys(self.key):
                data = key_value_store.get(key)
                key_value_store.delete(key)
                if data:
                    yield pickle.loads(data)


def open_channel(task: ProcessTask) -> Channel:
    """Put a task where the engine's processes find it.

    Raises:
        HookLoadError: vLLM will not find our plugin.
        HookPickleError: the task is too large.
    """
    if not any(point.name == PLUGIN for point in entry_points(group=GROUP)):
        raise HookLoadError(
            f"model {task.model_id!r}: vLLM cannot find the plugin {PLUGIN!r}, with which hooks at "
            "on_engine_process_start run: serve-llm-hooks is not installed here with its entry points, or by an older "
            "version of it. Install it (pip install serve-llm-hooks) on every node; shipping its code does not do."
        )
    folder = make_folder()
    channel = Channel(folder, f"{os.path.basename(folder)}-{os.urandom(8).hex()}:")
    try:
        os.environ[VARIABLE] = to_text(task, *channel)
    except BaseException:
        remove_folder(folder)
        raise
    return channel


def close_channel(channel: Channel) -> list[ProcessReport]:
    """Take the task away, and return what processes have told. Never fails."""
    os.environ.pop(VARIABLE, None)
    found: list[ProcessReport] = []
    try:
        found.extend(channel.reports())
    except Exception as error:  # the processes that are missing are told of
        logger.warning("what hooks in the engine's processes did cannot be read: %s", one_line(error))
    remove_folder(channel.folder)
    return found
