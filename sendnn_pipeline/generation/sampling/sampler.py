"""The next token of each sequence of a step."""

from dataclasses import dataclass

from sendnn_pipeline.generation.messages import TokenLogprobs
from sendnn_pipeline.generation.runner import Logits
from sendnn_pipeline.generation.sampling.choose import choose
from sendnn_pipeline.generation.sampling.logprobs import token_logprobs
from sendnn_pipeline.generation.sequence import Sequence

NOTHING_LEFT = "no token is allowed here by grammar, logit_bias, allowed_token_ids, bad_words and min_tokens"


@dataclass(frozen=True)
class Sampled:
    """A token, and how likely it was where that was asked for."""

    token_id: int
    logprobs: list[TokenLogprobs]


def sample(logits: Logits, row: int, sequence: Sequence) -> Sampled:
    """Choose the token that follows a sequence.

    Raises:
        ValueError: nothing is left to choose from.
    """
    sampling, processors, scheduled = sequence.sampling, sequence.processors, sequence.scheduled
    token = logits.greedy[row]
    if processors is not None or sampling.temperature > 0:
        values = logits.rows[row]
        if processors is not None:
            values = values.clone()
            processors.apply(values, scheduled.token_ids)
            if values.max() == float("-inf"):
                raise ValueError(NOTHING_LEFT)
        token = choose(values, sampling, len(scheduled.token_ids))
    if processors is not None:
        processors.chosen(token)
    logprobs = token_logprobs(logits.rows[row : row + 1], [token], sampling.logprobs) if sampling.logprobs >= 0 else []
    return Sampled(token, logprobs)
