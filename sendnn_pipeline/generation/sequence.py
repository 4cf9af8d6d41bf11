"""A sequence that grows: one answer to one prompt of a request, as the engine sees it."""

from dataclasses import dataclass, field

from sendnn_pipeline.generation.messages import GenerationOutput, Sampling, StepTime, TokenLogprobs
from sendnn_pipeline.generation.request import Request, Stage
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
    num_awaited: int = 0
    """Of grammar and images, those that are not made yet."""
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    num_sent: int = 0
    steps: list[StepTime] = field(default_factory=list)
    """Since the last part; and so the fields below."""
    pauses: list[tuple[float, float]] = field(default_factory=list)
    interrupted_seconds: float = 0.0
    paused_since: float | None = None

    def close(self) -> None:
        """Forget what outlives it."""
        if self.processors is not None:
            self.processors.close()

    def ran(self, step: StepTime) -> None:
        """Note a step that computed something of it."""
        if self.paused_since is not None:
            self.pauses.append((self.paused_since, step.start - self.paused_since))
            self.paused_since = None
        self.steps.append(step)

    def waited(self, step: StepTime, *, prefill: bool) -> None:
        """Note a step that computed nothing of it."""
        if self.num_sent and prefill:
            self.interrupted_seconds += step.seconds
        if self.scheduled.stage is Stage.PAUSED and self.paused_since is None:
            self.paused_since = step.start

    def output(self, token_id: int, logprobs: list[TokenLogprobs]) -> GenerationOutput:
        """Return the part of the answer that a new token is."""
        first, self.num_sent = not self.num_sent, self.num_sent + 1
        made = GenerationOutput(
            self.index,
            [token_id],
            logprobs,
            str(self.scheduled.finish or ""),
            self.scheduled.cached_tokens if first else 0,
            self.prompt_logprobs if first else [],
            self.steps,
            self.pauses,
            self.interrupted_seconds,
            {str(reason): count for reason, count in self.scheduled.refusals.items()} if first else {},
        )
        self.steps, self.pauses, self.interrupted_seconds = [], [], 0.0
        return made


def stops(sequence: Sequence | None, token_id: int) -> bool:
    """Return whether a token ends a sequence; one that is gone has no end."""
    return sequence is not None and token_id in sequence.sampling.stop_token_ids
