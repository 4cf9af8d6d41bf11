"""Prompts as token ids, and how long their answers may be."""

from collections.abc import Callable, Sequence

from sendnn_pipeline.errors import counted
from sendnn_pipeline.frontend.call import Work
from sendnn_pipeline.frontend.endpoint import Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.generation.api.fields import GenerationFields
from sendnn_pipeline.generation.api.refusals import check_ids, invalid, too_long
from sendnn_pipeline.generation.messages import GenerationRequest, PromptImage, Sampling
from sendnn_pipeline.generation.plan import generation_plan

NameOf = Callable[[int], str]
"""Names a prompt by its index, as the client knows it."""


def prepare_prompts(
    front: Frontend,
    body: GenerationFields,
    prompts: list[list[int]],
    *,
    sampling: Sampling,
    max_tokens: int | None,
    name_of: NameOf,
    limit: str = "max_tokens",
    images: Sequence[PromptImage] = (),
) -> Prepared:
    """Return what the engine is sent.

    Args:
        front: knows the limits.
        body: of the request.
        prompts: token ids of each.
        sampling: how tokens are chosen.
        max_tokens: most tokens of each answer; None is what the model's files say, or what is left.
        name_of: names a prompt.
        limit: the field that ``max_tokens`` comes from.
        images: of the only prompt.

    Raises:
        RequestError: 400, a prompt is longer than the context, or is so together with its answer.
    """
    lengths = [_length(front, ids, max_tokens, name_of(index), limit) for index, ids in enumerate(prompts)]
    shortest = min(lengths)
    if sampling.min_tokens > shortest:
        raise invalid("min_tokens", f"is {sampling.min_tokens}, and an answer has {shortest} tokens at most")
    salt = (body.cache_salt or "").encode("utf-8", "surrogatepass")
    request = GenerationRequest(prompts, lengths, sampling, body.n, salt, list(images))
    most = front.run.config.serve.max_queue
    param = "n" if len(prompts) <= most else name_of(0).partition("[")[0]
    return Prepared(request, Work(len(prompts) * body.n, sum(map(len, prompts)), param, name_of))


def _length(front: Frontend, ids: Sequence[int], max_tokens: int | None, param: str, limit: str) -> int:
    """Return the most tokens of the answer to a prompt, which must have room for them."""
    plan = generation_plan(front.run)
    context, room = plan.rules.max_model_len, plan.rules.max_output_tokens(len(ids))
    if room < 1:
        raise too_long(
            param,
            f"{param} has {len(ids)} tokens, and the context of {context} leaves room for {context - 1} and an answer "
            "of one; shorten it, or ask for its end with truncate_prompt_tokens",
        )
    if max_tokens is None:
        wanted = plan.facts.defaults.get("max_new_tokens")
        return min(room, wanted) if wanted else room
    if max_tokens > room:
        raise too_long(
            limit,
            f"{param} has {counted(len(ids), 'token')} and {limit} is {max_tokens}: together {len(ids) + max_tokens}, "
            f"more than the context of {context}, which leaves the answer {counted(room, 'token')}",
        )
    return max_tokens


async def encode_prompts(
    front: Frontend, texts: Sequence[str], truncate_to: int | None, name_of: NameOf, *, special: bool
) -> list[list[int]]:
    """Return the token ids of texts.

    Args:
        front: knows the tokenizer.
        texts: none of them empty.
        truncate_to: tokens that are left of each, of its end; None refuses what is too long.
        name_of: names a prompt.
        special: whether to put the special tokens around them.

    Raises:
        RequestError: 400, a text is too long, is not Unicode, has no tokens, or one that the model has not.
    """
    fits = front.max_input_tokens
    try:
        encoded = await front.tokenizer.encode(texts, truncate_to, special=special, side="left", fits=fits)
    except TooLongError as error:
        param = name_of(error.index)
        context = generation_plan(front.run).rules.max_model_len
        raise too_long(param, f"{param} has {error.what}, and the context is {context}") from None
    except (UnicodeEncodeError, TypeError) as error:
        raise invalid(name_of(0), f"is not valid Unicode: {error}") from None
    if special:
        encoded = [_begun_once(front, ids, text) for ids, text in zip(encoded, texts, strict=True)]
    for index, ids in enumerate(encoded):
        if not ids:
            raise RequestError(400, f"{name_of(index)} has no tokens", param=name_of(index), code="empty_input")
        check_ids(ids, front.run.model.vocab_size, name_of(index))
    return encoded


def _begun_once(front: Frontend, ids: list[int], text: str) -> list[int]:
    """Take the begin-of-text away that the tokenizer put before a text with one of its own."""
    doubled = len(ids) > 1 and ids[0] == ids[1] and front.tokenizer.is_special(ids[0])
    own = doubled and text.startswith(front.tokenizer.text_of(ids[:1], skip_special=False))
    return ids[1:] if own else ids


def truncation_of(front: Frontend, body: GenerationFields, max_tokens: int | None) -> int | None:
    """Return how many tokens of a prompt's end are read; None where nothing is cut.

    Raises:
        RequestError: 400, that is no such number.
    """
    asked = body.truncate_prompt_tokens
    if asked is None:
        return None
    most = front.max_input_tokens
    if asked == -1:
        return max(1, most + 1 - max(1, max_tokens or 1))
    if not 1 <= asked <= most:
        raise invalid("truncate_prompt_tokens", f"is {asked}; it must be -1 or from 1 to {most}")
    return asked
