"""An engine of generation in this process."""

import select
from collections import defaultdict

import msgspec

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.messages import GenerationOutput, GenerationRequest, Sampling
from sendnn_pipeline.messages import Cancel, Part, Request, RequestFailed

GREEDY = Sampling(temperature=0.0, stop_token_ids=[1])
CLOCK_ENDS = 1e12


class Core:
    """Requests in, outputs out."""

    def __init__(self, resolved, artifacts=None):
        self.run, backend = resolved.run, resolved.backend
        self.core = resolved.engine.open(resolved.run, World())
        self.compiled = {}
        for program in self.run.plan.programs:
            graph = self.core.graph(program)
            self.compiled[program] = backend.open(artifacts[program], graph) if artifacts else backend.compile(graph)
        self.core.install(self.compiled)
        self.messages = []
        self.core.start({}, self.messages.append)

    def ask(self, request_id, prompts, sampling=GREEDY, max_tokens=20, deadline=CLOCK_ENDS, **more):
        """Queue a request."""
        request = GenerationRequest(prompts, [max_tokens] * len(prompts), sampling, **more)
        self.core.take(Request(request_id, deadline, msgspec.Raw(msgspec.msgpack.encode(request))))

    def cancel(self, request_id):
        """Forget a request."""
        self.core.take(Cancel(request_id))

    def drain(self):
        """Step until nothing is left to do."""
        while self.core.step() or (not self.core.idle and select.select([self.core.wake], [], [], 60)[0]):
            pass
        assert self.core.idle and self.free_blocks == self.run.plan.rules.num_blocks - 1

    @property
    def free_blocks(self):
        """Blocks that no sequence has."""
        return self.core.scheduler.state.pool.num_free

    def outputs(self, request_id):
        """Return the outputs of each of its sequences."""
        found = defaultdict(list)
        for message in self.messages:
            if isinstance(message, Part) and message.request_id == request_id:
                output = msgspec.msgpack.decode(message.payload, type=GenerationOutput)
                found[output.sequence].append(output)
        return found

    def tokens(self, request_id, sequence=0):
        """Return the tokens of a sequence."""
        return [token for output in self.outputs(request_id)[sequence] for token in output.token_ids]

    def failures(self):
        """Return the requests that failed, and why."""
        return {message.request_id: message for message in self.messages if isinstance(message, RequestFailed)}
