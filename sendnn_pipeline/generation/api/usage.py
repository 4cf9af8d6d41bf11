"""What a request took, in tokens."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.answers import Answer
from sendnn_pipeline.generation.api.fields import GenerationFields
from sendnn_pipeline.generation.api.report import spyre_metrics
from sendnn_pipeline.generation.plan import generation_plan


class PromptDetails(TypedDict):
    """Of the prompts."""

    cached_tokens: int
    """That were not computed again."""


class GenerationUsage(TypedDict):
    """Real tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


def usage_of(answers: Sequence[Answer], num_answers: int, *, generates: bool = True) -> GenerationUsage:
    """Return the usage object so far.

    Args:
        answers: of a request.
        num_answers: to each prompt, which counts once.
        generates: whether the answers have tokens of their own.
    """
    firsts = answers[::num_answers]
    prompt_tokens = sum(len(answer.prompt) for answer in firsts)
    generated = sum(len(answer.whole.token_ids) for answer in answers) if generates else 0
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": prompt_tokens + generated,
        "prompt_tokens_details": {"cached_tokens": sum(answer.cached_tokens for answer in firsts)},
    }


def measured(front: Frontend, call: Call, answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what the last event of a stream says of the steps, where ``metrics.request_details`` asks for it.

    Several answers are a list in their order.
    """
    if not front.run.config.metrics.request_details:
        return {}
    chunk_size = generation_plan(front.run).rules.chunk_size
    found = [spyre_metrics(call, answer.course, len(answer.prompt), chunk_size) for answer in answers]
    return {"spyre_metrics": found[0] if len(found) == 1 else found}


def usage_of_chunk(
    body: GenerationFields, answers: Sequence[Answer], *, generates: bool = True
) -> dict[str, GenerationUsage | None]:
    """Return what a chunk of a stream says of usage: nothing unless it is asked for, null where it comes at the end."""
    options = body.stream_options
    if options is None or not (options.include_usage or options.continuous_usage_stats):
        return {}
    every = options.continuous_usage_stats
    return {"usage": usage_of(answers, body.n, generates=generates) if every else None}
