"""``CheckNode``: refuse a node that lacks disk, memory or healthy GPUs before anything is downloaded to it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback

from . import _arguments
from ._extra import from_the_extra
from ._memory import GIB, available_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import NodeCtx


class CheckNode(RayServeLLMCallback):
    """Look at each node before its download, and end the start where one is not fit, with all that it lacks.

    Args:
        min_free_gib: free space on the disk of ``path``.
        path: where the space is needed; left out, the folder for temporary files.
        min_memory_gib: memory that can be had, within the limit of the container.
        min_shm_gib: free space in ``/dev/shm``, over which an engine's processes talk.
        min_cpus: how many CPUs this process may use.
        gpus: how many GPUs must be fit: no uncorrected memory errors, and ``min_gpu_free_gib`` of memory free.
        min_gpu_free_gib: memory that must be free on each of these.
        min_driver: the oldest driver of NVIDIA's, as in ``"550"`` or ``"550.54"``.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[CheckNode(min_free_gib=1e9)]), check=False)
        >>> run.error.node_ids
        ('node-0', 'node-1')
    """

    checks_arguments = True

    def __init__(
        self,
        *,
        min_free_gib: float = 0,
        path: str | None = None,
        min_memory_gib: float = 0,
        min_shm_gib: float = 0,
        min_cpus: float = 0,
        gpus: int = 0,
        min_gpu_free_gib: float = 0,
        min_driver: str | None = None,
    ) -> None:
        """Check the arguments."""
        least = {"free_gib": min_free_gib, "memory_gib": min_memory_gib, "shm_gib": min_shm_gib, "cpus": min_cpus}
        for name, value in {**least, "gpu_free_gib": min_gpu_free_gib}.items():
            _arguments.number(f"min_{name}", value)
        _arguments.number("gpus", gpus, whole=True)
        if min_gpu_free_gib and not gpus:
            raise ValueError("min_gpu_free_gib= says how much each of gpus= must have free: give gpus= too")
        if min_driver is not None:
            _arguments.text("min_driver", min_driver, "a version in quotes")
        if path is not None:
            _arguments.absolute("path", path, "/models")
        if not (any(least.values()) or gpus or min_driver):
            raise ValueError("it is to check nothing: give min_free_gib=, gpus= or another of its arguments")
        self.least = least
        self.path = path
        self.gpus: int = gpus
        self.min_gpu_free_gib: float = min_gpu_free_gib
        self.min_driver: tuple[int, ...] | None = None if min_driver is None else _version(min_driver)

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        """Look at this node.

        Raises:
            RuntimeError: it is not fit; the message has all that it lacks.
        """
        problems = [*self._problems(), *(self._gpu_problems() if self.gpus or self.min_driver else ())]
        if problems:
            raise RuntimeError("this node is not fit for the model: " + "; ".join(problems))

    def _problems(self) -> Iterator[str]:
        with from_the_extra():
            import psutil
        folder = Path(self.path or tempfile.gettempdir())
        while not folder.exists():  # it will be made, on the disk of what is above it
            folder = folder.parent
        look: dict[str, tuple[str, Callable[[], float]]] = {
            "free_gib": (f"GiB free for {folder}", lambda: psutil.disk_usage(str(folder)).free / GIB),
            "memory_gib": ("GiB of memory", lambda: available_memory() / GIB),
            "shm_gib": ("GiB free in /dev/shm", lambda: psutil.disk_usage("/dev/shm").free / GIB),
            "cpus": ("CPUs", lambda: float(len(os.sched_getaffinity(0)))),
        }
        for name, (what, count) in look.items():
            wanted = self.least[name]
            if wanted and (there := count()) < wanted:
                yield f"{there:.1f} {what}, and not {wanted:g}"

    def _gpu_problems(self) -> Iterator[str]:
        with from_the_extra():
            import pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            yield f"no GPU can be asked ({error}): is the driver installed, and is the container given its GPUs?"
            return
        try:
            driver = pynvml.nvmlSystemGetDriverVersion()
            if self.min_driver and _version(driver) < self.min_driver:
                yield f"the driver is {driver}, and not {'.'.join(map(str, self.min_driver))} or newer"
            count = pynvml.nvmlDeviceGetCount()
            unfit = [problem for index in range(count) if (problem := self._unfit(pynvml, index))]
            if count - len(unfit) < self.gpus:
                yield f"{count - len(unfit)} fit GPUs, and not {self.gpus}" + "".join(f", {each}" for each in unfit)
        except pynvml.NVMLError as error:
            yield f"the driver does not answer ({error})"
        finally:
            pynvml.nvmlShutdown()

    def _unfit(self, pynvml: Any, index: int) -> str:
        """Return what is wrong with a GPU; empty if nothing is."""
        kinds = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        try:
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            free = pynvml.nvmlDeviceGetMemoryInfo(device).free / GIB
            if free < self.min_gpu_free_gib:
                return f"GPU {index} has {free:.1f} GiB free"
            try:
                errors = pynvml.nvmlDeviceGetTotalEccErrors(device, *kinds)
            except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
                errors = 0  # one without ECC, or with it turned off, or of which a container may not ask
        except pynvml.NVMLError as error:  # it is lost, or must be reset; the others may do
            return f"GPU {index} does not answer ({error})"
        return f"GPU {index} has {errors} uncorrected memory errors" if errors else ""


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isdigit() for part in parts):
        raise ValueError("min_driver= is a version, as in '550.54'")
    return tuple(map(int, parts))
