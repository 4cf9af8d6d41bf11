"""What this machine measured of Programs, by what decides it: seconds to compile them, milliseconds of steps."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock

from sendnn_pipeline.programs.program import Program, Sizes

# How many times as long as a larger step a step may take: rounding up to what a device computes costs less.
IMPLAUSIBLE = 2.0
StepMs = Mapping[Sizes, float]
"""Milliseconds of full steps of one Program."""


def timing_prefix(
    model: str, backend: Mapping[str, Any], dtype: str, *, threads: int, concurrent_steps: int, ranks: int = 1
) -> str:
    """Begin the name under which times of a run's Programs are recorded.

    Args:
        model: digest of the model's structure; a folder's name would confuse models.
        backend: its options by name, ``name`` among them: with others it compiles other code.
        dtype: of the weights.
        threads: of the engine.
        concurrent_steps: that share them.
        ranks: that share a step.
    """
    options = hashlib.sha256(json.dumps(backend, sort_keys=True, default=str).encode()).hexdigest()[:8]
    together = f"{ranks} ranks " if ranks > 1 else ""
    return f"{model[:16]} {backend['name']}-{options} {dtype} {threads} threads {concurrent_steps} steps {together}"


def implausible(times: Mapping[Program, StepMs]) -> set[tuple[Program, Sizes]]:
    """Return the steps that took much longer than one that is at least as large in every dimension.

    Something else had the processor while they were timed.
    """
    steps = [(program, sizes, ms) for program, measured in times.items() for sizes, ms in measured.items()]
    return {
        (program, sizes)
        for program, sizes, ms in steps
        for other, larger, larger_ms in steps
        if ms > larger_ms * IMPLAUSIBLE
        and _kind(program) == _kind(other)
        and all(size <= limit for size, limit in zip(sizes, larger, strict=True))
    }


def _kind(program: Program) -> tuple[str, ...]:
    return (program.function, *(dim.name for dim in program.dims))


@dataclass(frozen=True)
class CompileTimes:
    """Seconds to compile Programs without caches."""

    FILE: ClassVar[str] = "compile_seconds.json"

    cache_dir: Path

    def read(self) -> dict[str, float]:
        """Return recorded seconds by name; nothing where no run was recorded yet or the file is unreadable."""
        recorded = _read(self.cache_dir / self.FILE)
        return {name: float(seconds) for name, seconds in recorded.items() if isinstance(seconds, int | float)}

    def record(self, prefix: str, seconds: Mapping[str, float]) -> None:
        """Add or replace Programs' seconds; the longest seen stays, since a compiler's cache makes later ones short."""

        def merge(known: dict[str, Any]) -> dict[str, Any]:
            new = {f"{prefix}{program}": value for program, value in seconds.items()}
            return known | {name: max(value, known.get(name, 0.0)) for name, value in new.items()}

        _update(self.cache_dir / self.FILE, merge)

    def total(self, prefix: str, programs: Iterable[Program]) -> float | None:
        """Return what all these Programs take; None where that was never measured."""
        known = self.read()
        seconds = [known.get(prefix + program.name) for program in programs]
        return None if None in seconds else sum(value for value in seconds if value is not None)


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of steps by their sizes."""

    FILE: ClassVar[str] = "step_ms.json"

    cache_dir: Path

    def read(self, prefix: str) -> dict[str, dict[Sizes, float]]:
        """Return what was recorded under ``prefix``, by Program; nothing where the file is missing or unreadable."""
        found = {}
        for name, steps in _read(self.cache_dir / self.FILE).items():
            if not name.startswith(prefix):
                continue
            try:
                found[name.removeprefix(prefix)] = {tuple(map(int, sizes)): float(ms) for *sizes, ms in steps}
            except (TypeError, ValueError):
                continue
        return found

    def record(self, prefix: str, steps: Mapping[str, StepMs]) -> None:
        """Replace what was recorded of these Programs."""
        new = {
            f"{prefix}{program}": [[*sizes, round(ms, 6)] for sizes, ms in measured.items()]
            for program, measured in steps.items()
        }
        _update(self.cache_dir / self.FILE, lambda known: known | new)


def _read(file: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _update(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read, change and write as one: two starts that end at once lose nothing of each other's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(change(_read(file)), indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(file)
