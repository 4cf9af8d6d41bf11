"""Token ids that a model has."""

from collections.abc import Sequence


def why_outside(ids: Sequence[int], vocab_size: int) -> str:
    """Return which id the vocabulary does not have, to follow the name of what has it; empty where it has all."""
    if not ids or (min(ids) >= 0 and max(ids) < vocab_size):
        return ""
    wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
    return f"has token id {wrong}; the vocabulary ends at {vocab_size - 1}"
