"""How tokens are chosen: a request's own fields over the model's defaults, checked."""

import math
import secrets
from typing import Any

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.fields import NOT_THERE, GenerationFields
from sendnn_pipeline.generation.api.grammar_text import Grammar
from sendnn_pipeline.generation.api.refusals import check_count, check_ids, check_unset, empty, invalid, unsupported
from sendnn_pipeline.generation.api.structured import grammar_of
from sendnn_pipeline.generation.messages import Sampling
from sendnn_pipeline.generation.plan import generation_plan

MAX_STOPS, MAX_STOP_CHARS = 64, 512
MAX_BAD_WORDS, MAX_BAD_WORD_CHARS = 128, 256
MAX_STOP_IDS = MAX_BIASES = 1024
MOST_BIAS, MAX_DIGITS = 100, 10
# What divides by less has no finite result.
SMALLEST_TEMPERATURE = 1e-5
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


def check_fields(front: Frontend, body: GenerationFields) -> None:
    """Refuse what is out of range in the fields that completions and chats have in common.

    Raises:
        RequestError: 400, naming the field; 404, another model is asked for.
    """
    front.check_model(body.model)
    check_unset(body, NOT_THERE)
    for name in NUMBERS:
        value = getattr(body, name)
        if value is not None and not math.isfinite(value):
            raise invalid(name, f"is {value}, which is not a finite number")
    if body.priority:
        raise unsupported(
            "priority", f"is {body.priority}, and requests are taken in the order of their arrival: use 0"
        )
    if body.cache_salt is not None and not body.cache_salt:
        raise empty("cache_salt")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "is for streams: set stream")
    if body.stream and body.prompt_logprobs is not None:
        raise invalid("prompt_logprobs", "is not for streams")
    for name, most, most_chars in (
        ("stop", MAX_STOPS, MAX_STOP_CHARS),
        ("bad_words", MAX_BAD_WORDS, MAX_BAD_WORD_CHARS),
    ):
        texts = texts_of(getattr(body, name))
        check_count(texts, most, name)
        if not all(texts):
            raise RequestError(400, f"{name} has an empty string", param=name, code="empty_input")
        if max(map(len, texts), default=0) > most_chars:
            raise invalid(name, f"has a string of more than {most_chars} characters")
    vocab_size = front.run.model.vocab_size
    check_count(body.stop_token_ids or (), MAX_STOP_IDS, "stop_token_ids")
    check_ids(body.stop_token_ids or (), vocab_size, "stop_token_ids")
    check_count(body.allowed_token_ids or (), vocab_size, "allowed_token_ids")
    check_ids(body.allowed_token_ids or (), vocab_size, "allowed_token_ids")
    if body.allowed_token_ids is not None and not body.allowed_token_ids:
        raise empty("allowed_token_ids")
    _logit_bias(front, body)


def texts_of(value: str | list[str] | None) -> list[str]:
    """Return one text, several or none as a list."""
    return [] if value is None else [value] if isinstance(value, str) else value


def _logit_bias(front: Frontend, body: GenerationFields) -> dict[int, float]:
    bias: dict[int, float] = {}
    check_count(list(body.logit_bias or ()), MAX_BIASES, "logit_bias")
    for token, value in (body.logit_bias or {}).items():
        if not str(token).isdecimal() or len(str(token)) > MAX_DIGITS:
            raise invalid("logit_bias", f"has {str(token)[:MAX_DIGITS]!r}, which is no token id")
        if not -MOST_BIAS <= value <= MOST_BIAS:
            raise invalid("logit_bias", f"adds {value} to token {token}; from -{MOST_BIAS} to {MOST_BIAS} may be")
        bias[int(token)] = value
    check_ids(list(bias), front.run.model.vocab_size, "logit_bias")
    return bias


def end_ids(front: Frontend, body: GenerationFields) -> list[int]:
    """Return the tokens that end a text without being asked for."""
    vocab_size = front.run.model.vocab_size
    known = generation_plan(front.run).facts.end_ids
    return [] if body.ignore_eos else [token_id for token_id in known if 0 <= token_id < vocab_size]


async def sampling_of(
    front: Frontend, body: GenerationFields, logprobs: int | None, grammar: Grammar | None = None
) -> Sampling:
    """Return what the engine is told; ``check_fields`` has nothing against ``body``.

    Args:
        front: knows the model's defaults and the tokenizer.
        body: of the request.
        logprobs: alternatives to report beside each token; None reports nothing.
        grammar: that answers follow for what else the request asks, such as the call of a tool.

    Raises:
        RequestError: 400, no token is allowed, or a grammar is invalid.
    """
    temperature = _chosen(front, body, "temperature", 1.0)
    stop_ids = {*end_ids(front, body), *(body.stop_token_ids or ())}
    bad_words = await _bad_words(front, body.bad_words or [])
    never = {word[0] for word in bad_words if len(word) == 1} | (stop_ids if body.min_tokens else set())
    if body.allowed_token_ids and never >= set(body.allowed_token_ids):
        raise invalid("allowed_token_ids", "has no token that bad_words and min_tokens allow")
    return Sampling(
        temperature=temperature if temperature >= SMALLEST_TEMPERATURE else 0.0,
        top_p=_chosen(front, body, "top_p", 1.0),
        top_k=max(0, _chosen(front, body, "top_k", 0)),
        min_p=_chosen(front, body, "min_p", 0.0),
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        repetition_penalty=_chosen(front, body, "repetition_penalty", 1.0),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=_logit_bias(front, body),
        allowed_token_ids=sorted(set(body.allowed_token_ids or ())),
        bad_words=bad_words,
        stop_token_ids=sorted(stop_ids),
        min_tokens=body.min_tokens,
        logprobs=-1 if logprobs is None else logprobs,
        prompt_logprobs=-1 if body.prompt_logprobs is None else body.prompt_logprobs,
        grammar=await grammar_of(front, body, grammar),
    )


def _chosen(front: Frontend, body: GenerationFields, name: str, otherwise: Any) -> Any:
    value = getattr(body, name)
    return generation_plan(front.run).facts.defaults.get(name, otherwise) if value is None else value


async def _bad_words(front: Frontend, words: list[str]) -> list[list[int]]:
    """Return the tokens of each word, at the beginning of a text and behind a blank."""
    bare = [word.lstrip() or word for word in words]
    if not bare:
        return []
    ids = await front.tokenizer.encode([*bare, *(f" {word}" for word in bare)], None, special=False)
    first, behind = ids[: len(bare)], ids[len(bare) :]
    # Behind a blank that is a token of its own, the word is the same as at the beginning.
    others = [two for one, two in zip(first, behind, strict=True) if len(one) == len(two) and one[0] != two[0]]
    # A token that has no logits never comes.
    vocab_size = front.run.model.vocab_size
    return [word for word in (*first, *others) if word and max(word) < vocab_size]
