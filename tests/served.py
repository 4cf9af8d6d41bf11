"""A real server: its own process, its own port, its own output."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
from openai import OpenAI

from tests.processes import cpu_answer

ROOT = Path(__file__).parents[1]
# By which the coverage of a process counts, too. It costs half of what the process does, so only some have it.
MEASURES = "COVERAGE_PROCESS_CONFIG"
# Words of most runs of the tests. The dtype is said: `auto` depends on the CPU.
FLOAT32 = ("model=local", "model.dtype=float32")
EAGER_FLOAT32 = (*FLOAT32, "backend=eager")
MINILM_FLOAT32 = ("model=minilm", "model.dtype=float32")
# Words of runs that try processes, signals, files and tables: an engine that imports no torch starts in a second.
ECHO = (*EAGER_FLOAT32, "engine=echo")
ECHO_FOLDER = ROOT / "tests" / "emulators" / "echo_engine"


def sendnn(*words: str, timeout: float = 120, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
    """Run ``python -m sendnn_pipeline`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sendnn_pipeline", *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or ROOT,
        env=environment(**variables),
        check=False,
    )


def with_echo(**variables: str) -> dict[str, str]:
    """Return ``variables`` with the echo engine installed: a distribution on the path, as pip would leave it."""
    return {"PYTHONPATH": str(ECHO_FOLDER), **variables}


def environment(**variables: str) -> dict[str, str]:
    """Return this environment without variables of ours, plus ``variables``.

    Where it says that no bytecode is to be written, every process would make that of the whole package anew.
    """
    others = ("SENDNN_", "VLLM_SPYRE_", MEASURES, "PYTHONDONTWRITEBYTECODE")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(others)}
    return cpu_answer.in_environment({**kept, "PYTHONUNBUFFERED": "1", **variables})


def measuring() -> dict[str, str]:
    """Return the variable of a process whose coverage counts; none where coverage is not measured."""
    return {MEASURES: os.environ[MEASURES]} if MEASURES in os.environ else {}


class Address:
    """Where a server is asked."""

    url = ""
    session: httpx.Client
    """Of the real clients, which do not close their own."""

    def client(self, **options: object) -> OpenAI:
        """Return a real client."""
        given = {"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "http_client": self.session}
        return OpenAI(**{**given, **options})

    def get(self, path: str, **options: object) -> httpx.Response:
        """GET a path."""
        return httpx.get(f"{self.url}{path}", timeout=60, **options)

    def post(self, path: str, **options: object) -> httpx.Response:
        """POST to a path."""
        return httpx.post(f"{self.url}{path}", timeout=60, **options)


class Served(Address):
    """A server that runs while the ``with`` block does.

    Args:
        words: its command line.
        wait: whether to wait until it is ready.
        seconds: most that a line of its output is waited for; one that compiles needs more of them.
        measured: whether its coverage counts.
        variables: further ones of its environment.
    """

    def __init__(
        self, *words: str, wait: bool = True, seconds: float = 120, measured: bool = False, **variables: str
    ) -> None:
        self.words, self.wait, self.seconds = words, wait, seconds
        self.variables = {**variables, **(measuring() if measured else {})}
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        port = [] if any(word.startswith("serve.port") for word in self.words) else ["serve.port=0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sendnn_pipeline", *self.words, *port],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment(**self.variables),
        )
        self.session = httpx.Client(timeout=60)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        with ExitStack() as stack:
            stack.push(self)
            if self.wait:
                self.wait_ready()
            # Else it ends with the block.
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        if MEASURES in self.variables:
            # What was measured is written at its own end.
            self.terminate()
            self.process.wait(timeout=60)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)
        self.reader.join(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return "\n".join(self.lines)

    def wait_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches."""
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            match = re.search(pattern, self.output)
            if match:
                return match
            if self.process.poll() is not None:
                self.reader.join(timeout=5)
                match = re.search(pattern, self.output)
                assert match, f"the server ended with {self.process.returncode}:\n{self.output}"
                return match
            time.sleep(0.02)
        raise AssertionError(f"no line {pattern!r} in {self.seconds} s:\n{self.output}")

    def wait_ready(self) -> None:
        """Wait for the line with the URL."""
        self.url = self.wait_line(r"at (http://\S+)/v1, ready")[1]

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float = 30) -> int:
        """Wait for the end."""
        code = self.process.wait(timeout=seconds)
        self.reader.join(timeout=5)
        return code
