"""Long texts in slices, so that no more of a text is read than can count. Decides only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sendnn_pipeline.frontend.truncation import Side

SLICE_CHARS = 16_384
LONG_CHARS = 2 * SLICE_CHARS
"""Shorter texts are read whole."""
BATCH_SIZE = 64
# What cutting may add to a slice, beyond the tokens that its characters have in the whole text.
ADDED_TOKENS = 2
# Where a text is cut, the last tokens may be others.
MARGIN_TOKENS = 64
# Blanks and words that the vocabulary does not have may be many characters a token; more than that is not prose.
CHARS_PER_TOKEN = 256
# So many tokens' characters are read without any being found, whatever the limit: a text may begin with blanks.
SPARE_TOKENS = 1024


class TooLongError(Exception):
    """A text that fits nowhere, found without reading all of it.

    Args:
        index: among the texts.
        what: it has, such as ``more than 256 tokens``.
        second: whether it is the second one of its pair.
    """

    def __init__(self, index: int, what: str, *, second: bool) -> None:
        super().__init__(what)
        self.index, self.what, self.second = index, what, second


def slices(text: str, side: Side = "right") -> Iterator[str]:
    """Yield ``text`` in slices from its start; from its end where the left is cut. Cuts are at blanks, if there are."""
    if side == "left":
        end = len(text)
        while end:
            begin = max(0, end - SLICE_CHARS)
            blank = text.find(" ", begin, begin + SLICE_CHARS // 2) if begin else -1
            begin = blank if blank > 0 else begin
            yield text[begin:end]
            end = begin
        return
    begin = 0
    while begin < len(text):
        end = begin + SLICE_CHARS
        blank = text.rfind(" ", end - SLICE_CHARS // 2, end) if end < len(text) else -1
        end = blank if blank > 0 else end
        yield text[begin:end]
        begin = end


@dataclass
class Reading:
    """How far a long text was read, and whether that is enough to know what ``limit`` tokens of it are.

    Args:
        limit: most tokens that count.
    """

    limit: int
    num_tokens: int = 0
    """That the text has in any case, so far."""
    num_chars: int = 0

    def read(self, num_chars: int, num_tokens: int) -> None:
        """Note a slice."""
        self.num_chars += num_chars
        self.num_tokens += max(0, num_tokens - ADDED_TOKENS)

    @property
    def is_enough(self) -> bool:
        """Whether there are more tokens than count, so that what follows cannot change them."""
        return self.num_tokens > self.limit + MARGIN_TOKENS

    @property
    def is_hopeless(self) -> bool:
        """Whether it has no tokens to speak of."""
        return self.num_chars > LONG_CHARS + CHARS_PER_TOKEN * min(self.limit, self.num_tokens + SPARE_TOKENS)


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in their order, few enough at once that others can be read in between."""
    batch: list[str] = []
    num_chars = 0
    for text in texts:
        if batch and (len(batch) == BATCH_SIZE or num_chars + len(text) > LONG_CHARS):
            yield batch
            batch, num_chars = [], 0
        batch.append(text)
        num_chars += len(text)
    if batch:
        yield batch
