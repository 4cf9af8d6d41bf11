"""A sweep, seen from its parent: each job a process, in the end one table."""

import math
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from sendnn_pipeline.app.job import Row, forget_rows, read_rows, run_job
from sendnn_pipeline.bench.comparison import compare, figures_of, label_of, swept_of, title_of
from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.errors import ConfigError, EngineError
from sendnn_pipeline.observe.console import open_console

BASIC = "basic"
BENCH = "bench"
# Words that are not a job's.
OF_SWEEP = ("serve.output=", "sweep.", "process.job_seconds=")


def sweep_folder(overrides: Sequence[Override]) -> tuple[Path, list[str]]:
    """Return the folder of all jobs, and the word that tells Hydra, unless the user did."""
    named = next((word for word in overrides if word.key == "hydra.sweep.dir"), None)
    if named is not None:
        folder = Path(str(named.value)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        forget_rows(folder)
        return folder, []
    folder = Path(tempfile.mkdtemp(prefix="sendnn_pipeline-sweep-"))
    return folder, [f"hydra.sweep.dir='{folder}'"]


def refuse_parallel(overrides: Sequence[Override], target: str, allowed: bool) -> None:
    """Refuse jobs that would disturb each other's times.

    Raises:
        ConfigError: a launcher that runs several jobs at once is asked for, and nothing allows it.
    """
    launcher = next((word for word in overrides if word.key == "hydra/launcher"), None)
    if launcher is not None and str(launcher.value) != BASIC and target == BENCH and not allowed:
        raise ConfigError(
            f"{launcher.text} may run several jobs at once, and timed jobs disturb each other",
            hint="leave it out, or say serve.parallel_jobs=true",
        )


def count_jobs(overrides: Sequence[Override]) -> int | None:
    """Return how many jobs a sweep has; None where only its sweeper knows."""
    sweeps = [word for word in overrides if word.sweeps]
    if any(word.key == "hydra/sweeper" for word in overrides) or not all(word.expanded for word in sweeps):
        return None
    return math.prod(len(word.expanded) for word in sweeps)


def make_task(
    flags: Sequence[str],
    mine: Callable[[Sequence[str]], list[str]],
    folder: Path,
    limit_seconds: float,
    num_jobs: int | None,
) -> Callable[[Any], float]:
    """Return the job that Hydra calls, in whatever process its launcher likes.

    Args:
        flags: of the command line, such as ``--config-dir``.
        mine: of a job's words those that are not inserted anew in its own process.
        folder: of all jobs.
        limit_seconds: what one job may take.
        num_jobs: of the sweep, where that is known.
    """
    began = time.monotonic()

    def task(config: Any) -> float:
        job = HydraConfig.get()
        number = int(job.job.num)
        words = [word for word in mine(list(job.overrides.task)) if not word.startswith(OF_SWEEP)]
        here = folder / str(number)
        added = [f"serve.output='{here}'"] if config.serve.target == BENCH else []
        which = f" ({number + 1} of {num_jobs})" if num_jobs else ""
        sys.stdout.write(f"job {number}{which}: python -m sendnn_pipeline {shlex.join([*flags, *words])}\n")
        sys.stdout.flush()
        row = run_job(number, [*words, *added], flags, here, limit_seconds)
        to_go = _to_go(num_jobs, len(read_rows(folder)), time.monotonic() - began)
        sys.stdout.write(f"job {number}: {row.reason or 'done'} after {row.seconds:.1f} s{to_go}\n")
        sys.stdout.flush()
        figures = (row.result or {}).get("figures", {})
        return float(figures["texts_per_second"]["median"]) if "texts_per_second" in figures else math.nan

    return task


def _to_go(num_jobs: int | None, num_ended: int, seconds: float) -> str:
    """Say how many jobs are left, and how long they take if they are as long as those that ended in ``seconds``."""
    left = (num_jobs or 0) - num_ended
    if left <= 0:
        return ""
    expected = seconds / num_ended * left
    return f"; {left} to go, about {f'{expected / 60:.0f} min' if expected >= 90 else f'{expected:.0f} s'}"


def conclude(folder: Path) -> None:
    """Print the comparison of all jobs that ended.

    Raises:
        EngineError: a job failed.
    """
    found = read_rows(folder)
    if not found:
        sys.stdout.write(f"no job ended; logs are in {folder}\n")
        return
    plain = [[word for word in row.words if not word.startswith("serve.output=")] for row in found]
    swept = swept_of(plain)
    rows = [_table_row(*job) for job in zip(found, swept, plain, strict=True)]
    title = title_of([row.result for row in found if row.result is not None])
    beside = ", ".join(dict.fromkeys(key for keys in swept for key in keys if key != "backend"))
    console = open_console()
    compare(console, rows, f"{title}\nbeside the points: {beside}" if beside else title, folder)
    num_failed = sum(bool(row.reason) for row in found)
    pictured = " and sweep.png" if (folder / "sweep.png").exists() else ""
    console.print(f"sweep.csv, sweep.json{pictured} are in {folder}", markup=False)
    if num_failed:
        raise EngineError(f"{num_failed} of {len(found)} jobs failed", hint="the table says why")


def _table_row(row: Row, swept: Mapping[str, str], words: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a job: what it is, what was swept, what it measured, and how it ended."""
    figures = figures_of(row.result)
    # The backend has a marker of its own.
    values = [value for key, value in swept.items() if key != "backend"]
    return {
        "number": row.number,
        "label": label_of(swept, words),
        "point": ", ".join(values) or figures.get("backend", ""),
        **swept,
        **figures,
        "job_seconds": row.seconds,
        "status": row.reason or "done",
    }
