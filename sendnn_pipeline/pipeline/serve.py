"""Serve: the engine at its port, until it is told to stop."""

from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from sendnn_pipeline.distributed.pulse import Pulse
from sendnn_pipeline.distributed.worker import leave_signals_to_the_parent
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.base import Follower
from sendnn_pipeline.engines.loop import Inbox, run_loop
from sendnn_pipeline.messages import FromEngine, Ready
from sendnn_pipeline.pipeline.warmup import WarmEngine


class EnginePort(Inbox, Protocol):
    """The engine's end of the way to the edge."""

    def send(self, message: FromEngine) -> None:
        """Hand a message to the edge."""


def ready_message(warm: WarmEngine, about: dict[str, Any]) -> Ready:
    """Describe a warm engine."""
    return Ready(
        steps=warm.measured_steps(),
        measured=warm.measured,
        resident_bytes=psutil.Process().memory_info().rss,
        engine=about | warm.core.about(),
    )


@dataclass(frozen=True)
class Serve:
    """``WarmEngine`` to its end."""

    port: EnginePort
    world: World
    about: dict[str, Any]
    name = "serve"

    def run(self, warm: WarmEngine) -> None:
        """Announce the engine, then take messages and make steps; other ranks than the first do what it tells them."""
        if warm.run.config.process.override_signal_handlers:
            leave_signals_to_the_parent()
        if self.world.rank:
            assert isinstance(warm.core, Follower), "a plan for several ranks is of an engine that has them"
            if not self.world.local_rank:
                # Who started the ranks of another machine knows by this that they can work.
                self.port.send(ready_message(warm, self.about))
            self.world.follow(warm.core.obey)
            return
        warm.core.start(warm.times, self.port.send)
        self.port.send(ready_message(warm, self.about))
        run_loop(warm.core, self.port, Pulse(self.world, self.port.send).beat)
        self.world.dismiss()
