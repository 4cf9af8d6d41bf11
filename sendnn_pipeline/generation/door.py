"""What a request must be for steps to take it, whatever way it came. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sendnn_pipeline.engines.vocabulary import why_outside
from sendnn_pipeline.generation.messages import GenerationRequest, Sampling
from sendnn_pipeline.generation.rules import Rules


@dataclass(frozen=True)
class Fault:
    """What is wrong with one prompt of a request, or, at index -1, with the request."""

    index: int
    message: str
    """Follows the prompt's name."""


@dataclass(frozen=True)
class Door:
    """The bounds of embedding, logits and context: what is past them would end the engine, not the request."""

    vocab_size: int
    rules: Rules

    def find_fault(self, request: GenerationRequest) -> Fault | None:
        """Return the first fault of a request; None where every prompt can be computed and followed."""
        if not request.prompts or len(request.prompts) != len(request.max_tokens):
            counts = f"{len(request.prompts)} prompts and {len(request.max_tokens)} lengths"
            return Fault(-1, f"it has {counts}; both must be as many, and 1 or more")
        for index, (prompt, most) in enumerate(zip(request.prompts, request.max_tokens, strict=True)):
            wrong = why_outside(prompt, self.vocab_size)
            if wrong:
                return Fault(index, wrong)
            never = self.rules.why_never(len(prompt), most)
            if never:
                return Fault(index, f"has {never}")
        wrong = why_outside(_ids_of(request.sampling), self.vocab_size)
        return Fault(-1, f"its sampling {wrong}") if wrong else None


def _ids_of(sampling: Sampling) -> Sequence[int]:
    """Return all that index logits."""
    parts = (sampling.logit_bias, sampling.allowed_token_ids, sampling.stop_token_ids, *sampling.bad_words)
    return list(chain.from_iterable(parts))
