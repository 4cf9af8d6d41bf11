"""What a full block holds, as a link of a chain: two blocks are equal when all tokens up to their ends are."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sendnn_pipeline.generation.rules import BLOCK_SIZE

NO_MARKS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, eq=False, slots=True)
class Content:
    """The tokens of one full block, behind those of all blocks before it."""

    before: "Content | None"
    tokens: bytes
    """64 token ids as 64-bit integers; of the root, whatever sets its prompts apart from others."""
    key: int
    """A hash over the whole chain, of this process. Equal chains have equal keys; unequal ones may."""

    def equals(self, other: "Content") -> bool:
        """Compare token by token, up to where both chains are the same objects."""
        mine: Content | None = self
        theirs: Content | None = other
        while mine is not theirs:
            if mine is None or theirs is None or mine.tokens != theirs.tokens:
                return False
            mine, theirs = mine.before, theirs.before
        return True


def root(salt: bytes) -> Content:
    """Return the link that chains begin with; those of unequal salts are never equal."""
    return Content(None, salt, hash(salt))


def extend(chain: list[Content], token_ids: Sequence[int], marks: Mapping[int, int] = NO_MARKS) -> None:
    """Append the full blocks of ``token_ids`` that a chain, its root included, does not have yet.

    Args:
        chain: that grows.
        token_ids: from the beginning on.
        marks: what stands for a token, by its position, where that is more than its id: rows of images.
    """
    begin = (len(chain) - 1) * BLOCK_SIZE
    num_full = (len(token_ids) - begin) // BLOCK_SIZE
    if num_full <= 0:
        return
    ids = array("q", token_ids[begin : begin + num_full * BLOCK_SIZE])
    if marks:
        for index in range(len(ids)):
            ids[index] = marks.get(begin + index, ids[index])
    data = ids.tobytes()
    size = len(data) // num_full
    before = chain[-1]
    for offset in range(0, len(data), size):
        tokens = data[offset : offset + size]
        before = Content(before, tokens, hash((before.key, tokens)))
        chain.append(before)
