"""Attention over paged keys and values, as transformers' attention interface calls it."""

from typing import Any, Protocol

import torch

NAME = "sendnn_pipeline_paged"
"""Under which transformers knows it."""
STEP = "paged_step"
"""The keyword by which a step reaches it, through the layers of a model."""
# What transformers hands to attention that changes the result and is not done here.
NOT_IMPLEMENTED = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")


class Attends(Protocol):
    """Where the tokens of one step are written, and which they see."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Write the new keys and values, and attend to all that are visible.

        Args:
            query: ``[rows, heads, queries, size]``.
            key: ``[rows, key heads, queries, size]``; values alike.
            value: of each key.
            scaling: of the scores; None is one over the root of ``size``.
            window: how many tokens back a query sees.

        Returns:
            ``[rows, heads, queries, size]``.
        """


def paged_attention(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as the step says; the mask is not read.

    Returns:
        ``[rows, queries, heads, size]``, and no weights.

    Raises:
        NotImplementedError: the model asks for what would change the result and is not done here.
    """
    found = [name for name in NOT_IMPLEMENTED if others.get(name) is not None]
    if found:
        raise NotImplementedError(f"attention with {' and '.join(found)}")
    if STEP not in others:
        raise NotImplementedError("layers that do not hand keywords on to attention")
    step: Attends = others[STEP]
    return step.attend(query, key, value, scaling, sliding_window).transpose(1, 2), None


def register_attention() -> str:
    """Make the attention known to transformers; return its name. No mask is made for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, paged_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def _no_mask(*_: Any, **__: Any) -> None:
    return None
