"""The inputs of a pooling request: texts, token ids or pairs, checked, counted, cut."""

from collections.abc import Sequence
from typing import Any

from sendnn_pipeline.server.cut import Cut, type_side
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.scoring import PairItems, Pairs, items_of
from sendnn_pipeline.server.state import ServerState

MAX_INPUTS = 2048

type_input = str | list[str | int | list[int]]


async def token_ids_of(
    state: ServerState, given: type_input, truncate: int | None, *, name: str = "input", side: type_side = "right"
) -> list[list[int]]:
    """Return the token ids of every text of ``given``.

    Args:
        state: tokenizer and limits.
        given: a string, a list of strings, token ids, or a list of those.
        truncate: ``truncate_prompt_tokens``: cut to so many tokens, -1 to as many as fit; None refuses longer ones.
        name: of the field, for errors.
        side: which side of a text is cut.

    Raises:
        ApiError: 400, naming the field or the one item that is at fault.
    """
    truncate_to = limit_of(state, truncate)
    items = _as_items(given, name)
    if isinstance(items[0], str):
        texts = checked_texts(items, name)
        try:
            ids = await state.tokenizer.encode(texts, truncate_to, side=side)
        except (UnicodeEncodeError, TypeError) as error:
            raise _no_unicode(name, error) from None
    else:
        ids = [_cut(_checked(state, index, item, name), truncate_to, side) for index, item in enumerate(items)]
    for index, item in enumerate(ids):
        if len(item) > state.longest:
            raise _too_long(state, f"{name}[{index}]", len(item))
    return ids


async def pair_items_of(state: ServerState, pairs: Pairs, cut: Cut, names: tuple[str, str]) -> PairItems:
    """Return the token ids of pairs.

    Args:
        state: tokenizer and limits.
        pairs: the texts.
        cut: how much of each is kept.
        names: of both fields, for errors.

    Raises:
        ApiError: 400, naming the text that is at fault.
    """
    for texts, name in ((pairs.firsts, names[0]), (pairs.seconds, names[1])):
        checked_texts(texts, name)
    try:
        asked = await items_of(state.run, state.tokenizer, pairs, cut)
    except (UnicodeEncodeError, TypeError) as error:
        raise _no_unicode(" or ".join(names), error) from None
    num_firsts = 0 if state.run.classifies else len(pairs.firsts)
    for index, item in enumerate(asked.items):
        if len(item) > state.longest:
            place = f"{names[0]}[{index}]" if index < num_firsts else f"{names[1]}[{index - num_firsts}]"
            raise _too_long(state, place, len(item), pair=not num_firsts)
    return asked


def limit_of(state: ServerState, truncate: int | None, *, pairs: bool = False) -> int | None:
    """Return the most tokens of an item, special ones included; None where nothing is to be cut.

    Args:
        state: tokenizer and limits.
        truncate: ``truncate_prompt_tokens``.
        pairs: whether an item is a pair of texts.

    Raises:
        ApiError: 400, it is no such number.
    """
    if truncate is None:
        return None
    if truncate == -1:
        return state.longest
    least = 1 + (state.tokenizer.num_special_of_pair if pairs else state.tokenizer.num_special)
    if not least <= truncate <= state.longest:
        raise ApiError(
            400,
            f"truncate_prompt_tokens={truncate} must be -1 or from {least} to {state.longest}",
            param="truncate_prompt_tokens",
            code="invalid_value",
        )
    return truncate


def _as_items(given: type_input, name: str) -> Sequence[Any]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise ApiError(400, f"{name} is empty", param=name, code="empty_input")
    kinds = {type(item) for item in given}
    if len(kinds) > 1:
        raise ApiError(400, f"{name} mixes texts, token ids and lists; use one kind", param=name, code="invalid_value")
    return [given] if kinds == {int} else given


def checked_texts(texts: Sequence[str], name: str) -> Sequence[str]:
    """Refuse too many texts, none, or an empty one.

    Raises:
        ApiError: 400.
    """
    if not texts:
        raise ApiError(400, f"{name} is empty", param=name, code="empty_input")
    check_count(texts, name)
    empty = next((index for index, text in enumerate(texts) if not text), None)
    if empty is not None:
        place = f"{name}[{empty}]"
        raise ApiError(400, f"{place} is an empty string", param=place, code="empty_input")
    return texts


def check_count(items: Sequence[Any], name: str) -> None:
    """Refuse too many items.

    Raises:
        ApiError: 400.
    """
    if len(items) > MAX_INPUTS:
        raise ApiError(
            400, f"{name} has {len(items)} items and {MAX_INPUTS} is the most", param=name, code="too_many_items"
        )


def _checked(state: ServerState, index: int, ids: list[int], name: str) -> list[int]:
    place = f"{name}[{index}]"
    if not ids:
        raise ApiError(400, f"{place} has no token ids", param=place, code="invalid_value")
    vocab_size = state.run.model.vocab_size
    if min(ids) < 0 or max(ids) >= vocab_size:
        wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
        raise ApiError(
            400,
            f"{place} has token id {wrong}; the vocabulary ends at {vocab_size - 1}",
            param=place,
            code="invalid_value",
        )
    return ids


def _cut(ids: list[int], most: int | None, side: type_side) -> list[int]:
    return ids[-most:] if side == "left" and most is not None else ids[:most]


def _no_unicode(name: str, error: Exception) -> ApiError:
    return ApiError(400, f"{name} is no valid Unicode: {error}", param=name, code="invalid_value")


def _too_long(state: ServerState, place: str, num_tokens: int, *, pair: bool = False) -> ApiError:
    model_len = state.run.config.model.max_model_len
    what = f"{place} with its query has" if pair else f"{place} has"
    return ApiError(
        400,
        f"{what} {num_tokens} tokens; the longest Program takes {state.longest} "
        f"(the model {model_len}). Shorten it, or ask for it to be cut "
        "(truncate_prompt_tokens, or truncate where that is the form)",
        param=place,
        code="context_length_exceeded",
    )
