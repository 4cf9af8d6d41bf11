"""A token of a text, with its offsets."""

from itertools import accumulate
from typing import TypedDict

from tokenizers import Encoding


class Token(TypedDict):
    """As text-embeddings-inference writes it: places are bytes of the text in UTF-8, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


def tokens_of(encoding: Encoding, text: str) -> list[Token]:
    """Return the tokens that ``encoding`` has of ``text``."""
    places = list(accumulate((len(letter.encode()) for letter in text), initial=0))
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(id=token_id, text=name, special=True, start=None, stop=None)
        if special
        else Token(id=token_id, text=text[start:stop], special=False, start=places[start], stop=places[stop])
        for token_id, name, special, (start, stop) in parts
    ]
