"""Text to token ids and back, off the event loop."""

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import read_text
from sendnn_pipeline.frontend.token import Token, tokens_of
from sendnn_pipeline.frontend.truncation import Side, Truncation, longest_first

# Texts handed to a worker thread at once: many small batches keep one large request from delaying the others.
BATCH_SIZE = 64
THREADS = 2


class TextTokenizer:
    """A model's own fast tokenizer behind a small pool of threads; the library lets go of the GIL."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.num_special = tokenizer.num_special_tokens_to_add(False)
        """Tokens that are put around a text."""
        self.num_special_of_pair = tokenizer.num_special_tokens_to_add(True)
        """Tokens that are put around and between two texts."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenize")

    async def encode(
        self, texts: Sequence[str], truncate_to: int | None, *, special: bool = True, side: Side = "right"
    ) -> list[list[int]]:
        """Return the token ids of every text, cut on one side to ``truncate_to`` tokens with the special ones in it."""
        loop = asyncio.get_running_loop()
        ids: list[list[int]] = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = list(texts[start : start + BATCH_SIZE])
            ids += await loop.run_in_executor(self._pool, self._encode, batch, truncate_to, special, side)
        return ids

    def _encode(self, texts: list[str], truncate_to: int | None, special: bool, side: Side) -> list[list[int]]:
        if truncate_to is None or not special:
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
            return [encoding.ids[:truncate_to] for encoding in encodings]
        bare = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._add_special(encoding, truncate_to, side) for encoding in bare]

    def _add_special(self, encoding: Encoding, truncate_to: int, side: Side) -> list[int]:
        encoding.truncate(max(0, truncate_to - self.num_special), direction=side)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids

    async def encode_pairs(
        self, firsts: Sequence[str], seconds: Sequence[str], truncation: Truncation
    ) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of every pair, and where the second text begins in each.

        Args:
            firsts: as many as ``seconds``, or one that goes with all of them.
            seconds: the other texts.
            truncation: how much of each is read.
        """
        loop = asyncio.get_running_loop()
        if len(firsts) == 1:
            (first,) = await loop.run_in_executor(self._pool, self._encode_bare, list(firsts), truncation.first)
        ids: list[list[int]] = []
        offsets: list[int] = []
        for start in range(0, len(seconds), BATCH_SIZE):
            batch = list(seconds[start : start + BATCH_SIZE])
            mates = [first] * len(batch) if len(firsts) == 1 else list(firsts[start : start + BATCH_SIZE])
            pairs = await loop.run_in_executor(self._pool, self._encode_pairs, mates, batch, truncation)
            ids += [pair.ids for pair in pairs]
            offsets += [pair.type_ids.index(1) if 1 in pair.type_ids else 0 for pair in pairs]
        return ids, offsets

    def _encode_pairs(
        self, firsts: Sequence[str | Encoding], seconds: list[str], truncation: Truncation
    ) -> list[Encoding]:
        texts = [first for first in firsts if isinstance(first, str)]
        ones = self._encode_bare(texts, truncation.first) if texts else firsts
        twos = self._encode_bare(seconds, truncation.second)
        return [self._join(one, two, truncation) for one, two in zip(ones, twos, strict=True)]

    def _encode_bare(self, texts: list[str], max_tokens: int | None) -> list[Encoding]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        if max_tokens is not None:
            for encoding in encodings:
                encoding.truncate(max_tokens)
        return list(encodings)

    def _join(self, first: Any, second: Encoding, truncation: Truncation) -> Encoding:
        if truncation.whole is not None:
            room = max(0, truncation.whole - self.num_special_of_pair)
            room_of_first, room_of_second = longest_first(len(first), len(second), room)
            if room_of_first < len(first):
                # Shared by all pairs of its request.
                first = copy.deepcopy(first)
                first.truncate(room_of_first, direction=truncation.side)
            second.truncate(room_of_second, direction=truncation.side)
        return self._tokenizer.post_process(first, second)

    async def describe(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """Return the tokens of every text, each with its place in it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._describe, list(texts), special)

    def _describe(self, texts: list[str], special: bool) -> list[list[Token]]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
        return [tokens_of(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]

    async def decode(self, token_ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of token ids."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._tokenizer.decode, list(token_ids), skip_special)

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Return the string of each token."""
        return [self._tokenizer.id_to_token(token_id) or "" for token_id in token_ids]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Read ``tokenizer.json`` of a model, without the truncation and padding it was saved with.

    Raises:
        ModelError: it is missing or broken.
    """
    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(read_text(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{file} is not a usable tokenizer: {error}", hint="fetch the model again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TextTokenizer(tokenizer)
