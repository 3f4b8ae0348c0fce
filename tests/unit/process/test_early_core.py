"""A process that was begun early is what ``multiprocessing`` would have spawned, or is not used."""

from __future__ import annotations

import errno
import gc
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks.ray import early_core, early_core_process, prewarm
from serve_llm_hooks.ray.early_core import EarlyCore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPAWN = multiprocessing.get_context("spawn")
LIMIT_S = 60
SPAWNV = util.spawnv_passfds


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Return what is said, as it grows."""
    caplog.set_level(logging.DEBUG, logger="serve_llm_hooks")
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return True

    caplog.handler.addFilter(keep)
    yield said
    caplog.handler.removeFilter(keep)


@pytest.fixture
def begin_early(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EarlyCore]]:
    """Return what begins a process early, which imports little."""
    begun: list[EarlyCore] = []

    def begin(*modules: str) -> EarlyCore:
        monkeypatch.setattr(early_core, "MODULES", modules or ("colorsys",))
        begun.append(EarlyCore())
        return begun[-1]

    try:
        yield begin
    finally:
        for early in begun:
            early.throw_away("the test is over")
        assert util.spawnv_passfds is SPAWNV


def tell(to: Connection) -> None:
    """Say what a process sees of itself."""
    import __main__

    files = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    assert parent is not None
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    seen = {
        "environment": dict(os.environ),
        "sys.path": sys.path,
        "sys.argv": sys.argv,
        "sys.flags": list(sys.flags),
        "executable": sys.executable,
        "main": [__main__.__name__, getattr(__main__, "__file__", None), sys.modules["__main__"] is __main__],
        "process": [process.name, process.daemon, process.authkey.hex()],
        "parents": [parent.name, parent.pid, os.getppid(), os.getpgid(0), os.getsid(0)],
        "inherited": [status[name] for name in ("Umask", "Cpus_allowed", "SigIgn", "SigBlk", "Groups")],
        "signals": sorted((number, repr(signal.getsignal(number))) for number in signal.valid_signals()),
        "limits": Path("/proc/self/limits").read_text(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "working directory": os.getcwd(),
        "collector": [gc.isenabled(), gc.get_threshold()],
        "threads": threading.active_count(),
        "stdin": os.fstat(0).st_rdev,
        "files": sorted((os.readlink(f"/proc/self/fd/{fd}").partition(":")[0], os.get_inheritable(fd)) for fd in files),
    }
    to.send((os.getpid(), json.loads(json.dumps(seen))))


def told_by(name: str, does: Callable[[Connection], None] = tell) -> tuple[int, Any]:
    """Spawn a process; return what it tells."""
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=does, args=(there,), name=name)
    process.start()
    there.close()
    try:
        assert here.poll(LIMIT_S)
        told: tuple[int, Any] = here.recv()
        assert told[0] == process.pid
        return told
    finally:
        process.join(LIMIT_S)
        assert process.exitcode == 0


def test_it_becomes_the_core_and_sees_all_that_a_spawned_one_sees(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = begin_early()
    monkeypatch.setenv("VLLM_MADE_UP", "set since")
    monkeypatch.setenv("SERVE_LLM_HOOKS_ENGINE_STEPS", "/nowhere")
    _, spawned = told_by("EngineCor")
    pid = early._pid
    told_pid, seen = told_by("EngineCore")
    assert told_pid == pid
    spawned["process"][0] = "EngineCore"
    assert seen == spawned
    assert seen["environment"].items() >= os.environ.items()


def test_a_variable_that_is_no_longer_set_is_not_set_there(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_MADE_UP", "1")
    early = begin_early()
    monkeypatch.delenv("VLLM_MADE_UP")
    pid = early._pid
    told_pid, seen = told_by("EngineCore_DP0")
    assert told_pid == pid
    assert "VLLM_MADE_UP" not in seen["environment"]


def test_only_one_core_gets_it_and_no_other_process_does(begin_early: Callable[..., EarlyCore]) -> None:
    pid = begin_early()._pid
    assert told_by("Worker")[0] != pid
    assert told_by("EngineCore_DP0")[0] == pid
    assert told_by("EngineCore_DP1")[0] != pid


def wait_until(true: Callable[[], Any]) -> Any:
    """Ask again and again until the answer is true; return it, or what it is when the time is over."""
    deadline_s = time.monotonic() + LIMIT_S
    while not (answer := true()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return answer


def wait_for_ever(to: Connection) -> None:
    to.send((os.getpid(), None))
    threading.Event().wait()


def exit_with_3(to: Connection) -> None:
    sys.exit(3)


def fails(to: Connection) -> None:
    raise LookupError("no such model")


@pytest.mark.parametrize(("does", "code"), [(exit_with_3, 3), (fails, 1)])
def test_how_it_ends_is_seen(
    begin_early: Callable[..., EarlyCore], does: Callable[[Connection], None], code: int
) -> None:
    _, there = SPAWN.Pipe(duplex=False)
    pid = begin_early()._pid
    process = SPAWN.Process(target=does, args=(there,), name="EngineCore")
    process.start()
    assert wait([process.sentinel], LIMIT_S) == [process.sentinel]
    process.join(LIMIT_S)
    assert (process.pid, process.exitcode) == (pid, code)


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_it_can_be_ended_by_its_parent(begin_early: Callable[..., EarlyCore], how: str) -> None:
    begin_early()
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=wait_for_ever, args=(there,), name="EngineCore")
    process.start()
    assert here.poll(LIMIT_S)
    getattr(process, how)()
    process.join(LIMIT_S)
    assert process.exitcode == {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}[how]


# -- when it is not used -----------------------------------------------------------------------------------------------


def change_variable(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setenv(name, "set since")


def change_path(patch: pytest.MonkeyPatch, at: str) -> None:
    patch.syspath_prepend(at)


def add_to_path(patch: pytest.MonkeyPatch, at: str) -> None:
    patch.setattr(sys, "path", [*sys.path, at])


def change_folder(patch: pytest.MonkeyPatch, at: str) -> None:
    patch.chdir(at)


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        (change_variable, "OMP_NUM_THREADS", "OMP_NUM_THREADS has changed since"),
        (change_variable, "LD_PRELOAD_OF_MINE", "LD_PRELOAD_OF_MINE has changed since"),
        (change_variable, "PYTHONWARNINGS", "PYTHONWARNINGS has changed since"),
        (change_path, "/", "sys.path has changed since"),
        (add_to_path, "/", "sys.path has changed since"),
        (change_folder, "/", "the replica's working directory has changed since"),
    ],
)
def test_where_it_would_differ_from_a_spawned_one_the_core_is_spawned(
    begin_early: Callable[..., EarlyCore],
    lines: list[str],
    change: Callable[[pytest.MonkeyPatch, str], None],
    to: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = begin_early()._pid
    change(monkeypatch, to)
    told_pid, seen = told_by("EngineCore")
    assert told_pid != pid
    assert seen["environment"].items() >= os.environ.items()
    assert lines == [f"the engine's core that was begun early is not used: {says}"]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("import os\nseen = os.environ.get('VLLM_READ')\n", "VLLM_READ has changed since"),
        (
            "import multiprocessing\nLOCK = multiprocessing.get_context('spawn').Lock()\n",
            "its imports have begun a resource tracker",
        ),
    ],
)
def test_what_its_imports_have_read_or_made_counts(
    begin_early: Callable[..., EarlyCore],
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: str,
    says: str,
) -> None:
    (tmp_path / "reads_or_locks.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    begin_early("reads_or_locks")
    monkeypatch.setenv("VLLM_READ", "set since")
    told_by("EngineCore")
    assert lines == [f"the engine's core that was begun early is not used: {says}"]


def test_a_limit_that_was_changed_counts(begin_early: Callable[..., EarlyCore], lines: list[str]) -> None:
    begin_early()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        told_by("EngineCore")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines == ["the engine's core that was begun early is not used: the replica's limits has changed since"]


def test_another_interpreter_counts(begin_early: Callable[..., EarlyCore], lines: list[str], tmp_path: Path) -> None:
    begin_early()
    other = tmp_path / "python"  # as vLLM's own wrapper for numactl
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(str(other))
    try:
        told_by("EngineCore")
    finally:
        multiprocessing.set_executable(before)
    says = "the core is spawned with another interpreter, or other flags"
    assert lines == [f"the engine's core that was begun early is not used: {says}"]


def test_one_that_has_died_is_not_missed(begin_early: Callable[..., EarlyCore], lines: list[str]) -> None:
    pid = begin_early()._pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    told_by("EngineCore")
    (line,) = lines
    assert line.startswith("the engine's core that was begun early is not used: ")


def test_one_that_imports_for_too_long_is_not_waited_for(
    begin_early: Callable[..., EarlyCore], lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(early_core_process, "_LIMIT_S", 0.1)
    pid = begin_early("hangs")._pid
    told_by("EngineCore")
    assert lines == ["the engine's core that was begun early is not used: its imports take too long"]
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_could_not_import_all_of_it_is_not_used(
    begin_early: Callable[..., EarlyCore], lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """A module that is half imported is another one when it is imported again; vLLM tells what is wrong with it."""
    begin_early("colorsys", "no_such_module_of_vllm")
    told_by("EngineCore")
    says = "ModuleNotFoundError: No module named 'no_such_module_of_vllm'"
    assert lines == [f"the engine's core that was begun early is not used: {says}"]
    assert capfd.readouterr().err == ""


def test_its_output_goes_where_the_replica_s_goes(
    begin_early: Callable[..., EarlyCore], lines: list[str], tmp_path: Path
) -> None:
    begin_early()
    before = os.dup(2)
    with open(tmp_path / "log", "w") as file:
        os.dup2(file.fileno(), 2)
    try:
        told_by("EngineCore")
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert lines == ["the engine's core that was begun early is not used: the replica's stderr has changed since"]


def test_a_variable_that_was_set_past_python_counts(
    begin_early: Callable[..., EarlyCore], lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    begin_early()
    os.putenv("OMP_NUM_THREADS", "3")
    try:
        told_by("EngineCore")
    finally:
        os.unsetenv("OMP_NUM_THREADS")
    assert lines == ["the engine's core that was begun early is not used: OMP_NUM_THREADS has changed since"]
    assert [record.levelname for record in caplog.records] == ["INFO"]  # the start takes longer: somebody may mend it


@pytest.mark.parametrize("has_libraries", [False, True])
@pytest.mark.parametrize("as_folder", ["{}", "/nowhere:"])
def test_a_folder_for_libraries_counts_if_there_are_some(
    begin_early: Callable[..., EarlyCore],
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    as_folder: str,
    has_libraries: bool,
) -> None:
    """OpenCV adds a folder that is not there, and an empty entry, which is the working directory."""
    if has_libraries:
        (tmp_path / "libsome.so.3").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    pid = begin_early()._pid
    monkeypatch.setenv("LD_LIBRARY_PATH", as_folder.format(tmp_path))
    told_pid, seen = told_by("EngineCore")
    assert (told_pid == pid) is not has_libraries
    assert seen["environment"]["LD_LIBRARY_PATH"] == os.environ["LD_LIBRARY_PATH"]
    says = "the engine's core that was begun early is not used: LD_LIBRARY_PATH has changed since"
    assert lines == ([says] if has_libraries else [])


def test_libraries_that_its_imports_would_have_the_next_process_find_count(
    begin_early: Callable[..., EarlyCore], lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As vLLM does for CUDA's forward compatibility: the linker looks at the variable when a process begins."""
    (tmp_path / "libcuda.so.1").touch()
    (tmp_path / "compat.py").write_text(f"import os\nos.environ['LD_LIBRARY_PATH'] = {str(tmp_path)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    begin_early("compat")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))  # the replica has imported it too
    told_by("EngineCore")
    assert lines == ["the engine's core that was begun early is not used: LD_LIBRARY_PATH has changed since"]


def test_variables_that_cannot_be_set_are_left_as_they_are(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env =odd python …` gives a process one without a name."""
    program = (
        "import multiprocessing, os, sys; from tests.unit.process import test_early_core as t\n"
        "early = t.EarlyCore(); pid = early._pid; assert t.told_by('EngineCore')[0] == pid"
    )
    path = os.pathsep.join(sys.path)
    command = [
        "env",
        "=odd",
        sys.executable,
        "-c",
        f"from serve_llm_hooks.ray import early_core\nearly_core.MODULES = ()\n{program}",
    ]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=LIMIT_S)


def module_that_forks(folder: Path) -> str:
    """Write a module whose import leaves a process that holds all that its importer holds; return its name."""
    (folder / "forks.py").write_text("import os, time\nif not os.fork():\n    time.sleep(60)\n    os._exit(0)\n")
    return "forks"


def test_nothing_waits_for_what_its_imports_have_begun(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    pid = begin_early(module_that_forks(tmp_path))._pid
    assert pid is not None
    children = wait_until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    try:
        begun_s = time.monotonic()
        assert told_by("EngineCore")[0] == pid
        assert time.monotonic() - begun_s < LIMIT_S / 2
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)


REPLICA = """
import sys, time
from serve_llm_hooks.ray import early_core
early_core.MODULES = ["colorsys", *sys.argv[1:]]
print(early_core.EarlyCore()._pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("imports", ["", "hangs"])
def test_it_ends_with_its_replica(imports: str, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-c", REPLICA, *imports.split()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as replica:
        assert replica.stdout is not None
        pid = int(replica.stdout.readline())
        assert wait_until(lambda: "State:\tS" in Path(f"/proc/{pid}/status").read_text())
        replica.kill()
    assert wait_until(
        lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    )


def test_one_that_is_interrupted_while_it_is_asked_ends(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = begin_early()._pid

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(early_core_process, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        told_by("EngineCore")
    assert not Path(f"/proc/{pid}").exists()


def test_what_its_imports_add_to_the_path_may_be_there_or_not(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "adds.py").write_text("import sys\nsys.path.insert(0, sys.path[-1])\nsys.path.append('/vendored')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pid = begin_early("adds")._pid
    monkeypatch.setattr(sys, "path", [*sys.path, "/vendored"])
    told_pid, seen = told_by("EngineCore")
    assert told_pid == pid
    assert seen["sys.path"] == sys.path


@pytest.mark.parametrize("does", ["raise SystemExit('bye')", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)"])
def test_an_import_that_ends_it_says_nothing(
    begin_early: Callable[..., EarlyCore],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    does: str,
) -> None:
    (tmp_path / "ends.py").write_text(does)
    monkeypatch.syspath_prepend(str(tmp_path))
    pid = begin_early("ends")._pid
    assert told_by("EngineCore")[0] != pid
    assert capfd.readouterr().err == ""


def test_what_cannot_be_begun_leaves_nothing(
    begin_early: Callable[..., EarlyCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, children = os.listdir("/proc/self/fd"), Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()

    def no_more(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        begin_early()
    assert os.listdir("/proc/self/fd") == files
    assert Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text() == children
    assert util.spawnv_passfds is SPAWNV


def test_it_ends_with_a_start_that_does_not_need_it(begin_early: Callable[..., EarlyCore], lines: list[str]) -> None:
    early = begin_early()
    pid = early._pid
    early.throw_away("the start is over")
    assert not Path(f"/proc/{pid}").exists()
    assert lines == ["the engine's core that was begun early is not used: the start is over"]
    early.throw_away("once more")
    assert len(lines) == 1


# -- when it is begun --------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what has been begun, in what seems to be a replica."""
    made: list[object] = []

    def make() -> object:
        made.append("core")
        return made

    monkeypatch.setattr(prewarm, "replica_name", lambda: "SERVE_REPLICA::llm#LLMServer:m#1")
    monkeypatch.setattr(early_core, "EarlyCore", make)
    monkeypatch.setattr(early_core, "_begun", None)
    return made


def test_a_replica_begins_one(begun: list[object]) -> None:
    early_core.begin()
    early_core.begin()
    assert begun == ["core"]


@pytest.mark.parametrize(("name", "value"), [("SERVE_LLM_HOOKS_PREWARM", "0"), ("RAYLLM_VLLM_ENGINE_CLS", "my.Engine")])
def test_none_where_it_is_switched_off_or_the_engine_is_another(
    begun: list[object], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    early_core.begin()
    assert begun == []


def test_another_replica_that_imports_a_server_begins_none_before_a_start(
    begun: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica of any class may import a module that makes an app."""
    monkeypatch.setattr(prewarm, "replica_name", lambda: "SERVE_REPLICA::an:app#of:one#Gateway#1")
    early_core.begin()
    assert begun == []
    early_core.begin(in_start=True)
    assert begun == ["core"]


def test_none_in_other_processes(begun: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prewarm, "replica_name", lambda: "")
    early_core.begin()
    assert begun == []


@pytest.mark.parametrize(("cores", "at_once"), [(2.0, False), (4.0, True)])
def test_on_few_cores_the_prewarm_goes_first(
    begun: list[object], cores: float, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_core, "_cores", lambda: cores)
    monkeypatch.setattr(prewarm, "is_at_work", lambda: True)
    early_core.begin()
    assert bool(begun) is at_once
    monkeypatch.setattr(prewarm, "is_at_work", lambda: False)
    early_core.begin()
    assert begun == ["core"]


def test_a_start_goes_on_where_none_can_be_begun(
    begun: list[object], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process() -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(early_core, "EarlyCore", no_process)
    early_core.begin()
    assert lines == [
        "the engine's core cannot be begun early: BlockingIOError: [Errno 11] Resource temporarily unavailable"
    ]
