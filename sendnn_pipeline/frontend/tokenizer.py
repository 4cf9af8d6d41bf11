"""Text to token ids and back, off the event loop."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Encoding, Tokenizer, normalizers

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import read_text
from sendnn_pipeline.frontend.slices import LONG_CHARS, Reading, TooLongError, batches, slices
from sendnn_pipeline.frontend.token import Token, tokens_of
from sendnn_pipeline.frontend.truncation import Side, Truncation, longest_first
from sendnn_pipeline.models.sentence_files import read_transformer_file

T = TypeVar("T")
THREADS = 2
FEW_TOKENS = 512


class TextTokenizer:
    """A model's own fast tokenizer behind a small pool of threads; the library lets go of the GIL."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.num_special = tokenizer.num_special_tokens_to_add(False)
        """Tokens that are put around a text."""
        self.num_special_of_pair = tokenizer.num_special_tokens_to_add(True)
        """Tokens that are put around and between two texts."""
        added = tokenizer.get_added_tokens_decoder()
        self._special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenize")
        # Requests of long texts wait for each other, and short ones do not wait for them.
        self._long = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenize-long")

    async def encode(
        self,
        texts: Sequence[str],
        truncate_to: int | None,
        *,
        special: bool = True,
        side: Side = "right",
        fits: int | None = None,
    ) -> list[list[int]]:
        """Return the token ids of every text, cut on one side to ``truncate_to`` tokens with the special ones in it.

        Args:
            texts: none of them empty.
            truncate_to: None cuts nothing.
            special: whether to add the special tokens.
            side: which is cut.
            fits: most tokens that are of use; a text that has far more is not read to its end.

        Raises:
            TooLongError: a text has more than ``fits`` tokens, and was not read to its end.
        """
        pool = self._pool
        if sum(map(len, texts)) > LONG_CHARS:
            pool = self._long
            limit = fits if truncate_to is None else truncate_to
            texts = await self._shorten(texts, limit, side, cuts=truncate_to is not None)
        ids: list[list[int]] = []
        for batch in batches(texts):
            ids += await self._run(pool, self._encode, batch, truncate_to, special, side)
        return ids

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[..., T], *parts: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *parts)

    async def _shorten(
        self, texts: Sequence[str], limit: int | None, side: Side, *, cuts: bool, second: bool = False
    ) -> Sequence[str]:
        """Return what of each text has its first ``limit`` tokens, or last, and some more; None is all of it."""
        if limit is None:
            return texts
        shorter = list(texts)
        for index, text in enumerate(texts):
            if len(text) > LONG_CHARS:
                num_chars = await self._num_chars(index, text, Reading(limit), side, second=second)
                if num_chars < len(text) and not cuts:
                    raise TooLongError(index, f"more than {limit} tokens", second=second)
                shorter[index] = text[-num_chars:] if side == "left" else text[:num_chars]
        return shorter

    async def _num_chars(self, index: int, text: str, reading: Reading, side: Side, *, second: bool) -> int:
        for part in slices(text, side):
            (encoding,) = await self._run(self._long, self._encode_bare, [part], None)
            reading.read(len(part), len(encoding))
            if reading.is_enough:
                break
            if reading.is_hopeless:
                what = f"{len(text)} characters of which {reading.num_chars} are {reading.num_tokens} tokens"
                raise TooLongError(index, what, second=second)
        return reading.num_chars

    def _encode(self, texts: list[str], truncate_to: int | None, special: bool, side: Side) -> list[list[int]]:
        if truncate_to is None or not special:
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
            part = slice(-truncate_to, None) if truncate_to and side == "left" else slice(truncate_to)
            return [encoding.ids[part] for encoding in encodings]
        bare = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._add_special(encoding, truncate_to, side) for encoding in bare]

    def _add_special(self, encoding: Encoding, truncate_to: int, side: Side) -> list[int]:
        encoding.truncate(max(0, truncate_to - self.num_special), direction=side)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids

    async def encode_pairs(
        self, firsts: Sequence[str], seconds: Sequence[str], truncation: Truncation, *, fits: int | None = None
    ) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of every pair, and where the second text begins in each.

        Args:
            firsts: as many as ``seconds``, or one that goes with all of them.
            seconds: the other texts.
            truncation: how much of each is read.
            fits: most tokens of a pair that are of use; a text that has far more is not read to its end.

        Raises:
            TooLongError: a text has more than ``fits`` tokens, and was not read to its end.
        """
        pool = self._pool
        if sum(map(len, firsts)) + sum(map(len, seconds)) > LONG_CHARS:
            pool = self._long
            firsts = await self._shorten_side(firsts, truncation.first, truncation, fits, second=False)
            seconds = await self._shorten_side(seconds, truncation.second, truncation, fits, second=True)
        if len(firsts) == 1:
            (first,) = await self._run(pool, self._encode_bare, list(firsts), truncation.first)
        ids: list[list[int]] = []
        offsets: list[int] = []
        for batch in batches(seconds):
            mates = [first] * len(batch) if len(firsts) == 1 else list(firsts[len(ids) : len(ids) + len(batch)])
            pairs = await self._run(pool, self._encode_pairs, mates, batch, truncation)
            ids += [pair.ids for pair in pairs]
            offsets += [pair.type_ids.index(1) if 1 in pair.type_ids else 0 for pair in pairs]
        return ids, offsets

    async def _shorten_side(
        self, texts: Sequence[str], most: int | None, truncation: Truncation, fits: int | None, *, second: bool
    ) -> Sequence[str]:
        if most is not None:
            return await self._shorten(texts, most, "right", cuts=True, second=second)
        if truncation.whole is not None:
            return await self._shorten(texts, truncation.whole, truncation.side, cuts=True, second=second)
        return await self._shorten(texts, fits, "right", cuts=False, second=second)

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

    async def count_before(self, prompt: str) -> int:
        """Return how many tokens ``prompt`` takes before a text, the special ones that begin a text included."""
        encoding = await self._run(self._pool, self._tokenizer.encode, prompt)
        ends = len(encoding) > 0 and (bool(encoding.special_tokens_mask[-1]) or encoding.ids[-1] in self._special_ids)
        return len(encoding) - ends

    async def describe(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """Return the tokens of every text, each with its offsets."""
        long = sum(map(len, texts)) > LONG_CHARS
        return await self._run(self._long if long else self._pool, self._describe, list(texts), special)

    def _describe(self, texts: list[str], special: bool) -> list[list[Token]]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
        return [tokens_of(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]

    async def decode(self, token_ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of token ids."""
        return await self._run(self._pool_of(token_ids), self._decode, list(token_ids), skip_special)

    def _decode(self, token_ids: list[int], skip_special: bool) -> str:
        if len(token_ids) <= FEW_TOKENS:
            text: str = self._tokenizer.decode(token_ids, skip_special)
            return text
        # Unlike the other it lets go of the GIL, by way of threads that few tokens are not worth.
        (text,) = self._tokenizer.decode_batch([token_ids], skip_special)
        return text

    def text_of(self, token_ids: Sequence[int], *, skip_special: bool) -> str:
        """Return the text of a few tokens, at once: it takes microseconds."""
        text: str = self._tokenizer.decode(token_ids, skip_special)
        return text

    def is_special(self, token_id: int) -> bool:
        """Return whether it is a token that no text has by itself."""
        return token_id in self._special_ids

    def string_of(self, token_id: int) -> str:
        """Return a token as the vocabulary has it; empty where it has none."""
        return self._tokenizer.id_to_token(token_id) or ""

    async def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Return the string of each token."""
        return await self._run(self._pool_of(token_ids), lambda: [*map(self.string_of, token_ids)])

    def _pool_of(self, token_ids: Sequence[int]) -> ThreadPoolExecutor:
        return self._long if len(token_ids) > LONG_CHARS else self._pool

    def close(self) -> None:
        """End the threads."""
        for pool in (self._pool, self._long):
            pool.shutdown(wait=False, cancel_futures=True)


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Read ``tokenizer.json`` of a model, without the truncation and padding it was saved with.

    Where sentence-transformers' files of the model ask for lower case, it reads texts so.

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
    if read_transformer_file(folder).do_lower_case:
        present = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *present])
    return TextTokenizer(tokenizer)
