"""The fields that completions and chats have in common."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sendnn_pipeline.frontend.bodies import MOST, CountOrFitting
from sendnn_pipeline.generation.api.structured_fields import ResponseFormat, StructuredOutputs

MAX_ANSWERS = 128
MAX_LOGPROBS = 20
LONG = 2**63
Number = Annotated[int, Meta(ge=0, le=MOST)]
NumLogprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]


class StreamOptions(msgspec.Struct):
    """What a stream has beside its text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationFields(msgspec.Struct, kw_only=True):
    """As vLLM has them. What is not set is the model's own, as its generation_config.json says, or does nothing."""

    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] = 1
    max_tokens: Number | None = None
    min_tokens: Number = 0
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MOST)] | None = None
    """-1 and 0 are all."""
    min_p: Share | None = None
    # With next to nothing, logits are infinite.
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    seed: Annotated[int, Meta(ge=-LONG, le=LONG - 1)] | None = None
    logit_bias: dict[str | int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    """Fast tokenizers, which are the only ones here, have no such choice."""
    prompt_logprobs: NumLogprobs | None = None
    return_tokens_as_token_ids: bool = False
    return_token_ids: bool = False
    truncate_prompt_tokens: CountOrFitting | None = None
    """Keep so many tokens of the prompt's end; -1 as many as fit."""
    cache_salt: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    priority: Annotated[int, Meta(ge=-MOST, le=MOST)] = 0
    """Only 0: requests are taken in the order of their arrival."""
    user: str | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # vLLM's older names.
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_whitespace_pattern: str | None = None
    # What is refused, rather than ignored.
    use_beam_search: bool = False
    logits_processors: Any = None


NOT_THERE = ("use_beam_search", "logits_processors")
"""Fields of all that must not be set."""
