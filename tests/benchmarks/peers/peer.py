"""A peer's process, seen from the benchmark: asked over pipes, stopped while others run."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from tests.benchmarks.completions import Ask

HERE = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to run a peer."""

    name: str
    venv: str
    script: str
    options: dict[str, Any]


class Peer:
    """Runs while the ``with`` block does; frozen by SIGSTOP between its turns, so that it takes no CPU from others."""

    def __init__(self, root: Path, setting: Setting, model: Path) -> None:
        self.setting = setting
        self.command = [
            str(root / setting.venv / "bin" / "python"),
            str(HERE / setting.script),
            str(model),
            json.dumps(setting.options),
        ]

    def __enter__(self) -> Self:
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        self.ready_seconds = self._answer()["ready_seconds"]
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        # One that failed has ended by itself.
        with suppress(ProcessLookupError):
            self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def embed(self, texts: list[str]) -> tuple[float, np.ndarray]:
        """Return the seconds that the peer took, and its vectors."""
        assert self.process.stdin is not None
        self._signal(signal.SIGCONT)
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            self.process.stdin.write(json.dumps({"texts": texts, "file": file.name}) + "\n")
            self.process.stdin.flush()
            seconds = self._answer()["seconds"]
            vectors = np.load(file.name)
        self._signal(signal.SIGSTOP)
        return seconds, vectors

    def ask(self, way: str, asks: Sequence[Ask]) -> tuple[float, list[Any]]:
        """Return the seconds that a peer that generates took, and what it found for each ask."""
        assert self.process.stdin is not None
        self._signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps({"way": way, "asks": [asdict(ask) for ask in asks]}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer["seconds"], answer["found"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # Children of a peer may hold the same pipe and print on it.
            if line.startswith('{"'):
                return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        raise RuntimeError(f"{self.log.read()[-2000:]}\n{self.setting.name} ended with {code}")

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)
