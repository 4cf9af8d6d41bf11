"""What a plugin that does nothing but register adds to a start.

``python -m tests.benchmarks.plugin_start``: starts of ``explain`` and of a whole server from artifacts, with and
without the plugin on the path, in turns.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hooks.fake import install
from tests.served import ROOT, Served, environment

ROUNDS = 15
CODE = """
from sendnn_pipeline.hooks import hookimpl


class Nothing:
    name = "nothing"


@hookimpl
def register_compile_backends(register):
    register("nothing", Nothing)
"""


def explained(**variables: str) -> float:
    """Return the CPU seconds of ``explain``, which loads plugins and resolves a run: other load does not count."""
    command = [sys.executable, "-m", "sendnn_pipeline", "explain", "warmup.shapes"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"explain ended with status {status}")
    return used.ru_utime + used.ru_stime


def served(**variables: str) -> float:
    """Return the seconds until a server from artifacts is ready."""
    began = time.perf_counter()
    with Served("model=minilm", "backend=inductor", **variables):
        return time.perf_counter() - began


def main() -> None:
    """Print both differences."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), "nothing", CODE)
        for name, start, rounds in (("explain, CPU time", explained, ROUNDS), ("server, ready", served, ROUNDS // 2)):
            start()
            pairs = [(start(), start(PYTHONPATH=folder)) for _ in range(rounds)]
            without, added = [pair[0] for pair in pairs], [(pair[1] - pair[0]) * 1000 for pair in pairs]
            low, _, high = statistics.quantiles(added, n=4)
            print(
                f"{name}: {statistics.median(without):.2f} s; the plugin adds {statistics.median(added):.0f} ms "
                f"(quartiles {low:.0f} to {high:.0f}, {rounds} pairs)"
            )


if __name__ == "__main__":
    main()
