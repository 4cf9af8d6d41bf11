"""The prompts of a completion: a text, token ids, or several of either."""

from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.prompts import encode_prompts
from sendnn_pipeline.generation.api.refusals import check_count, check_ids, empty, invalid

MAX_PROMPTS = 1024
Prompts = str | list[str | int | list[int]]


def name_of_prompt(prompts: Prompts, index: int) -> str:
    """Return how a client knows a prompt."""
    several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    return f"prompt[{index}]" if several else "prompt"


async def encode_completion(
    front: Frontend, prompts: Prompts, truncate_to: int | None, *, special: bool
) -> list[list[int]]:
    """Return the token ids of every prompt.

    Args:
        front: knows the tokenizer and the limits.
        prompts: as the client wrote them.
        truncate_to: tokens that are left of each, of its end; None refuses what is too long.
        special: whether to put the special tokens around texts.

    Raises:
        RequestError: 400, naming the prompt that is at fault.
    """
    items = _items(prompts)
    check_count(items, MAX_PROMPTS, "prompt")

    def name_of(index: int) -> str:
        return name_of_prompt(prompts, index)

    for index, item in enumerate(items):
        if not item:
            raise RequestError(400, f"{name_of(index)} is empty", param=name_of(index), code="empty_input")
    if isinstance(items[0], str):
        return await encode_prompts(front, items, truncate_to, name_of, special=special)
    ids = [item if truncate_to is None else item[-truncate_to:] for item in items]
    for index, item in enumerate(ids):
        check_ids(item, front.run.model.vocab_size, name_of(index))
    return ids


def _items(prompts: Prompts) -> Sequence[Any]:
    if isinstance(prompts, str):
        return [prompts]
    if not prompts:
        raise empty("prompt")
    kinds = set(map(type, prompts))
    if len(kinds) > 1:
        raise invalid("prompt", "mixes texts, token ids and lists; use one kind")
    return [prompts] if kinds == {int} else prompts
