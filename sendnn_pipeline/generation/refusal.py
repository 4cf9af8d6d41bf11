"""Why a request does not run now: every refusal has a name."""

from enum import StrEnum


class Refusal(StrEnum):
    """The reason for which a step goes on without a request."""

    ORDER = "order"
    """Others wait before it."""
    NOT_READY = "not_ready"
    """What it needs is not made yet, such as a grammar or the embeddings of an image."""
    SEQUENCE_SLOTS = "sequence_slots"
    """``max_num_seqs`` requests are admitted."""
    BLOCKS = "blocks"
    """Fewer blocks are free and not reserved than it may come to need."""
    VOLUME = "volume"
    """Rows times tokens of the decode would exceed ``max_batch_tkv``."""
    INTERLEAVE = "interleave"
    """After a prefill step it is the turn of those that decode."""
    PAUSED = "paused"
    """Paused requests go on before anything is prefilled."""
    PREFILL = "prefill"
    """Other prompts fill the prefill step."""

    @property
    def is_capacity(self) -> bool:
        """Whether a larger machine would have run it; else, it waits for its turn."""
        return self in (Refusal.SEQUENCE_SLOTS, Refusal.BLOCKS, Refusal.VOLUME)
