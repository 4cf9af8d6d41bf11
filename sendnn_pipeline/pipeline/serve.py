"""Serve: the engine at its port, until it is told to stop."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from sendnn_pipeline.distributed.port import Port
from sendnn_pipeline.distributed.worker import leave_signals_to_the_parent
from sendnn_pipeline.messages import Cancel, Ready, Stop, Submit
from sendnn_pipeline.pipeline.warmup import WarmEngine

if TYPE_CHECKING:
    from sendnn_pipeline.pooling.engine import PoolingEngine
    from sendnn_pipeline.pooling.streams import Streams

IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Served:
    """What was done until the end."""

    num_steps: int


def ready_message(warm: WarmEngine, about: dict[str, Any]) -> Ready:
    """Say what a warm engine offers."""
    return Ready(
        steps=list(warm.steps), measured=warm.measured, resident_bytes=psutil.Process().memory_info().rss, engine=about
    )


class Serve:
    """``WarmEngine`` to ``Served``."""

    name = "serve"

    def __init__(self, port: Port, about: dict[str, Any]) -> None:
        self.port, self.about = port, about

    def run(self, given: WarmEngine) -> Served:
        """Announce the engine, then take messages and make steps."""
        from sendnn_pipeline.pooling.batcher import Batcher
        from sendnn_pipeline.pooling.engine import PoolingEngine
        from sendnn_pipeline.pooling.streams import Streams

        engine = PoolingEngine(given.runner, Batcher(given.costs, given.run.step_tokens), self.port.send)
        if given.run.config.process.override_signal_handlers:
            leave_signals_to_the_parent()
        self.port.send(ready_message(given, self.about))
        stopping = False
        with Streams(engine, given.run.streams, self.about["threads"]) as streams:
            while not (stopping and streams.idle):
                stopping = self._receive(engine, streams) or stopping
                streams.collect()
                streams.fill()
        return Served(engine.num_steps)

    def _receive(self, engine: "PoolingEngine", streams: "Streams") -> bool:
        stopping = False
        for message in self.port.receive(0.0 if streams.can_start else IDLE_SECONDS, streams.event):
            match message:
                case Submit():
                    engine.submit(message)
                case Cancel():
                    engine.cancel(message)
                case Stop():
                    stopping = True
        return stopping
