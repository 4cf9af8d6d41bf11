"""What a plugin that does nothing but register adds to a start.

``python -m tests.benchmarks.plugin_start``: fresh processes with and without the plugin on the path, in turns.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hooks.fake import install
from tests.served import ROOT, environment

ROUNDS = 25
CODE = """
from sendnn_pipeline.hooks import hookimpl


class Nothing:
    name = "nothing"

    def __init__(self, options):
        self.options = options


@hookimpl
def register_compile_backends(register):
    register("nothing", Nothing)
"""

LOADED = """
import time
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.app.context import load_context
began = time.process_time()
context = load_context(process_environment())
context.plugins.registry("register_compile_backends", "compile backend")
print(time.process_time() - began)
"""


def loaded(**variables: str) -> float:
    """Return the CPU seconds in which a fresh process loads plugins and joins what they add."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, env=environment(**variables), check=True, capture_output=True
    )
    return float(done.stdout)


def explained(**variables: str) -> float:
    """Return the CPU seconds of a whole ``explain``, which also resolves a run."""
    command = [sys.executable, "-m", "sendnn_pipeline", "explain", "warmup.shapes"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"explain ended with status {status}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print both differences, in CPU time, as other load does not count in it."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), "nothing", CODE)
        for name, start in (("loading plugins", loaded), ("explain", explained)):
            start()
            pairs = [(start(), start(PYTHONPATH=folder)) for _ in range(ROUNDS)]
            without, added = [pair[0] for pair in pairs], [(pair[1] - pair[0]) * 1000 for pair in pairs]
            low, _, high = statistics.quantiles(added, n=4)
            more = f"{statistics.median(added):.0f} ms (quartiles {low:.0f} to {high:.0f}, {ROUNDS} pairs)"
            print(f"{name}: {statistics.median(without) * 1000:.0f} ms; the plugin adds {more}")


if __name__ == "__main__":
    main()
