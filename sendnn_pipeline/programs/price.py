"""What a plan costs before anything is built: memory by arithmetic, time from earlier runs on this machine."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.programs.program import PoolProgram

BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
# Live at once in an encoder layer: input, query, key, value, attention output, and the widened feed-forward twice.
WIDTHS_LIVE = 13


def activation_bytes(run: Run, program: PoolProgram) -> int:
    """Estimate what the largest steps of ``program``, one a stream, hold at once beside the weights."""
    facts, dtype = run.model, run.config.model.dtype
    return run.streams * program.most_tokens(run.step_tokens) * facts.hidden_size * WIDTHS_LIVE * BYTES_OF_DTYPE[dtype]


def model_key(model: str, backend: str, dtype: str, streams: int) -> str:
    """Begin the name of a Program among all that this machine has run."""
    return f"{model} {backend} {dtype} {streams} streams "


def price_key(run: Run, program: PoolProgram) -> str:
    """Name a Program among all that this machine has run."""
    config = run.config
    return model_key(run.model.folder.name, config.backend.name, config.model.dtype, run.streams) + program.name


def cold_compile_seconds(run: Run, programs: Iterable[PoolProgram]) -> float | None:
    """Return what all Programs took to compile without caches; None where that was never measured."""
    known = PriceBook(run.cache_dir / PriceBook.FILE).read()
    seconds = [known.get(price_key(run, program)) for program in programs]
    return None if None in seconds else sum(held for held in seconds if held is not None)


@dataclass(frozen=True)
class PriceBook:
    """Seconds to compile Programs, by key."""

    FILE: ClassVar[str] = "compile_seconds.json"

    file: Path

    def read(self) -> dict[str, float]:
        """Return recorded seconds; nothing where no run was recorded yet or the file is unreadable."""
        return {key: float(held) for key, held in _read(self.file).items() if isinstance(held, int | float)}

    def record(self, seconds: Mapping[str, float]) -> None:
        """Add or replace entries; the longest seen stays, since a compiler's cache makes later ones short."""
        known = self.read()
        _write(self.file, known | {key: max(value, known.get(key, 0.0)) for key, value in seconds.items()})


@dataclass(frozen=True)
class StepBook:
    """Milliseconds of steps by batch and length, by key."""

    FILE: ClassVar[str] = "step_ms.json"

    file: Path

    def read(self) -> dict[str, dict[tuple[int, int], float]]:
        """Return what was recorded; nothing where no run was recorded yet or the file is unreadable."""
        found = {}
        for key, held in _read(self.file).items():
            try:
                found[key] = {(int(batch), int(length)): float(ms) for batch, length, ms in held}
            except (TypeError, ValueError):
                continue
        return found

    def record(self, key: str, steps: Mapping[tuple[int, int], float]) -> None:
        """Replace what was recorded for one Program."""
        _write(self.file, _read(self.file) | {key: [[*size, round(ms, 3)] for size, ms in steps.items()]})


def _read(file: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True))
    partial.replace(file)
