"""Text to token ids and back, off the event loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from sendnn_pipeline.errors import ModelError

# Texts handed to a worker thread at once: many small turns keep one large request from delaying the others.
TURN = 64
THREADS = 2


class TextTokenizer:
    """A model's own fast tokenizer behind a small pool of threads; the library lets go of the GIL."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._num_special = tokenizer.num_special_tokens_to_add(False)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenize")

    @property
    def num_special(self) -> int:
        """Tokens that are put around a text."""
        return self._num_special

    async def encode(self, texts: Sequence[str], truncate_to: int | None, *, special: bool = True) -> list[list[int]]:
        """Return the token ids of every text, cut to ``truncate_to`` tokens with the special ones kept."""
        loop = asyncio.get_running_loop()
        ids: list[list[int]] = []
        for start in range(0, len(texts), TURN):
            turn = list(texts[start : start + TURN])
            ids += await loop.run_in_executor(self._pool, self._encode, turn, truncate_to, special)
        return ids

    def _encode(self, texts: list[str], truncate_to: int | None, special: bool) -> list[list[int]]:
        if truncate_to is None or not special:
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=special)
            return [encoding.ids[:truncate_to] for encoding in encodings]
        bare = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._wrapped(encoding, truncate_to) for encoding in bare]

    def _wrapped(self, encoding: Encoding, truncate_to: int) -> list[int]:
        encoding.truncate(max(0, truncate_to - self._num_special))
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids

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
