"""The input of a pooling request: texts or token ids, checked, counted, cut."""

from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.state import ServerState

MAX_INPUTS = 2048

type_input = str | list[str | int | list[int]]


async def token_ids_of(state: ServerState, given: type_input, truncate: int | None) -> list[list[int]]:
    """Return the token ids of every text of ``given``.

    Args:
        state: tokenizer and limits.
        given: a string, a list of strings, token ids, or a list of those.
        truncate: ``truncate_prompt_tokens``: cut to so many tokens, -1 to as many as fit; None refuses longer ones.

    Raises:
        ApiError: 400, naming ``input`` or the one item that is at fault.
    """
    truncate_to = _limit(state, truncate)
    items = _as_items(given)
    if isinstance(items[0], str):
        texts = _texts(items)
        try:
            ids = await state.tokenizer.encode(texts, truncate_to)
        except (UnicodeEncodeError, TypeError) as error:
            raise ApiError(400, f"input is no valid Unicode: {error}", param="input", code="invalid_value") from None
    else:
        ids = [_checked(state, index, item)[:truncate_to] for index, item in enumerate(items)]
    for index, item in enumerate(ids):
        if len(item) > state.longest:
            raise _too_long(state, index, len(item))
    return ids


def _limit(state: ServerState, truncate: int | None) -> int | None:
    if truncate is None:
        return None
    if truncate == -1:
        return state.longest
    if not state.tokenizer.num_special < truncate <= state.longest:
        raise ApiError(
            400,
            f"truncate_prompt_tokens={truncate} must be -1 or from {state.tokenizer.num_special + 1} "
            f"to {state.longest}",
            param="truncate_prompt_tokens",
            code="invalid_value",
        )
    return truncate


def _as_items(given: type_input) -> Sequence[Any]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise ApiError(400, "input is empty", param="input", code="invalid_value")
    kinds = {type(item) for item in given}
    if len(kinds) > 1:
        raise ApiError(400, "input mixes texts, token ids and lists; use one kind", param="input", code="invalid_value")
    if kinds == {int}:
        return [given]
    if len(given) > MAX_INPUTS:
        raise ApiError(
            400, f"input has {len(given)} items and {MAX_INPUTS} is the most", param="input", code="invalid_value"
        )
    return given


def _texts(items: Sequence[str]) -> Sequence[str]:
    empty = next((index for index, text in enumerate(items) if not text), None)
    if empty is not None:
        raise ApiError(400, f"input[{empty}] is an empty string", param=f"input[{empty}]", code="invalid_value")
    return items


def _checked(state: ServerState, index: int, ids: list[int]) -> list[int]:
    if not ids:
        raise ApiError(400, f"input[{index}] has no token ids", param=f"input[{index}]", code="invalid_value")
    vocab_size = state.run.model.vocab_size
    if min(ids) < 0 or max(ids) >= vocab_size:
        wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
        raise ApiError(
            400,
            f"input[{index}] has token id {wrong}; the vocabulary ends at {vocab_size - 1}",
            param=f"input[{index}]",
            code="invalid_value",
        )
    return ids


def _too_long(state: ServerState, index: int, num_tokens: int) -> ApiError:
    model_len = state.run.config.model.max_model_len
    return ApiError(
        400,
        f"input[{index}] has {num_tokens} tokens; the longest Program takes {state.longest} "
        f"(the model {model_len}). Shorten it or set truncate_prompt_tokens",
        param=f"input[{index}]",
        code="context_length_exceeded",
    )
