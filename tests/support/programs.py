"""Programs of analogmed in processes of their own, without the seconds that their imports take.

Each process is a copy of one that has imported what the tests of this process have imported by the
first start. Where a program has to start from nothing, tests use ``subprocess`` instead.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from analogmed.execution.processes import imported

_CONTEXT = get_context("forkserver")
_PRELOADED = (
    "analogmed.cli.programs.train",
    "analogmed.cli.study",
    "monai",
    "torch._dynamo",  # which the first optimizer imports
)


class Started:
    """Running program, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, process: BaseProcess, folder: "tempfile.TemporaryDirectory[str]") -> None:
        self._process, self._folder, self._printed = process, folder, ("", "")

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; ``None`` while the program runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the program, if it still runs."""
        self._process.kill()
        self.communicate()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end of the program, and return what it has printed.

        Raises:
            TimeoutExpired: the program still runs after ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.is_alive():
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        folder = Path(self._folder.name)
        if folder.exists():
            self._printed = (folder / "out").read_text(), (folder / "err").read_text()
            self._folder.cleanup()
        return self._printed


def start(program: object, *words: object, cwd: object = None, **environment: str) -> Started:
    """Start a program: the name of a module, the path of a file ``.py``, or lines of code."""
    _CONTEXT.set_forkserver_preload([*imported(), *_PRELOADED])
    folder = tempfile.TemporaryDirectory()
    for name in ("out", "err"):
        Path(folder.name, name).touch()
    process = _CONTEXT.Process(
        target=_run,
        name=str(program).partition("\n")[0],
        args=(
            str(program),
            list(map(str, words)),
            str(cwd or Path.cwd()),
            folder.name,
            {**os.environ, "OMP_NUM_THREADS": "1", **environment},
        ),
    )
    process.start()
    return Started(process, folder)


def run(
    program: object, *words: object, cwd: object = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    started = start(program, *words, cwd=cwd, **environment)
    try:
        out, err = started.communicate()
    finally:
        started.kill()
    return subprocess.CompletedProcess([program, *words], started.returncode or 0, out, err)


def ranks(size: int = 2) -> list[dict[str, str]]:
    """Return the environment of each rank of a distributed program, as torchrun sets it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def processes_below(pid: int) -> list[int]:
    """Return the numbers of the children of a process and of theirs, by ``/proc``."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [below for child in children for below in (child, *processes_below(child))]


def is_running(pid: int) -> bool:
    """Return whether a process has not ended, by ``/proc``."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _run(
    program: str, words: list[str], cwd: str, folder: str, environment: dict[str, str]
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(folder, name), os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [program, *words]
    if "\n" in program:
        exec(program, {"__name__": "__main__"})
    elif program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        sys.modules.pop(program, None)  # or runpy warns that it has been imported
        runpy.run_module(program, run_name="__main__", alter_sys=True)
