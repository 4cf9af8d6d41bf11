"""A core whose Programs are any functions, with what it sends and a way to put requests."""

import select
from dataclasses import dataclass

import msgspec
import numpy as np

from sendnn_pipeline.messages import Part, Request
from sendnn_pipeline.pooling.core import PoolingCore
from sendnn_pipeline.pooling.messages import PoolingOutput, PoolingRequest
from sendnn_pipeline.pooling.step_pool import StepPool


@dataclass
class Compiled:
    """A Program that is any function."""

    function: object
    holds_parameters = False

    def bind(self, weights):
        """Return the function."""
        return self.function

    def save(self, folder):
        """Keep nothing."""
        raise AssertionError("nothing here is saved")


class Core(PoolingCore):
    """Every Program of the run is ``function``."""

    def __init__(self, run, function, clock=lambda: 1.0):
        super().__init__(run, {}, StepPool(run.plan.concurrent_steps, 2), 0, clock)
        self.sent = []
        self.install({program: Compiled(function) for program in run.plan.programs})
        times = {program: {program.max_sizes: float(program.max_sizes[1])} for program in run.plan.programs}
        self.start(times, self.sent.append)

    def put(self, request_id, items, deadline=float("inf"), name=""):
        """Send a request."""
        self.take(Request(request_id, deadline, msgspec.Raw(msgspec.msgpack.encode(PoolingRequest(items))), name))

    def drain(self):
        """Make steps until nothing waits and nothing runs."""
        while not self.idle:
            self.step()
            if not self.idle:
                assert select.select([self.wake], [], [], 30)[0], "a step that ended has to wake the loop"

    def of(self, kind):
        """Return the messages of a kind."""
        return [message for message in self.sent if isinstance(message, kind)]

    def vectors(self, request_id):
        """Return what a request was answered, in the order of its items."""
        rows = {}
        for part in self.of(Part):
            if part.request_id == request_id:
                output = msgspec.msgpack.decode(part.payload, type=PoolingOutput)
                data = np.frombuffer(output.data, dtype="<f4").reshape(-1, output.size)
                rows.update(zip(output.indices, data, strict=True))
        return [rows[index] for index in sorted(rows)]
