"""Text to token ids and back, off the event loop."""

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.server.cut import Cut, kept, type_side

# Texts handed to a worker thread at once: many small turns keep one large request from delaying the others.
TURN = 64
THREADS = 2


class TextTokenizer:
    """A model's own fast tokenizer behind a small pool of threads; the library lets go of the GIL."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._num_special = tokenizer.num_special_tokens_to_add(False)
        self._num_special_of_pair = tokenizer.num_special_tokens_to_add(True)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenize")

    @property
    def num_special(self) -> int:
        """Tokens that are put around a text."""
        return self._num_special

    @property
    def num_special_of_pair(self) -> int:
        """Tokens that are put around and between two texts."""
        return self._num_special_of_pair

    async def encode(
        self, texts: Sequence[str], truncate_to: int | None, *, special: bool = True, side: type_side = "right"
    ) -> list[list[int]]:
        """Return the token ids of every text, cut on one side to ``truncate_to`` tokens with the special ones kept."""
        loop = asyncio.get_running_loop()
        ids: list[list[int]] = []
        for start in range(0, len(texts), TURN):
            turn = list(texts[start : start + TURN])
            ids += await loop.run_in_executor(self._pool, self._encode, turn, truncate_to, special, side)
        return ids

    def _encode(self, texts: list[str], truncate_to: int | None, special: bool, side: type_side) -> list[list[int]]:
        if truncate_to is None or not special:
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
            return [encoding.ids[:truncate_to] for encoding in encodings]
        bare = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._wrapped(encoding, truncate_to, side) for encoding in bare]

    def _wrapped(self, encoding: Encoding, truncate_to: int, side: type_side) -> list[int]:
        encoding.truncate(max(0, truncate_to - self._num_special), direction=side)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids

    async def encode_pairs(
        self, firsts: Sequence[str], seconds: Sequence[str], cut: Cut
    ) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of every pair, and where the second text begins in each.

        Args:
            firsts: as many as ``seconds``, or one that goes with all of them.
            seconds: the other texts.
            cut: how much of each is kept.
        """
        loop = asyncio.get_running_loop()
        if len(firsts) == 1:
            (first,) = await loop.run_in_executor(self._pool, self._bare, list(firsts), cut.first)
        ids: list[list[int]] = []
        begins: list[int] = []
        for start in range(0, len(seconds), TURN):
            turn = list(seconds[start : start + TURN])
            given = [first] * len(turn) if len(firsts) == 1 else list(firsts[start : start + TURN])
            pairs = await loop.run_in_executor(self._pool, self._pairs, given, turn, cut)
            ids += [pair.ids for pair in pairs]
            begins += [pair.type_ids.index(1) if 1 in pair.type_ids else 0 for pair in pairs]
        return ids, begins

    def _pairs(self, firsts: Sequence[str | Encoding], seconds: list[str], cut: Cut) -> list[Encoding]:
        named = [first for first in firsts if isinstance(first, str)]
        ones = self._bare(named, cut.first) if named else firsts
        twos = self._bare(seconds, cut.second)
        return [self._joined(one, two, cut) for one, two in zip(ones, twos, strict=True)]

    def _bare(self, texts: list[str], most: int | None) -> list[Encoding]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        if most is not None:
            for encoding in encodings:
                encoding.truncate(most)
        return list(encodings)

    def _joined(self, first: Any, second: Encoding, cut: Cut) -> Encoding:
        if cut.whole is not None:
            room = max(0, cut.whole - self._num_special_of_pair)
            kept_of_first, kept_of_second = kept(len(first), len(second), room)
            if kept_of_first < len(first):
                # Shared by all pairs of its request.
                first = copy.deepcopy(first)
                first.truncate(kept_of_first, direction=cut.side)
            second.truncate(kept_of_second, direction=cut.side)
        return self._tokenizer.post_process(first, second)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._tokenizer.decode, list(token_ids), False)

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
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{file} is no usable tokenizer: {error}", hint="fetch the model again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TextTokenizer(tokenizer)
