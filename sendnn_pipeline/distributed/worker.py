"""The process of a rank: environment first, then everything that imports torch."""

import importlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import psutil

from sendnn_pipeline.config.schema import ConsoleName
from sendnn_pipeline.distributed.port import Port
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.messages import Fatal
from sendnn_pipeline.observe.logs import logging_to_stderr

log = logging.getLogger(__name__)


def main(job: str, run: Run, world: World, address: str, environment: Mapping[str, str]) -> None:
    """Run ``job``, written ``module:function``, with a port to the edge.

    A string, since unpickling a function imports its module, and torch reads thread variables when it is imported.
    """
    os.environ.update(environment)  # noqa: TID251  the one place where a rank's environment is set
    # What it starts ends with it, by its group; a terminal's Ctrl-C is the parent's.
    os.setpgid(0, 0)
    scratch = Path(environment["TMPDIR"])
    scratch.mkdir(mode=0o700)
    watch_parent(scratch)
    if run.config.console != ConsoleName.stdout:
        # Stdout is the target's alone: what a library prints there goes to stderr.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock_progress_bars()
    if run.config.process.override_signal_handlers:
        leave_signals_to_the_parent()
    port = Port(address)
    with logging_to_stderr(run.config.log, world.rank):
        _work(job, port, run, world)


def _work(job: str, port: Port, run: Run, world: World) -> None:
    module, function = job.split(":")
    try:
        getattr(importlib.import_module(module), function)(port, run, world)
    except PipelineError as error:
        port.send(Fatal(str(error), error.exit_code))
        sys.exit(error.exit_code)
    except (Exception, SystemExit) as error:
        # A library that exits, even with 0, ends an engine that was to go on.
        log.exception("the engine failed")
        reason = " ".join(str(error).split())[:500]
        port.send(Fatal(f"the engine failed: {type(error).__name__}: {reason}", 1))
        sys.exit(1)
    finally:
        port.close()


def leave_signals_to_the_parent() -> None:
    """Ignore what a terminal or a supervisor sends to the whole group; the parent drains and then says stop.

    Called once more after warmup, since device libraries install handlers of their own when they are first used. An
    engine that runs in a thread of its caller leaves them alone.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def lock_progress_bars() -> None:
    """Give progress bars, as torch shows when it traces, a lock of this process alone.

    Their own is a semaphore of the machine, which an engine that is killed leaves behind: Python warns of it as leaked.
    """
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def watch_parent(scratch: Path) -> None:
    """End this process, what it started and its temporary files when its parent is gone: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def end_with_parent() -> None:
        wait([parent.sentinel])
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_parent, name="watch-parent", daemon=True).start()
