"""The blocks of the KV cache: who holds them, which are free, how many are promised. Ids only; no memory."""

from collections import OrderedDict
from collections.abc import Sequence

from sendnn_pipeline.generation.content import Content
from sendnn_pipeline.generation.prefix import PrefixIndex


class BlockPool:
    """Blocks 1 to ``num_blocks - 1``; block 0 takes the writes of padding and is never handed out.

    Blocks are taken from the front of the free list. Freed blocks that can be found by content join at the back, the
    end of a prefix before its beginning, so that what may be asked for again is overwritten last; others join at the
    front. All operations take constant time a block.

    Args:
        num_blocks: all of them, block 0 included.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_usable = num_blocks - 1
        self.num_reserved = 0
        """Promised to admitted requests and not taken yet: never more than are free."""
        self.first_unused = 1
        """From here on nobody has had any."""
        self.version = 0
        """Counts what may turn a refusal for want of blocks into an admission."""
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._holders = [0] * num_blocks
        self._index = PrefixIndex()

    @property
    def num_free(self) -> int:
        """Blocks that no request holds."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks that some request holds."""
        return self.num_usable - len(self._free)

    @property
    def num_available(self) -> int:
        """Free blocks that are not promised."""
        return len(self._free) - self.num_reserved

    def num_holders(self, block: int) -> int:
        """Return how many requests hold a block."""
        return self._holders[block]

    def find(self, chain: Sequence[Content]) -> list[tuple[int, Content]]:
        """Return block and content of the longest prefix of ``chain`` that is in the cache; nothing is taken."""
        return self._index.longest(chain)

    def reserve(self, count: int) -> None:
        """Promise ``count`` of the available blocks."""
        assert count <= self.num_available, "more blocks are promised than are free"
        self.num_reserved += count

    def unreserve(self, count: int) -> None:
        """Take back a promise of ``count`` blocks."""
        self.num_reserved -= count
        self.version += 1
        assert self.num_reserved >= 0, "a promise was taken back twice"

    def share(self, blocks: Sequence[int]) -> int:
        """Hold blocks that were found, and return how many of them were free; those are promised ones."""
        num_free = len(self._free)
        for block in blocks:
            if not self._holders[block]:
                del self._free[block]
            self._holders[block] += 1
        taken = num_free - len(self._free)
        self.num_reserved -= taken
        return taken

    def take(self, count: int) -> list[int]:
        """Hold ``count`` promised blocks, forgetting what they contained."""
        assert count <= self.num_reserved <= len(self._free), "blocks are taken that were not promised"
        self.num_reserved -= count
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._index.forget(block)
            self._holders[block] = 1
        self.first_unused = max([self.first_unused, *(block + 1 for block in blocks)])
        return blocks

    def enter(self, block: int, content: Content) -> None:
        """Let a full, computed block be found by its content."""
        self._index.add(block, content)
        self.version += 1

    def forget(self, blocks: Sequence[int]) -> list[int]:
        """Let blocks be found no more, unless several requests hold them; return these."""
        own = [block for block in blocks if self._holders[block] == 1]
        for block in own:
            self._index.forget(block)
        return own

    def free(self, blocks: Sequence[int]) -> None:
        """Let go of the blocks of a request, in the order of its table."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None
                if block not in self._index:
                    self._free.move_to_end(block, last=False)
        self.version += 1
