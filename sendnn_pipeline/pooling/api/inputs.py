"""The inputs of a pooling request: texts or token ids, checked, counted, truncated."""

from collections.abc import Callable, Sequence
from typing import Any

from sendnn_pipeline.frontend.call import Work
from sendnn_pipeline.frontend.endpoint import Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.frontend.truncation import Side
from sendnn_pipeline.pooling.api.field import INPUT, Field
from sendnn_pipeline.pooling.config import Task
from sendnn_pipeline.pooling.door import Door
from sendnn_pipeline.pooling.messages import PoolingRequest
from sendnn_pipeline.pooling.plan import MAX_INPUTS, PoolingPlan, pooling_plan

TASK_GIVES = {Task.embed: "embeddings", Task.classify: "labels or scores of pairs"}

EmbeddingInput = str | list[str | int | list[int]]


def plan_of(front: Frontend) -> PoolingPlan:
    """Return the plan of the run that is served."""
    return pooling_plan(front.run)


def check_task(front: Frontend, task: str, route: str) -> None:
    """Refuse what the model cannot do.

    Raises:
        RequestError: 400.
    """
    served = plan_of(front).task
    if served != task:
        wanted = TASK_GIVES.get(Task(task), task) if task in list(Task) else task
        raise RequestError(
            400,
            f"{front.run.served_name} gives {TASK_GIVES[served]}, and {route} needs a model of {wanted}",
            code="unsupported_task",
        )


def prepare_items(
    items: list[list[int]], field: Field, name_of: Callable[[int], str], offsets: Sequence[int] = ()
) -> Prepared:
    """Return what the engine is sent for token ids, and how much work that is.

    Args:
        items: token ids.
        field: that asks for so many.
        name_of: names an item by its index.
        offsets: of each item, the tokens of its prompt, which are not pooled.
    """
    request = PoolingRequest(items, list(offsets))
    return Prepared(request, Work(len(items), sum(map(len, items)), field.name, name_of))


async def encode_inputs(
    front: Frontend,
    inputs: EmbeddingInput,
    truncate: int | None,
    *,
    field: Field = INPUT,
    side: Side = "right",
    prompt: str = "",
    special: bool = True,
) -> list[list[int]]:
    """Return the token ids of every text of ``inputs``.

    Args:
        front: tokenizer and limits.
        inputs: a string, a list of strings, token ids, or a list of those.
        truncate: ``truncate_prompt_tokens``: cut to so many tokens, -1 to as many as fit; None refuses longer ones.
        field: whose they are, for errors.
        side: which side of a text is cut.
        prompt: goes before every text; token ids stay as they are.
        special: whether texts get their special tokens; token ids have what they have.

    Raises:
        RequestError: 400, naming the field or the one item that is at fault.
    """
    truncate_to = resolve_truncation(front, truncate)
    items = _as_items(inputs, field.name)
    if isinstance(items[0], str):
        texts = [prompt + text for text in check_texts(items, field)]
        try:
            ids = await front.tokenizer.encode(
                texts, truncate_to, special=special, side=side, fits=front.max_input_tokens
            )
        except TooLongError as error:
            raise too_long(front, field.item(error.index), error.what) from None
        except (UnicodeEncodeError, TypeError) as error:
            raise not_unicode(field.name, error) from None
    else:
        check_count(items, field.name)
        too_many = next((i for i, item in enumerate(items) if len(item) > front.max_input_tokens), None)
        if truncate_to is None and too_many is not None:
            # Before the ids themselves are looked at: there may be millions.
            raise too_long(front, field.item(too_many), f"{len(items[too_many])} tokens")
        ids = [_truncate(item, truncate_to, side) for item in items]
    check_ids(front, ids, field.item)
    return ids


def resolve_truncation(front: Frontend, truncate: int | None, *, pairs: bool = False) -> int | None:
    """Return the most tokens of an item, special ones included; None where nothing is to be cut.

    Args:
        front: tokenizer and limits.
        truncate: ``truncate_prompt_tokens``.
        pairs: whether an item is a pair of texts.

    Raises:
        RequestError: 400, it is not such a number.
    """
    if truncate is None:
        return None
    if truncate == -1:
        return front.max_input_tokens
    smallest = 1 + (front.tokenizer.num_special_of_pair if pairs else front.tokenizer.num_special)
    if not smallest <= truncate <= front.max_input_tokens:
        raise RequestError(
            400,
            f"truncate_prompt_tokens={truncate} must be -1 or from {smallest} to {front.max_input_tokens}",
            param="truncate_prompt_tokens",
            code="invalid_value",
        )
    return truncate


def _as_items(inputs: EmbeddingInput, name: str) -> Sequence[Any]:
    if isinstance(inputs, str):
        return [inputs]
    if not inputs:
        raise RequestError(400, f"{name} is empty", param=name, code="empty_input")
    kinds = set(map(type, inputs))
    if len(kinds) > 1:
        message = f"{name} mixes texts, token ids and lists; use one kind"
        raise RequestError(400, message, param=name, code="invalid_value")
    return [inputs] if kinds == {int} else inputs


def check_texts(texts: Sequence[str], field: Field) -> Sequence[str]:
    """Refuse too many texts, none, or an empty one.

    Raises:
        RequestError: 400.
    """
    if not texts:
        raise RequestError(400, f"{field.name} is empty", param=field.name, code="empty_input")
    check_count(texts, field.name)
    empty = next((index for index, text in enumerate(texts) if not text), None)
    if empty is not None:
        param = field.item(empty)
        raise RequestError(400, f"{param} is an empty string", param=param, code="empty_input")
    return texts


def check_count(items: Sequence[Any], name: str) -> None:
    """Refuse too many items.

    Raises:
        RequestError: 400.
    """
    if len(items) > MAX_INPUTS:
        raise RequestError(
            400, f"{name} has {len(items)} items and {MAX_INPUTS} is the most", param=name, code="too_many_items"
        )


def check_ids(
    front: Frontend, items: Sequence[Sequence[int]], name_of: Callable[[int], str], *, pairs: bool = False
) -> None:
    """Refuse token ids that the engine would refuse, by the name that the client gave them.

    Args:
        front: limits.
        items: token ids.
        name_of: names an item by its index.
        pairs: whether each item is a pair of texts.

    Raises:
        RequestError: 400, naming the item that is at fault.
    """
    fault = Door(front.run.model.vocab_size, front.max_input_tokens).find_fault(items)
    if fault is None:
        return
    param = name_of(fault.index)
    if fault.code == "context_length_exceeded":
        raise too_long(front, param, f"{len(items[fault.index])} tokens", pair=pairs)
    raise RequestError(400, f"{param} {fault.message}", param=param, code=fault.code)


def _truncate(ids: list[int], max_tokens: int | None, side: Side) -> list[int]:
    return ids[-max_tokens:] if side == "left" and max_tokens is not None else ids[:max_tokens]


def not_unicode(name: str, error: Exception) -> RequestError:
    """Return the error for a text with lone surrogates."""
    return RequestError(400, f"{name} is not valid Unicode: {error}", param=name, code="invalid_value")


def too_long(front: Frontend, param: str, what: str, *, pair: bool = False) -> RequestError:
    """Return the error for an item that no Program takes."""
    model_len = front.run.config.model.max_model_len
    whose = f"{param} with its query has" if pair else f"{param} has"
    return RequestError(
        400,
        f"{whose} {what}; the longest Program takes {front.max_input_tokens} "
        f"(the model {model_len}). Shorten it, or ask for it to be cut "
        "(truncate_prompt_tokens, or truncate where that is the form)",
        param=param,
        code="context_length_exceeded",
    )
