"""How likely tokens were, in the forms of both APIs and of vLLM."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from sendnn_pipeline.frontend.tokenizer import TextTokenizer
from sendnn_pipeline.generation.api.detokenizer import UNKNOWN
from sendnn_pipeline.generation.messages import TokenLogprobs

OF_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TopLogprob(TypedDict):
    """A token that could have been."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token, and what else could have been."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Of a chat's answer."""

    content: list[TokenLogprob]


class CompletionLogprobs(TypedDict):
    """Of a completion: a list for each of a token's properties."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(TypedDict):
    """Of a token that stands in a prompt, or could."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""By token id, for each token of a prompt; null for the first one, which follows nothing."""


@dataclass(frozen=True)
class TokenNames:
    """What tokens are called in answers."""

    tokenizer: TextTokenizer
    as_ids: bool = False
    """Whether the client asked for ``token_id:…``, which is never two tokens' name."""

    def name(self, token_id: int) -> str:
        """Return the name of a token: its text."""
        return f"token_id:{token_id}" if self.as_ids else self.text(token_id)

    def text(self, token_id: int) -> str:
        """Return the text of a token by itself."""
        return self.tokenizer.text_of([token_id], skip_special=False)

    def bytes(self, token_id: int) -> list[int]:
        """Return the bytes of a token; of one that is a part of a letter, those of the part."""
        text = self.text(token_id)
        return list((UNKNOWN in text and _bytes_of(self.tokenizer.string_of(token_id))) or text.encode())


def _bytes_of(string: str) -> bytes | None:
    """Return the bytes that a vocabulary means with a token's string; None where it means letters."""
    found = OF_BYTE.fullmatch(string)
    if found:
        return bytes([int(found[1], 16)])
    known = _letters_of_bytes()
    return bytes(known[letter] for letter in string) if all(letter in known for letter in string) else None


def _letters_of_bytes() -> dict[str, int]:
    """Return the bytes by the letters that byte-level vocabularies write them as: visible ones, and others."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + at): byte for at, byte in enumerate(others)}


def chat_logprobs(names: TokenNames, tokens: Sequence[TokenLogprobs]) -> ChatLogprobs:
    """Return the form of chats."""

    def one(token_id: int, logprob: float) -> TopLogprob:
        return {"token": names.name(token_id), "logprob": logprob, "bytes": names.bytes(token_id)}

    return {
        "content": [
            {**one(token.token_id, token.logprob), "top_logprobs": [one(*top) for top in token.top]} for token in tokens
        ]
    }


def completion_logprobs(
    names: TokenNames, tokens: Sequence[TokenLogprobs | int], offset: int = 0
) -> CompletionLogprobs:
    """Return the form of completions.

    Args:
        names: of tokens.
        tokens: each; the bare id of one of which nothing is known, such as the first of a prompt.
        offset: characters before the first one.
    """
    made: CompletionLogprobs = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
    for token in tokens:
        token_id = token if isinstance(token, int) else token.token_id
        made["text_offset"].append(offset)
        made["tokens"].append(names.name(token_id))
        offset += len(names.text(token_id))
        if isinstance(token, int):
            made["token_logprobs"].append(None)
            made["top_logprobs"].append(None)
            continue
        made["token_logprobs"].append(token.logprob)
        chosen = (token_id, token.logprob)
        made["top_logprobs"].append({names.name(one): logprob for one, logprob in (chosen, *token.top)})
    return made


def prompt_logprobs(names: TokenNames, tokens: Sequence[TokenLogprobs]) -> PromptLogprobs:
    """Return vLLM's form."""
    made: PromptLogprobs = [None]
    for token in tokens:
        entries = {str(token.token_id): (token.logprob, token.rank)}
        for rank, (token_id, logprob) in enumerate(token.top, start=1):
            entries.setdefault(str(token_id), (logprob, rank))
        made.append(
            {
                token_id: {"logprob": logprob, "rank": rank, "decoded_token": names.text(int(token_id))}
                for token_id, (logprob, rank) in entries.items()
            }
        )
    return made
