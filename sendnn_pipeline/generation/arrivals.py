"""From a request to its sequences: one for each answer to each prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import msgspec

from sendnn_pipeline.generation.grammar.grammars import Grammars
from sendnn_pipeline.generation.messages import GenerationRequest
from sendnn_pipeline.generation.sampling.guide import begin_guide
from sendnn_pipeline.generation.sampling.processors import make_processors
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.sequence import Sequence
from sendnn_pipeline.messages import Request


@dataclass
class Arrivals:
    """Numbers sequences as they come, and queues them."""

    scheduler: Scheduler
    grammars: Grammars
    vocab_size: int
    _ids: "count[int]" = field(default_factory=count)

    def begin(
        self, message: Request, request: GenerationRequest, marks: Mapping[int, int], now: float
    ) -> dict[int, Sequence]:
        """Queue the sequences of a request, and return them by the scheduler's ids.

        Args:
            message: that brought it.
            request: checked.
            marks: what stands for the places of images where prefixes are compared.
            now: seconds of the monotonic clock.
        """
        begun = {}
        for index, (prompt, most) in enumerate(zip(request.prompts, request.max_tokens, strict=True)):
            for answer in range(request.n):
                scheduler_id = next(self._ids)
                sampling = msgspec.structs.replace(request.sampling, seed=request.sampling.seed + answer)
                # What is reported of every token of a prompt cannot be taken from the cache.
                salt = request.salt if sampling.prompt_logprobs < 0 else scheduler_id.to_bytes(8, "little")
                guide = begin_guide(self.grammars, scheduler_id, sampling.grammar)
                awaited = (guide is not None) + bool(marks)
                begun[scheduler_id] = Sequence(
                    message.request_id,
                    index * request.n + answer,
                    index,
                    sampling,
                    self.scheduler.add(scheduler_id, prompt, most, salt=salt, marks=marks, is_ready=not awaited),
                    make_processors(sampling, prompt, self.vocab_size, guide),
                    now,
                    message.deadline,
                    awaited,
                )
        return begun
