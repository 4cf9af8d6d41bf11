"""A decoder among several ranks: each has some heads of every layer, their cache, and some of the neurons."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.facts import GenerationFacts

if TYPE_CHECKING:
    from sendnn_pipeline.generation.plan import GenerationPlan

RANKS = "parallel.tensor_parallel"
HEADS, KV_HEADS, NEURONS = "num_attention_heads", "num_key_value_heads", "intermediate_size"


def divided_sizes(text: Mapping[str, Any], facts: GenerationFacts) -> dict[str, int]:
    """Return what is divided among ranks, by its name in config.json."""
    sizes = {HEADS: int(text.get(HEADS) or 0), KV_HEADS: facts.num_kv_heads, NEURONS: int(text.get(NEURONS) or 0)}
    return {name: size for name, size in sizes.items() if size}


def sizes_of_rank(text: Mapping[str, Any], plan: "GenerationPlan") -> dict[str, int]:
    """Return the sizes of one rank's part, by their names in config.json; a head is as large as before."""
    sizes = {name: size // plan.ranks for name, size in divided_sizes(text, plan.facts).items()}
    return {"head_dim": plan.facts.head_size, **sizes}


def check_ranks(draft: Draft, facts: GenerationFacts) -> None:
    """Refuse more ranks than the model can be divided among.

    Raises:
        ConfigError: something is not divided evenly; the message has the numbers.
    """
    ranks, sizes = draft[RANKS], divided_sizes(draft.model.text_config, facts)
    uneven = {name: size for name, size in sizes.items() if size % ranks}
    if uneven:
        fits = [str(number) for number in range(1, sizes[KV_HEADS] + 1) if not any(s % number for s in sizes.values())]
        numbers = " and ".join(f"{name}={size}" for name, size in uneven.items())
        raise ConfigError(
            f"{RANKS}={ranks} does not divide the model's {numbers}",
            where=draft.where(RANKS),
            hint=f"use {', '.join(fits)}",
        )
