"""The modules that are compiled: the layers of a decoder over a paged cache, and its head."""

from typing import Any

import torch
from torch import nn

from sendnn_pipeline.generation.model.attention import STEP
from sendnn_pipeline.generation.model.steps import ChunkStep, TokenStep

HIDDEN, LOGITS = ("hidden",), ("logits", "greedy", "finite")


class Prefill(nn.Module):
    """A causal model of transformers without its head, over a chunk of a prompt."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        block_table: torch.Tensor,
        *caches: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """Compute a chunk.

        Args:
            input_ids: ``[tokens]``.
            positions: ``[tokens]``, from 0 at the beginning of the prompt.
            slots: ``[tokens]``, where each is written.
            block_table: ``[blocks]`` up to the chunk's end.
            *caches: keys and values of each layer, written in place.

        Returns:
            ``[tokens, hidden size]`` behind the last layer.
        """
        step = ChunkStep(caches, slots, block_table=block_table, positions=positions)
        return (_hidden(self.causal, input_ids[None], positions[None], step),)


class Decode(nn.Module):
    """The same over one token more for several texts."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        blocks: torch.Tensor,
        row_of_block: torch.Tensor,
        start_of_block: torch.Tensor,
        *caches: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """Compute a token of each row.

        Args:
            input_ids: ``[rows]``.
            positions: ``[rows]``.
            slots: ``[rows]``, where each is written.
            blocks: ``[blocks]`` of all rows.
            row_of_block: ``[blocks]``.
            start_of_block: ``[blocks]``, the position of its first token.
            *caches: keys and values of each layer, written in place.

        Returns:
            ``[rows, hidden size]`` behind the last layer.
        """
        step = TokenStep(
            caches,
            slots,
            blocks=blocks,
            row_of_block=row_of_block,
            start_of_block=start_of_block,
            positions=positions,
        )
        return (_hidden(self.causal, input_ids[:, None], positions[:, None], step),)


def _hidden(causal: Any, input_ids: torch.Tensor, positions: torch.Tensor, step: ChunkStep | TokenStep) -> torch.Tensor:
    output = causal.get_decoder()(
        input_ids=input_ids, position_ids=positions, attention_mask=None, use_cache=False, **{STEP: step}
    )
    wanted = list(range(len(step.caches) // 2))
    if step.layers != wanted:
        raise NotImplementedError(f"{len(step.layers)} calls of attention in {len(wanted)} layers")
    hidden: torch.Tensor = output.last_hidden_state
    return hidden.flatten(0, 1)


class Head(nn.Module):
    """Hidden states to logits in float32, as the causal model's own forward makes them."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits ``[rows, vocabulary]``, the ids of the largest, and whether all of a row are finite."""
        causal: Any = self.causal
        base = causal.base_model_prefix
        layers = causal._modules[base]
        # The model's own forward scales and caps its logits; only the layers below are left out.
        causal._modules[base] = _Computed(hidden[None])
        try:
            given = hidden.new_zeros((1, 1), dtype=torch.int64)
            logits = causal(input_ids=given, use_cache=False).logits[0].float()
        finally:
            causal._modules[base] = layers
        return logits, logits.argmax(-1), torch.isfinite(logits).all(-1)


class _Computed(nn.Module):
    """Stands for layers whose hidden states are there."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self._output = _Output(hidden)

    @property
    def decoder(self) -> "_Computed":
        """Some models call this part of their base."""
        return self

    def forward(self, *_: Any, **__: Any) -> "_Output":
        """Return them as the base would."""
        return self._output


class _Output:
    """What a base returns, by index or by name; what is absent is None."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None
