"""What a request asks to be changed in its logits before a token is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from sendnn_pipeline.generation.messages import Sampling
from sendnn_pipeline.generation.sampling.guide import Guide


@dataclass(frozen=True)
class Processors:
    """Of one request; made once, applied to each row of logits in place."""

    sampling: Sampling
    num_prompt_tokens: int
    counts: torch.Tensor | None
    """How often each token is in the answer, ``[vocabulary]``; None where no penalty needs it."""
    in_prompt: torch.Tensor | None
    """Which tokens are in the prompt, ``[vocabulary]``."""
    bias: tuple[torch.Tensor, torch.Tensor] | None
    """Ids and what is added to their logits."""
    masked: torch.Tensor | None
    """Ids that are never allowed."""
    stops: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    guide: Guide | None = None
    """Of an answer that follows a grammar."""

    def apply(self, logits: torch.Tensor, token_ids: Sequence[int]) -> None:
        """Change ``logits`` ``[vocabulary]`` for what follows ``token_ids``, the prompt's and the answer's.

        Raises:
            ValueError: the grammar of the answer does not say what may follow.
        """
        asked = self.sampling
        # Where nothing but an end may come, it comes, however short the answer is.
        complete = self.guide is not None and self.guide.apply(logits)
        if self.masked is not None:
            logits[self.masked] = -torch.inf
        for word in asked.bad_words:
            if len(word) == 1 or list(token_ids[1 - len(word) :]) == word[:-1]:
                logits[word[-1]] = -torch.inf
        if not complete and len(token_ids) - self.num_prompt_tokens < asked.min_tokens:
            logits[self.stops] = -torch.inf
        if self.bias is not None:
            logits[self.bias[0]] += self.bias[1]
        if self.counts is not None:
            self._penalize(logits, self.counts)

    def chosen(self, token_id: int) -> None:
        """Count a token of the answer."""
        if self.counts is not None:
            self.counts[token_id] += 1
        if self.guide is not None and token_id not in self.sampling.stop_token_ids:
            self.guide.advance(token_id)

    def close(self) -> None:
        """Forget the answer."""
        if self.guide is not None:
            self.guide.end()

    def _penalize(self, logits: torch.Tensor, counts: torch.Tensor) -> None:
        asked, used = self.sampling, counts > 0
        if asked.repetition_penalty != 1.0:
            seen = used if self.in_prompt is None else used | self.in_prompt
            factor = torch.where(logits > 0, 1 / asked.repetition_penalty, asked.repetition_penalty)
            logits.copy_(torch.where(seen, logits * factor, logits))
        logits -= asked.frequency_penalty * counts
        logits -= asked.presence_penalty * used


def make_processors(
    sampling: Sampling, prompt: Sequence[int], vocab_size: int, guide: Guide | None = None
) -> Processors | None:
    """Return what changes the logits of a request; None where nothing does.

    Args:
        sampling: of the request.
        prompt: its token ids.
        vocab_size: of the logits.
        guide: of an answer that follows a grammar.
    """
    penalties = (sampling.repetition_penalty != 1.0, sampling.presence_penalty != 0, sampling.frequency_penalty != 0)
    needed = (sampling.logit_bias, sampling.allowed_token_ids, sampling.bad_words, sampling.min_tokens, *penalties)
    if guide is None and not any(needed):
        return None
    counts = torch.zeros(vocab_size) if any(penalties) else None
    in_prompt = None
    if penalties[0]:
        in_prompt = torch.zeros(vocab_size, dtype=torch.bool)
        in_prompt[list(prompt)] = True
    masked = None
    if sampling.allowed_token_ids:
        allowed = torch.zeros(vocab_size, dtype=torch.bool)
        allowed[sampling.allowed_token_ids] = True
        masked = (~allowed).nonzero().flatten()
    bias = None
    if sampling.logit_bias:
        bias = torch.tensor(list(sampling.logit_bias)), torch.tensor(list(sampling.logit_bias.values()))
    stops = torch.tensor(sampling.stop_token_ids, dtype=torch.int64)
    return Processors(sampling, len(prompt), counts, in_prompt, bias, masked, stops, guide)
