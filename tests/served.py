"""A real server: its own process, its own port, its own output."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import httpx
from openai import OpenAI

ROOT = Path(__file__).parents[1]


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


def environment(**variables: str) -> dict[str, str]:
    """Return this environment without variables of ours, plus ``variables``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SENDNN_", "VLLM_SPYRE_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


class Served:
    """A server that runs while the ``with`` block does."""

    def __init__(self, *words: str, wait: bool = True, **variables: str) -> None:
        self.words, self.wait, self.variables = words, wait, variables
        self.lines: list[str] = []
        self.url = ""

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
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if self.wait:
            self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return "\n".join(self.lines)

    def wait_line(self, pattern: str, seconds: float = 120) -> re.Match[str]:
        """Wait until a line matches."""
        ends = time.monotonic() + seconds
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
        raise AssertionError(f"no line {pattern!r} in {seconds} s:\n{self.output}")

    def wait_ready(self) -> None:
        """Wait for the line with the URL."""
        self.url = self.wait_line(r"at (http://\S+)/v1, ready")[1]

    def client(self, **options: object) -> OpenAI:
        """Return a real client."""
        return OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, **options})

    def get(self, path: str, **options: object) -> httpx.Response:
        """GET a path."""
        return httpx.get(f"{self.url}{path}", timeout=60, **options)

    def post(self, path: str, **options: object) -> httpx.Response:
        """POST to a path."""
        return httpx.post(f"{self.url}{path}", timeout=60, **options)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float = 30) -> int:
        """Wait for the end."""
        code = self.process.wait(timeout=seconds)
        self.reader.join(timeout=5)
        return code
