"""The engine of generation in a rank with a device: the same beats, other tensors."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil
import torch

from sendnn_pipeline.backends.base import CompiledProgram, Graph
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.threads import set_torch_threads
from sendnn_pipeline.generation.core import GenerationCore
from sendnn_pipeline.generation.device.graphs import DeviceGraphs
from sendnn_pipeline.generation.device.rehearsal import rehearse_device
from sendnn_pipeline.generation.device.runner import DeviceRunner, bind_device_runner, get_embedding, make_device_caches
from sendnn_pipeline.generation.leading import LeadingRunner, obey
from sendnn_pipeline.generation.messages import GenerationRequest
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.row_table import FollowingTable
from sendnn_pipeline.messages import Cancel, FromEngine, Request, RequestFailed
from sendnn_pipeline.models.shards import open_weights
from sendnn_pipeline.programs.program import Program, Sizes
from sendnn_pipeline.programs.times import StepMs

# What the first rank tells the others when it begins.
RESET = "reset"


@dataclass
class DeviceCore(GenerationCore):
    """Takes prompts and sends tokens; the model is two Programs on a device."""

    device_graphs: DeviceGraphs | None = None
    """None once both Programs are installed."""
    device: DeviceRunner = field(init=False)
    """Set by ``install``."""

    def graph(self, program: Program) -> Graph:
        """Return ``program`` as a graph."""
        assert self.device_graphs is not None, "both Programs are installed"
        return self.device_graphs.graph(program)

    def install(self, compiled: Mapping[Program, CompiledProgram]) -> None:
        """Bind both Programs; of a model that reads images, what makes rows of ids stays here."""
        assert self.device_graphs is not None, "both Programs are not installed yet"
        embed = None
        if self.images is not None:
            if self.pictured is not None:
                self.pictured.desk.open()
            embed = get_embedding(self.device_graphs.causal)
        rows = {} if self.images is None else self.images.rows
        self.runner = self.device = bind_device_runner(self.run, compiled, self.weights, embed, rows)
        if self.world.channel is not None:
            self.runner = LeadingRunner(self.device, self.world.channel)
        self.device_graphs = None

    def obey(self, command: Any) -> None:
        """Compute this rank's part of a step that the first rank decided."""
        if command == RESET:
            self.device.reset()
        else:
            obey(self.device, self.images if isinstance(self.images, FollowingTable) else None, command)

    def rehearse(self, program: Program, sizes: Sizes, *, check: bool) -> float:
        """Run a full step on made-up tokens."""
        return rehearse_device(self.device, self.run.model.vocab_size, program, sizes, check=check)

    def start(self, times: Mapping[Program, StepMs], send: Callable[[FromEngine], None]) -> None:
        """Begin with nothing to do, and with new caches of as many blocks in all ranks."""
        if self.world.channel is not None:
            self.world.channel.tell(RESET)
        self.device.reset()
        super().start(times, send)

    def take(self, message: Request | Cancel) -> None:
        """Queue the sequences of a request, or forget one."""
        if isinstance(message, Request):
            sampling = msgspec.msgpack.decode(message.payload, type=GenerationRequest).sampling
            if sampling.prompt_logprobs >= 0:
                reason = "log probabilities of a prompt are not to be had of this device"
                self.send(RequestFailed(message.request_id, "refused", -1, reason))
                return
        super().take(message)


def open_device_core(run: Run, world: World) -> DeviceCore:
    """Return the engine of a run in this process.

    Both Programs are of the whole model, so it is read now, while as many ranks read as may.
    """
    threads, plan = set_torch_threads(run.threads), generation_plan(run)
    whole = () if plan.images is None else plan.images.parts.vision
    weights, shards = open_weights(run.model, run.config.model.dtype, world.rank, world.size, whole)
    runtime_bytes = psutil.Process().memory_info().rss
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    caches = make_device_caches(plan, getattr(torch, run.config.model.dtype))
    graphs = DeviceGraphs(run, weights, caches, shards)
    graphs.causal  # noqa: B018
    return DeviceCore(run, weights, (), threads, runtime_bytes, wake, world, device_graphs=graphs)
