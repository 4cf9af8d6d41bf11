"""The performance log: startup phases as text, one JSON line per finished request. Appended to, never truncated."""

import errno
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.observe.logs import utc

log = logging.getLogger(__name__)
STARTUP_FILE = "perf_log_rank_{rank}.txt"
REQUEST_FILE = "request_metrics.jsonl"
# The names that users of the log know, by our stage.
KNOWN_NAMES = {"load": "load model time", "warmup": "total warmup time", "compile": "total compile time"}


@dataclass
class PerfLog:
    """Writes to one folder for one run."""

    folder: Path
    run_id: str
    model_name: str
    ranks: Sequence[int] = (0,)
    """Who write their startup, each into a file of its own."""
    _lossy: bool = field(default=False, init=False)
    """Whether a line could not be written."""

    def open(self) -> None:
        """Make the folder and start both files.

        Raises:
            ServeError: they cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (*(STARTUP_FILE.format(rank=rank) for rank in self.ranks), REQUEST_FILE):
                (self.folder / name).touch()
        except OSError as error:
            raise ServeError(
                f"metrics.perf_log.dir={self.folder} cannot be written: {error.strerror}", hint="name another folder"
            ) from None

    def on_stage(self, event: StageEvent) -> None:
        """Write how long a stage, or a Program of it, took."""
        if event.state != "finished":
            return
        name = KNOWN_NAMES.get(event.stage, f"{event.stage} time")
        if event.program:
            name = {"compile": "compile time", "warmup": "warmup 1 time"}.get(event.stage, name)
        self.startup(name, event.seconds, {"program": event.program} if event.program else {}, event.rank)

    def startup(self, name: str, seconds: float, about: Mapping[str, Any], rank: int = 0) -> None:
        """Append one line for a rank: time, name, seconds, then pairs."""
        pairs = {**about, "model": self.model_name, "run_id": self.run_id}
        parts = [utc(time.time()), name, f"{seconds:.3f}", *(str(part) for pair in pairs.items() for part in pair)]
        self._append(STARTUP_FILE.format(rank=rank), (", ".join(parts) + "\n").encode())

    def request(self, fields: Mapping[str, Any]) -> None:
        """Append one line for a finished request."""
        line = orjson.dumps({"timestamp": utc(time.time()), "run_id": self.run_id, "model": self.model_name, **fields})
        self._append(REQUEST_FILE, line + b"\n")

    def _append(self, name: str, line: bytes) -> None:
        """Write the whole line or none of it; a disk that is full must not fail the request that is logged."""
        try:
            with (self.folder / name).open("ab", buffering=0) as stream:
                end = stream.seek(0, os.SEEK_END)
                if stream.write(line) < len(line):
                    stream.truncate(end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._lossy:
                reason = error.strerror or str(error)
                log.error("%s: %s; lines that cannot be written are lost from here on", self.folder / name, reason)
            self._lossy = True
