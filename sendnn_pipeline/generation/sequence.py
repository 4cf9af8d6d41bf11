"""A sequence that grows: one answer to one prompt of a request, as the engine sees it."""

from dataclasses import dataclass, field

from sendnn_pipeline.generation.messages import GenerationOutput, Sampling, TokenLogprobs
from sendnn_pipeline.generation.request import Request
from sendnn_pipeline.generation.sampling.processors import Processors


@dataclass
class Sequence:
    """What the scheduler need not know of it."""

    request_id: int
    """The edge's."""
    index: int
    """Among the sequences of its request."""
    prompt_index: int
    sampling: Sampling
    scheduled: Request
    processors: Processors | None
    enqueued: float
    deadline: float
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    num_sent: int = 0

    def output(self, token_id: int, logprobs: list[TokenLogprobs]) -> GenerationOutput:
        """Return the part of the answer that a new token is."""
        first, self.num_sent = not self.num_sent, self.num_sent + 1
        return GenerationOutput(
            self.index,
            [token_id],
            logprobs,
            str(self.scheduled.finish or ""),
            self.scheduled.cached_tokens if first else 0,
            self.prompt_logprobs if first else [],
        )
