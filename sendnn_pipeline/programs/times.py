"""What this machine measured of Programs, by what decides it: seconds to compile them, milliseconds of steps."""

import hashlib
import json
import math
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
    model: str,
    backend: Mapping[str, Any],
    dtype: str,
    machine: str,
    *,
    threads: int,
    concurrent_steps: int,
    ranks: int,
) -> str:
    """Begin the name under which times of a run's Programs are recorded.

    Args:
        model: digest of the model's structure; a folder's name would confuse models.
        backend: its options by name, ``name`` among them: with others it compiles other code.
        dtype: of the weights.
        machine: kind of the CPU: artifacts travel, and their times with them.
        threads: of the engine.
        concurrent_steps: that share them.
        ranks: that share a step.
    """
    options = hashlib.sha256(json.dumps(backend, sort_keys=True, default=str).encode()).hexdigest()[:8]
    together = f"{ranks} ranks " if ranks > 1 else ""
    threaded = f"{threads} threads {concurrent_steps} steps {together}"
    return f"{model[:16]} {backend['name']}-{options} {dtype} {machine}, {threaded}"


def on_any_machine(prefix: str) -> str:
    """Return what begins the names of the same run's Programs wherever they were timed: model, backend and dtype."""
    return " ".join([*prefix.split(" ")[:3], ""])


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
    """Milliseconds of steps by their sizes, in files of one name: this machine's own, and one beside artifacts."""

    FILE: ClassVar[str] = "step_ms.json"

    folders: tuple[Path, ...]
    """Where they are read, the first before the others, and written."""

    def read(self, prefix: str) -> dict[str, dict[Sizes, float]]:
        """Return what was recorded under ``prefix``, by Program; nothing where a file is missing or unreadable."""
        found = {}
        for name, steps in self.recorded(prefix).items():
            try:
                found[name.removeprefix(prefix)] = read_steps(steps)
            except (TypeError, ValueError):
                continue
        return found

    def recorded(self, prefix: str = "") -> dict[str, Any]:
        """Return the entries whose names begin with ``prefix``, as the files have them."""
        merged: dict[str, Any] = {}
        for folder in self.folders:
            merged = _read(folder / self.FILE) | merged
        return {name: steps for name, steps in merged.items() if name.startswith(prefix)}

    def record(self, prefix: str, steps: Mapping[str, StepMs]) -> None:
        """Replace what was recorded of these Programs, in every folder that can be written.

        Raises:
            OSError: none can.
        """
        new = {
            f"{prefix}{program}": [[*sizes, round(ms, 6)] for sizes, ms in measured.items()]
            for program, measured in steps.items()
        }
        failed = [error for folder in self.folders if (error := _written(folder / self.FILE, new))]
        if len(failed) == len(self.folders):
            raise failed[0]

    def add(self, entries: Mapping[str, Any]) -> None:
        """Take entries of another machine's file; what is recorded here stays.

        Raises:
            OSError: a folder cannot be written.
        """
        for folder in self.folders:
            _update(folder / self.FILE, lambda known: {**entries, **known})


def read_steps(listed: Any) -> dict[Sizes, float]:
    """Return the times of one Program from the form in which files have them.

    Raises:
        TypeError, ValueError: they are not of that form.
    """
    steps = {tuple(map(int, sizes)): float(ms) for *sizes, ms in listed}
    if not all(0.0 < ms < math.inf for ms in steps.values()):
        raise ValueError("a step takes a number of milliseconds")
    return steps


def _written(file: Path, new: Mapping[str, Any]) -> OSError | None:
    """Add to a file; return why it cannot be: a store may be read-only where the cache is not, and the other way."""
    try:
        _update(file, lambda known: {**known, **new})
    except OSError as error:
        return error
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _update(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read, change and write as one: two starts that end at once lose nothing of each other's."""
    # A store that others can write would not be trusted, whatever the umask.
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with FileLock(f"{file}.lock"):
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(change(_read(file)), indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(file)
