"""The process of a rank: environment first, then everything that imports torch."""

import importlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import psutil

from sendnn_pipeline.config.schema import ConsoleName
from sendnn_pipeline.distributed.channel import Channel, ChannelAddress, NetworkChannelAddress
from sendnn_pipeline.distributed.nodes import Node, join
from sendnn_pipeline.distributed.port import Port
from sendnn_pipeline.distributed.rendezvous import INTERFACE, Rendezvous, address_of
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.machine.allocator import reuse_freed_memory
from sendnn_pipeline.machine.environ import extend_environment, too_late
from sendnn_pipeline.messages import Fatal, Joined
from sendnn_pipeline.observe.logs import logging_to_stderr

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """What a rank is started with."""

    rank: int
    size: int
    address: str
    """Of the port to the edge."""
    place: ChannelAddress
    """Where ranks talk to each other."""
    rendezvous: Rendezvous | None
    """Where they form a group; None in a world of one."""
    scratch: Path
    """For temporary files."""
    log_file: Path | None
    """Takes what the rank prints; None leaves it where its parent prints."""
    local_rank: int = 0
    """Among those on this machine."""
    node: Node | None = None
    """This machine, where there are several."""

    def variables(self) -> dict[str, str]:
        """Return its own part of the environment: its folder, and what libraries read that look for several ranks."""
        folder = {"TMPDIR": str(self.scratch)}
        if self.rendezvous is None:
            return folder
        place = {"MASTER_ADDR": self.rendezvous.host, "MASTER_PORT": str(self.rendezvous.port)}
        here = self.size // (self.node.size if self.node is not None else 1)
        of_all = {"RANK": str(self.rank), "WORLD_SIZE": str(self.size)}
        local = {"LOCAL_RANK": str(self.local_rank), "LOCAL_WORLD_SIZE": str(here)}
        interface = {INTERFACE: self.rendezvous.interface} if self.rendezvous.interface else {}
        return {**folder, **place, **of_all, **local, **interface}

    def world(self, port: Port) -> World:
        """Return the ranks as this one sees them, once all have come.

        Raises:
            EngineError: one did not come in time, or is of another run.
        """
        rendezvous, place = self.rendezvous, self.place
        if self.node is not None:
            # Torch, which only now may be imported.
            group = importlib.import_module("sendnn_pipeline.engines.group")
            rendezvous = group.open_store(rendezvous, self.rank, self.node.join_timeout_seconds)
            link = join(rendezvous.store, self.node, speaks=not self.local_rank)
            if link and not self.local_rank:
                port.send(Joined(link))
            place = NetworkChannelAddress(address_of(rendezvous.host), place.wait_seconds, rendezvous.store)
        channel = Channel(self.rank, self.size, place) if self.size > 1 else None
        return World(self.rank, self.size, channel, rendezvous, self.local_rank)


def main(job: str, run: Run, seat: Seat, environment: Mapping[str, str]) -> None:
    """Run ``job``, written ``module:function``, with a port to the edge.

    A string, since unpickling a function imports its module, and torch reads thread variables when it is imported.
    """
    late = too_late(run.library, environment)
    extend_environment({**environment, **seat.variables()})
    reuse_freed_memory()
    # What it starts ends with it, by its group; a terminal's Ctrl-C is the parent's.
    os.setpgid(0, 0)
    seat.scratch.mkdir(mode=0o700)
    watch_parent(seat.scratch)
    if seat.log_file is not None:
        redirect_output(seat.log_file)
    elif run.config.console != ConsoleName.stdout:
        # Stdout is the target's alone: what a library prints there goes to stderr.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock_progress_bars()
    if run.config.process.override_signal_handlers:
        leave_signals_to_the_parent()
    with logging_to_stderr(run.config.log, seat.rank):
        _work(job, Port(seat.address), run, seat, late)


def _work(job: str, port: Port, run: Run, seat: Seat, late: PipelineError | None) -> None:
    module, function = job.split(":")
    world = World()
    try:
        if late is not None:
            raise late
        world = seat.world(port)
        getattr(importlib.import_module(module), function)(port, run, world)
    except PipelineError as error:
        port.send(Fatal(str(error), error.exit_code, time.monotonic(), error.is_final))
        sys.exit(error.exit_code)
    except (Exception, SystemExit) as error:
        # A library that exits, even with 0, ends an engine that was to go on.
        log.exception("the engine failed")
        reason = " ".join(str(error).split())[:500]
        port.send(Fatal(f"the engine failed: {type(error).__name__}: {reason}", 1, time.monotonic()))
        sys.exit(1)
    finally:
        port.close()
        if world.channel is not None:
            world.channel.close()


def redirect_output(file: Path) -> None:
    """Send all that this process, what it starts and native libraries print to a file, at its end."""
    with file.open("ab") as stream:
        for output in (sys.stdout, sys.stderr):
            os.dup2(stream.fileno(), output.fileno())


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
