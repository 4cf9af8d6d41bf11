"""A KV cache that remembers which prefix each slot belongs to, so that steps which read or write wrongly are found."""

from sendnn_pipeline.generation.rules import BLOCK_SIZE
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.steps import Chunk, DecodeStep, Step


class EmulatedCache:
    """Stands in for keys and values: a slot holds a hash of all tokens up to its own, which is what they depend on."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.slots: dict[int, int] = {}
        self.hashes: dict[int, list[int]] = {}

    def compute(self, step: Step) -> list[int]:
        """Write as the step asks and read what attention would, then give every row a token that depends on it."""
        if isinstance(step, DecodeStep):
            for row, request_id in enumerate(step.request_ids):
                self._row(step, row, request_id)
        else:
            for chunk in step.chunks:
                self._chunk(chunk)
        return [self.hashes[request_id][-1] % 1000 for request_id in step.sampled]

    def _row(self, step: DecodeStep, row: int, request_id: int) -> None:
        position, table, padding = step.positions[row], step.block_tables[row], step.left_padding[row]
        assert step.token_ids[row] == self.scheduler.requests[request_id].token_ids[position]
        self._remember(request_id, position + 1)
        assert len(table) * BLOCK_SIZE >= padding + position + 1 > (len(table) - 1) * BLOCK_SIZE
        assert padding + position + 1 <= step.tkv
        self._write(step.slots[row], self.hashes[request_id][position])
        self._read(request_id, table, padding, position + 1)

    def _chunk(self, chunk: Chunk) -> None:
        self._remember(chunk.request_id, chunk.end)
        assert chunk.start % BLOCK_SIZE == 0 and len(chunk.token_ids) == chunk.end - chunk.start
        slots = chunk.slots
        assert chunk.first_row + chunk.end - chunk.start <= chunk.num_rows == len(slots)
        for index, token_id in enumerate(chunk.token_ids):
            position = chunk.start + index
            assert token_id == self.scheduler.requests[chunk.request_id].token_ids[position]
            slot = slots[chunk.first_row + index]
            if slot >= BLOCK_SIZE:
                self._write(slot, self.hashes[chunk.request_id][position])
        assert all(slot < BLOCK_SIZE for slot in slots[: chunk.first_row])
        self._read(chunk.request_id, chunk.block_table, chunk.left_padding, chunk.end)

    def _remember(self, request_id: int, num_tokens: int) -> None:
        hashes = self.hashes.setdefault(request_id, [])
        for token_id in self.scheduler.requests[request_id].token_ids[len(hashes) : num_tokens]:
            hashes.append(hash((hashes[-1] if hashes else 0, token_id)))

    def _write(self, slot: int, value: int) -> None:
        assert self.scheduler.state.pool.num_holders(slot // BLOCK_SIZE) == 1, "a shared block is written"
        self.slots[slot] = value

    def _read(self, request_id: int, table: tuple[int, ...], padding: int, num_tokens: int) -> None:
        assert not any(table[: padding // BLOCK_SIZE])
        read = [
            self.slots.get(table[(padding + position) // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE)
            for position in range(num_tokens)
        ]
        assert read == self.hashes[request_id][:num_tokens], f"request {request_id} reads what is not its own"
