"""Which block holds which content: where a prompt finds what another request has computed."""

from collections.abc import Sequence

from sendnn_pipeline.generation.content import Content


class PrefixIndex:
    """Blocks by their content. The first block of a content stays its block until it is forgotten."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[int, Content]] = {}
        self._contents: dict[int, Content] = {}

    def __len__(self) -> int:
        return len(self._contents)

    def __contains__(self, block: int) -> bool:
        return block in self._contents

    def add(self, block: int, content: Content) -> None:
        """Enter a computed block. Where the content, or an unequal one of equal key, has a block, nothing changes."""
        if content.key not in self._blocks:
            self._blocks[content.key] = block, content
            self._contents[block] = content

    def forget(self, block: int) -> None:
        """Take out a block that is about to be overwritten, if it is in."""
        content = self._contents.pop(block, None)
        if content is not None:
            del self._blocks[content.key]

    def longest(self, chain: Sequence[Content]) -> list[tuple[int, Content]]:
        """Return block and content of the longest run of ``chain``, from its first link on, that has blocks.

        Tokens are compared, so a collision of keys costs a hit and never gives a wrong block.
        """
        found: list[tuple[int, Content]] = []
        before: Content | None = None
        for link in chain:
            entry = self._blocks.get(link.key)
            if entry is None:
                break
            content = entry[1]
            if content is not link:
                # What came before was compared already, so where it is the same object the last block decides.
                joined = before is not None and content.before is before
                if not (content.tokens == link.tokens if joined else content.equals(link)):
                    break
            found.append(entry)
            before = content
        return found
