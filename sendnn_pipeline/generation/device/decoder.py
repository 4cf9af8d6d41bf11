"""A causal model of transformers as one graph over a paged cache, which comes back with its logits."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sendnn_pipeline.generation.device.ops import register_ops
from sendnn_pipeline.generation.model.attention import NOT_IMPLEMENTED

NAME = "sendnn_pipeline_device"
"""Under which transformers knows the attention."""
STEP = "device_step"
"""The keyword by which a step reaches it, through the layers of a model."""
IDS, EMBEDS = "input_ids", "inputs_embeds"
"""What a step reads of its tokens: their ids, or what the first layer reads in their places."""
INPUTS = (
    IDS,
    "position_ids",
    "slot_mapping",
    "block_table",
    "current_tkv_mask",
    "left_padded_prompt_mask",
)
# Rows of a chunk that logits are made of: those of a block, in which the prompt's last token is.
PREFILL_ROWS, DECODE_ROWS = 64, 1


@dataclass
class DeviceStep:
    """Where the tokens of one step go, and the cache as its layers leave it."""

    caches: list[torch.Tensor]
    """Keys and values of each layer in turn."""
    slot_mapping: torch.Tensor
    block_table: torch.Tensor
    current_tkv_mask: torch.Tensor
    left_padded_prompt_mask: torch.Tensor
    ops: Any
    written: list[torch.Tensor] = field(default_factory=list)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Write the new keys and values of the next layer, and attend; all ``[rows, tokens, heads, size]``."""
        at = len(self.written)
        keys, values = self.caches[at : at + 2]
        keys, values = self.ops.paged_attn_store(key, value, keys, values, self.slot_mapping)
        self.written += [keys, values]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        padding, table = self.left_padded_prompt_mask, self.block_table
        attended: torch.Tensor = self.ops.paged_attn_compute(
            query, keys, values, scale, self.current_tkv_mask, padding, table
        )
        return attended


class WholeDecoder(nn.Module):
    """Tokens of one step to logits in float32 and the cache.

    Args:
        causal: the model, with the attention of ``register_attention``.
        rows: how many of the last tokens of a row logits are made of.
    """

    def __init__(self, causal: nn.Module, rows: int) -> None:
        super().__init__()
        self.causal, self.rows, self.ops = causal, rows, register_ops()

    def forward(  # noqa: PLR0917
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        slot_mapping: torch.Tensor,
        block_table: torch.Tensor,
        current_tkv_mask: torch.Tensor,
        left_padded_prompt_mask: torch.Tensor,
        *past_key_value_states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Compute a step.

        Args:
            input_ids: ``[rows, tokens]``: one row of a whole chunk, or one token of each of several.
            position_ids: ``[rows, tokens]``, 0 where it is padding.
            slot_mapping: ``[rows, tokens]``, where each is written.
            block_table: ``[rows, blocks]``, padding as block 0.
            current_tkv_mask: ``[rows]``, tokens so far with padding.
            left_padded_prompt_mask: ``[rows]``, tokens of padding before the first.
            past_key_value_states: keys and values of each layer in turn.

        Returns:
            Logits ``[rows, last tokens, vocabulary]``, then the cache, which takes the place of the one given.
        """
        masks = current_tkv_mask, left_padded_prompt_mask
        return self.compute({IDS: input_ids}, position_ids, slot_mapping, block_table, masks, past_key_value_states)

    def compute(  # noqa: PLR0917
        self,
        tokens: dict[str, torch.Tensor],
        position_ids: torch.Tensor,
        slot_mapping: torch.Tensor,
        block_table: torch.Tensor,
        masks: tuple[torch.Tensor, torch.Tensor],
        caches: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:
        """Compute a step of ``tokens``, by the model's own name of what it reads; the others are as in ``forward``."""
        step = DeviceStep(list(caches), slot_mapping, block_table, *masks, self.ops)
        asked = {"attention_mask": None, "use_cache": False, "logits_to_keep": self.rows, STEP: step}
        logits = self.causal(**tokens, position_ids=position_ids, **asked).logits.float()
        if len(step.written) != len(step.caches):
            raise NotImplementedError(f"{len(step.written) // 2} calls of attention in {len(step.caches) // 2} layers")
        return logits, *step.written


class EmbeddedDecoder(WholeDecoder):
    """The same of a model that reads images: in place of ids it reads rows, of which some are an image's."""

    def forward(  # noqa: PLR0917
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        slot_mapping: torch.Tensor,
        block_table: torch.Tensor,
        current_tkv_mask: torch.Tensor,
        left_padded_prompt_mask: torch.Tensor,
        *past_key_value_states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Compute a step of ``inputs_embeds``, ``[rows, tokens, hidden size]``."""
        masks, read = (current_tkv_mask, left_padded_prompt_mask), {EMBEDS: inputs_embeds}
        return self.compute(read, position_ids, slot_mapping, block_table, masks, past_key_value_states)


def register_attention() -> str:
    """Make the attention known to transformers; return its name. No mask is made for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def _attention(
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
    """Attend as the step says; the mask is not read. All come as ``[rows, heads, tokens, size]``."""
    found = [name for name in NOT_IMPLEMENTED if others.get(name) is not None]
    if sliding_window is not None:
        found.append("sliding_window")
    if found:
        raise NotImplementedError(f"attention with {' and '.join(found)} on a device")
    if STEP not in others:
        raise NotImplementedError("layers that do not hand keywords on to attention")
    step: DeviceStep = others[STEP]
    return step.attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scaling), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None
