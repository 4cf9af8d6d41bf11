"""The process that encodes images, seen from its engine."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.multimodal.wire import (
    Cancel,
    Dropped,
    Encode,
    Encoded,
    EncoderSpec,
    Failed,
    Opened,
    Unusable,
    Wire,
    new_wire,
)

if TYPE_CHECKING:
    import torch

WORKER = "sendnn_pipeline.multimodal.worker"
OPEN_SECONDS = 300.0
# What tells libraries that they are one of several ranks: this process is nobody's.
OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rows:
    """Of a picture that was encoded."""

    digest: bytes
    rows: "torch.Tensor"


@dataclass(frozen=True)
class Ended:
    """The process is gone."""

    how: str


News = Opened | Unusable | Rows | Dropped | Failed | Ended


class EncoderProcess:
    """A process that was started, and its wire. Not for several threads, but for its own.

    Args:
        process: that encodes.
        wire: to it.
        notify: called in another thread when there is news.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", wire: Wire, notify: Callable[[], None]) -> None:
        self._process, self._wire, self._notify = process, wire, notify
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, name="images", daemon=True)

    def listen(self) -> None:
        """Begin to hear what it says."""
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_until_open(self, seconds: float = OPEN_SECONDS) -> None:
        """Wait until it can encode.

        Raises:
            EngineError: it cannot.
        """
        try:
            news = self._news.get(timeout=seconds)
        except queue.Empty:
            news = Ended(f"was not ready within {seconds:g} s")
        if isinstance(news, Unusable):
            error = EngineError(news.message, hint=news.hint)
            error.exit_code = news.exit_code
            raise error
        if isinstance(news, Ended):
            raise EngineError(f"the process that encodes images {news.how}", hint="the lines above may say why")

    def news(self) -> list[News]:
        """Return what came since the last call, in its order."""
        found = []
        while not self._news.empty():
            found.append(self._news.get())
        return found

    def encode(self, digest: bytes, data: bytes) -> None:
        """Have a picture encoded; to a process that is gone it is lost."""
        from sendnn_pipeline.multimodal.shared_rows import memory_name, write_bytes

        memory = write_bytes(memory_name(digest), data)
        try:
            self._send(Encode(digest), memory)
        finally:
            os.close(memory)

    def cancel(self, digest: bytes) -> None:
        """Have a picture forgotten; that it is comes as news, unless its rows do."""
        self._send(Cancel(digest))

    def _send(self, message: Encode | Cancel, memory: int | None = None) -> None:
        try:
            self._wire.send(message, memory)
        except OSError:
            # That it has ended comes as news.
            return

    def _listen(self) -> None:
        from sendnn_pipeline.multimodal.shared_rows import read_rows

        while (received := self._wire.receive()) is not None:
            message, memory = received
            if isinstance(message, Encoded) and memory is not None:
                self._tell(Rows(message.digest, read_rows(memory, message.shape, message.dtype)))
            elif isinstance(message, (Opened, Unusable, Dropped, Failed)):
                self._tell(message)
        self._tell(Ended(_ending(self._process.wait())))

    def _tell(self, news: News) -> None:
        self._news.put(news)
        self._notify()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._thread.join()
        self._wire.end.close()


def start_encoder(spec: EncoderSpec, notify: Callable[[], None]) -> EncoderProcess:
    """Start a process.

    Args:
        spec: what it opens.
        notify: called in another thread when there is news.
    """
    environ = {name: text for name, text in process_environment().items() if name not in OF_RANKS}
    ours, theirs = new_wire()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(theirs.fileno()), msgspec.json.encode(spec).decode()],
            stdin=subprocess.DEVNULL,
            # Stdout is the target's alone.
            stdout=2,
            pass_fds=[theirs.fileno()],
            env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    started = EncoderProcess(process, Wire(ours), notify)
    started.listen()
    return started


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}{', as the kernel does when memory runs out' if name == 'SIGKILL' else ''}"
