"""A model among several ranks: each has some heads of every layer, and some of the neurons."""

from collections.abc import Mapping
from typing import Any

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.models.dividing import check_divides

RANKS = "parallel.tensor_parallel"
HEADS, KV_HEADS, NEURONS = "num_attention_heads", "num_key_value_heads", "intermediate_size"
# Neurons beside those of experts; of models without experts, all of them.
SHARED_NEURONS = "shared_intermediate_size"


class DividedByTransformers:
    """An engine whose ranks divide a model by transformers' plan of it, which comes with torch."""

    def check_ranks(self, run: Run) -> None:
        """Refuse a model of which there is no such plan, within a few seconds.

        Raises:
            ModelError: as its ranks would.
        """
        check_divides(run.model.folder)


def divided_sizes(text: Mapping[str, Any]) -> dict[str, int]:
    """Return what is divided among ranks, by its name in the text model's config.json."""
    heads = int(text.get(HEADS) or 0)
    sizes = {HEADS: heads, KV_HEADS: int(text.get(KV_HEADS) or heads)}
    sizes |= {name: int(text.get(name) or 0) for name in (NEURONS, SHARED_NEURONS)}
    return {name: size for name, size in sizes.items() if size}


def sizes_of_rank(text: Mapping[str, Any], ranks: int, head_size: int) -> dict[str, int]:
    """Return the sizes of one rank's part, by their names in config.json; a head is as large as before."""
    return {"head_dim": head_size, **{name: size // ranks for name, size in divided_sizes(text).items()}}


def head_size_of(text: Mapping[str, Any]) -> int:
    """Return how many numbers a head has, which models need not say."""
    return int(text.get("head_dim") or int(text["hidden_size"]) // int(text[HEADS]))


def check_ranks(draft: Draft) -> None:
    """Refuse more ranks than the model can be divided among.

    Raises:
        ConfigError: something is not divided evenly; the message has the numbers.
    """
    ranks, sizes = draft[RANKS], divided_sizes(draft.model.text_config)
    if ranks > 1 and HEADS not in sizes:
        raise ConfigError(
            f"{RANKS}={ranks}, and {draft.model.architecture} names no {HEADS} to divide",
            where=draft.where(RANKS),
            hint=f"leave {RANKS} at 1",
        )
    uneven = {name: size for name, size in sizes.items() if size % ranks}
    if uneven:
        most = sizes.get(KV_HEADS, 1)
        fits = [str(number) for number in range(1, most + 1) if not any(s % number for s in sizes.values())]
        numbers = " and ".join(f"{name}={size}" for name, size in uneven.items())
        raise ConfigError(
            f"{RANKS}={ranks} does not divide the model's {numbers}",
            where=draft.where(RANKS),
            hint=f"use {', '.join(fits)}",
        )
