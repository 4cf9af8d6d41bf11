"""The serve target ``ray``: deploys the run, says how many replicas there are, and takes it back at a signal."""

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.target import Session
from sendnn_ray.cluster import Cluster, State, open_cluster
from sendnn_ray.config import RayConfig

LOOK_SECONDS = 0.5


class Stopped(BaseException):
    """The process was told to end: raised wherever it is, as Ctrl-C is."""


@dataclass
class RayTarget:
    """Offers replicas of the engine behind Ray's proxy."""

    ends = False
    keys: tuple[str, ...] = ()

    def prepare(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Refuse a port that is taken: Ray's proxy would say so in a log of its own."""
        host, port = run.config.serve.host, run.config.serve.port
        if port == 0:
            raise ServeError("serve.port=0: Ray's proxy takes no free port by itself", hint="name a serve.port")
        if _options(run).address != "local":
            # There it may be the proxy's own already.
            return
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                raise ServeError(
                    f"serve.port={port} on {host} cannot be had: {error.strerror or error}",
                    hint="stop what uses it, or choose another serve.host or serve.port",
                ) from None

    check = prepare

    def run(self, session: Session) -> None:
        """Deploy, and serve until a signal."""
        options = _options(session.run)
        with open_cluster(options, session.run.config.console) as cluster:
            serve(session, options, cluster)


def _options(run: Run) -> RayConfig:
    options = run.config.serve
    assert isinstance(options, RayConfig), "serve.target=ray is typed by its option"
    return options


def serve(session: Session, options: RayConfig, cluster: Cluster) -> None:
    """Deploy, say what changes, and take the application back at a signal.

    Raises:
        ServeError: it cannot be deployed, or failed for good.
    """
    assert session.description is not None, "a target is run by the command line"
    ended = False
    with _signals(session.run.config.process.override_signal_handlers):
        try:
            cluster.deploy(session.description, session.run.config)
            host = f"[{options.host}]" if ":" in options.host else options.host
            seconds = time.monotonic() - session.started
            where = f"http://{host}:{options.port}/v1"
            session.say(f"serving {session.run.served_name} at {where}, ready in {seconds:.1f} s")
            _watch(session, cluster)
        except Stopped:
            ended = True
        finally:
            # However it ended, replicas do not stay behind.
            session.say(f"draining, at most {options.drain_seconds:g} s; a second signal ends at once")
            cluster.remove()
    if ended:
        session.say("drained")


def _watch(session: Session, cluster: Cluster) -> None:
    """Say whenever the number of replicas changes.

    Raises:
        ServeError: the application failed for good.
    """
    last: State | None = None
    while True:
        state = cluster.state()
        if state.failed:
            raise ServeError(f"Ray gave up on the application: {state.message}", hint="the lines above may say why")
        if state != last:
            session.say(f"replicas {state.running} running{f', {state.message}' if state.message else ''}")
            last = state
        time.sleep(LOOK_SECONDS)


@contextmanager
def _signals(ours: bool) -> Iterator[None]:
    """Have SIGTERM and SIGINT end the block; a second one ends the process."""
    told = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told:
            os._exit(128 + number)
        told = True
        raise Stopped

    numbers = (signal.SIGTERM, signal.SIGINT) if ours else ()
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
