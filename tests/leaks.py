"""What a server has of the machine, and that nothing of it stays: processes, descriptors, ports, memory, files."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.served import Served

# A file or two may be of a connection that is about to close.
CLOSING = 2


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition never came true"
        time.sleep(0.05)


def wait_silent(served: Served, who: str) -> str:
    """Wait until a part of the engine is told to be silent, and return how; on a busy machine another may be before."""
    answers = []

    def is_told() -> bool:
        answers.append(served.get("/ready"))
        return f"{who} has been silent for" in answers[-1].text

    wait_for(is_told)
    assert answers[-1].status_code == 503
    return str(answers[-1].json()["reason"])


def shared_memory() -> set[Path]:
    """Return what is in the machine's shared memory, but for joblib's, which this process may have used."""
    return {file for file in Path("/dev/shm").iterdir() if not file.name.startswith("sem.loky")}


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    """Whether nobody listens at a port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Leaks:
    """What there is of a server that is warm, to be compared with what there is after a fault.

    Args:
        served: the server.
        before: shared memory of the machine before the server was started.
    """

    def __init__(self, served: Served, before: set[Path]) -> None:
        self.driver, self.before = psutil.Process(served.process.pid), before
        self.processes = [self.driver, *self.driver.children(recursive=True)]
        self.ports = self._listening()
        self.num_children, self.num_fds = len(self.processes), self.driver.num_fds()
        self.scratch = self._scratch()

    def _listening(self) -> list[int]:
        found = (one for process in self.processes for one in process.net_connections("inet") if not one.raddr)
        return sorted({one.laddr.port for one in found})

    def _scratch(self) -> list[Path]:
        """Return the folders for temporary files that its processes have."""
        return [Path(process.environ()["TMPDIR"]) for process in self.processes if "TMPDIR" in process.environ()]

    def check_the_same(self) -> None:
        """Assert that the server goes on with no more than it had."""

        def same() -> bool:
            children = [self.driver, *self.driver.children(recursive=True)]
            return len(children) <= self.num_children and self.driver.num_fds() <= self.num_fds + CLOSING

        wait_for(same)
        assert shared_memory() <= self.before

    def check_nothing(self) -> None:
        """Assert that nothing is left of a server that has ended."""
        wait_for(lambda: all(map(is_gone, self.processes)))
        assert [port for port in self.ports if not is_free(port)] == []
        assert shared_memory() <= self.before
        assert [folder for folder in self.scratch if folder.name.startswith("sendnn-") and folder.exists()] == []
