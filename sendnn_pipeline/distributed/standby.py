"""A process that imports torch while its parent still composes: the first rank of the run, if it suits that run."""

import importlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from sendnn_pipeline.machine.environ import extend_environment

LIBRARY = "torch"
# By which torch, when it is imported, imports the libraries of devices, which then must find their variables.
AUTOLOADED = "torch.backends"
# Nothing reads these while torch is imported: what else differs from what this process began with comes too late.
READ_LATER = frozenset({"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_DEVICE_BACKEND_AUTOLOAD"})
# A run that takes longer to begin fetches its model, or has its engine elsewhere: then an idle process would only stay.
PATIENCE_SECONDS = 30.0


@dataclass
class Standby:
    """The process, until it is taken or closed."""

    process: SpawnProcess
    work: Connection
    environ: Mapping[str, str]
    """All variables that it has."""
    started: float = field(default_factory=time.monotonic)
    _over: bool = field(default=False, init=False)

    def take(self, job: tuple[Any, ...], environ: Mapping[str, str]) -> SpawnProcess | None:
        """Have the process run a rank's job, and return it; None where it does not suit, which ends it, or is no more.

        Args:
            job: the arguments of ``worker.main``.
            environ: all variables that the rank is to have.
        """
        names = (self.environ.keys() | environ.keys()) - READ_LATER
        late = any(self.environ.get(name) != environ.get(name) for name in names)
        waits = time.monotonic() - self.started < PATIENCE_SECONDS
        if self._over or late or not waits or not self.process.is_alive():
            self.close()
            return None
        try:
            self.work.send(job)
        except BrokenPipeError:
            self.close()
            return None
        self._over = True
        self.work.close()
        return self.process

    def close(self) -> None:
        """End the process, unless it was taken."""
        if not self._over:
            self._over = True
            self.work.close()
            self.process.kill()
            self.process.join()


def start_standby(environ: Mapping[str, str], variables: Mapping[str, str]) -> Standby:
    """Start the process.

    Args:
        environ: of this process, which it inherits.
        variables: that it gets beside those before it imports anything.

    Raises:
        OSError: there can be no more processes.
    """
    spawn = multiprocessing.get_context("spawn")
    receiving, sending = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_stand_by, args=(receiving, dict(variables)), name="sendnn-rank-0", daemon=True)
    with receiving:
        try:
            process.start()
        except BaseException:
            sending.close()
            raise
    return Standby(process, sending, {**environ, **variables})


def _stand_by(receiving: Connection, variables: Mapping[str, str]) -> None:
    """Import torch, and then run the job that comes; none comes where the parent ends, or has no use for this."""
    # A terminal's Ctrl-C is the parent's.
    os.setpgid(0, 0)
    extend_environment(variables)
    if not entry_points(group=AUTOLOADED):
        # The rank says what is wrong with it.
        with suppress(Exception):
            importlib.import_module(LIBRARY)
    with receiving:
        try:
            # Longer than a job may come, as one that came too late would be lost.
            if not receiving.poll(2 * PATIENCE_SECONDS):
                return
            job = receiving.recv()
        except EOFError:
            return
    # The rank has a folder of its own, which whoever asked before did not know.
    tempfile.tempdir = None
    worker = importlib.import_module("sendnn_pipeline.distributed.worker")
    worker.main(*job)
