"""A causal model of transformers, taken apart at its layers: what is compiled, each a module of its own.

A part runs the model's own forward, in which every layer that is not the part's own passes its input through. So a
layer is called with what its model calls it with, such as the rotation of its kind, and a part is compiled once for
all layers that are alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from sendnn_pipeline.generation.model.attention import STEP
from sendnn_pipeline.generation.model.steps import ChunkStep, PagedStep, TokenStep, stored
from sendnn_pipeline.generation.model.stubs import decoder_of, layers_of, replaced_layers

# By which models hand cosines and sines on to layers.
ROTATION = "position_embeddings"
HIDDEN, LOGITS = ("hidden",), ("logits", "greedy", "finite")


class Embed(nn.Module):
    """Token ids to what the first layer reads."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor]:
        """Return ``[tokens, hidden size]`` in float32 of ids and positions ``[tokens]``."""
        return (read_by_first(self.causal, embedded(self.causal, input_ids), positions),)


class ChunkLayer(nn.Module):
    """A layer over chunks of several prompts."""

    def __init__(self, causal: nn.Module, layer: int, *, scores: bool = False) -> None:
        super().__init__()
        self.causal, self.layer, self.scores = causal, layer, scores

    def forward(  # noqa: PLR0917
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        row_of_token: torch.Tensor,
        query_of_token: torch.Tensor,
        queries: torch.Tensor,
        block_tables: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """Compute chunks, whose tokens follow one another.

        Args:
            hidden: ``[tokens, hidden size]`` of the layer before.
            positions: ``[tokens]``, from 0 at the beginning of each prompt.
            slots: ``[tokens]``, where each is written.
            row_of_token: ``[tokens]``, whose query each is.
            query_of_token: ``[tokens]``, which of its queries.
            queries: ``[prompts, queries]``, the token that each is.
            block_tables: ``[prompts, blocks]`` up to each chunk's end.
            keys: of the layer, written in place.
            values: of the layer, written in place.

        Returns:
            ``[tokens, hidden size]``.
        """
        where: dict[str, Any] = {
            "positions": positions,
            "queries": queries,
            "row_of_token": row_of_token,
            "query_of_token": query_of_token,
            "block_tables": block_tables,
        }
        step = ChunkStep(keys, values, slots, scores=self.scores, **where)
        return (_through(self.causal, self.layer, hidden[None], positions[None], step),)


class TokenLayer(nn.Module):
    """A layer over one token more for several texts."""

    def __init__(self, causal: nn.Module, layer: int) -> None:
        super().__init__()
        self.causal, self.layer = causal, layer

    def forward(  # noqa: PLR0917
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        blocks: torch.Tensor,
        row_of_block: torch.Tensor,
        start_of_block: torch.Tensor,
        first_blocks: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        """Compute a token of each row.

        Args:
            hidden: ``[rows, hidden size]`` of the layer before.
            positions: ``[rows]``.
            slots: ``[rows]``, where each is written.
            blocks: ``[blocks]`` of all rows.
            row_of_block: ``[blocks]``.
            start_of_block: ``[blocks]``, the position of its first token.
            first_blocks: ``[rows]``, where each one's begin among all blocks.
            keys: of the layer, written in place.
            values: of the layer, written in place.

        Returns:
            ``[rows, hidden size]``.
        """
        step = TokenStep(
            keys,
            values,
            slots,
            blocks=blocks,
            row_of_block=row_of_block,
            start_of_block=start_of_block,
            first_blocks=first_blocks,
            positions=positions,
        )
        return (_through(self.causal, self.layer, hidden[:, None], positions[:, None], step),)


class Head(nn.Module):
    """What the last layer gave to logits in float32, as the model's own forward makes them."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits ``[rows, vocabulary]``, the ids of the largest, and whether all of a row are finite."""
        positions = torch.zeros(1, hidden.shape[0], dtype=torch.int64)
        with replaced_layers(self.causal, {0: lambda *_, **__: hidden[None]}):
            logits = self.causal(**_asked(_nothing(self.causal, positions), positions)).logits[0].float()
        return logits, logits.argmax(-1), torch.isfinite(logits).all(-1)


def read_by_first(causal: nn.Module, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return what the first layer reads of embeddings ``[tokens, size]``: ``[tokens, hidden size]`` in float32."""
    seen: list[torch.Tensor] = []

    def first(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        seen.append(hidden)
        return hidden

    with replaced_layers(causal, {0: first}):
        decoder_of(causal)(**_asked(rows[None], positions[None]))
    return seen[0].flatten(0, 1).float()


def whole(
    causal: nn.Module, input_ids: torch.Tensor, positions: torch.Tensor, steps: Sequence[PagedStep]
) -> torch.Tensor:
    """Compute a chunk by the model's own forward, up to the last layer; what all layers one by one are to equal."""
    seen: list[torch.Tensor] = []

    def call(index: int, layer: nn.Module) -> Callable[..., torch.Tensor]:
        def compute(*others: Any, **named: Any) -> torch.Tensor:
            output = layer(*others, **named | {STEP: steps[index]})
            seen.append(output if isinstance(output, torch.Tensor) else output[0])
            return seen[-1]

        return compute

    calls = {index: call(index, layer) for index, layer in enumerate(layers_of(causal))}
    with replaced_layers(causal, calls):
        decoder_of(causal)(**_asked(embedded(causal, input_ids)[None], positions[None]))
    return seen[-1].flatten(0, 1)


def _through(
    causal: nn.Module, layer: int, hidden: torch.Tensor, positions: torch.Tensor, step: PagedStep
) -> torch.Tensor:
    own, outputs = layers_of(causal)[layer], []

    def compute(_: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        if isinstance(rotation := named.get(ROTATION), tuple):
            named[ROTATION] = tuple(stored(part) for part in rotation)
        output = own(hidden, *others, **named)
        outputs.append(output if isinstance(output, torch.Tensor) else output[0])
        return hidden

    with replaced_layers(causal, {layer: compute}):
        decoder_of(causal)(**_asked(_nothing(causal, positions), positions), **{STEP: step})
    if len(step.calls) != 1:
        raise NotImplementedError(f"{len(step.calls)} calls of attention in a layer")
    return outputs[0].flatten(0, 1).float()


def embedded(causal: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    """Return what a model's forward begins with, of ids ``[tokens]``, in float32."""
    rows: torch.Tensor = decoder_of(causal).get_input_embeddings()(input_ids)  # type: ignore[operator]
    return rows.float()


def _nothing(causal: nn.Module, positions: torch.Tensor) -> torch.Tensor:
    """Return embeddings that nobody reads, for positions of some shape: a part asks for what else is made of them."""
    return torch.zeros(*positions.shape, decoder_of(causal).get_input_embeddings().embedding_dim)  # type: ignore[operator]


def _asked(rows: torch.Tensor, positions: torch.Tensor) -> dict[str, Any]:
    """Return what a forward is called with; the dtype of its rows is that of all that it makes for layers."""
    return {"inputs_embeds": rows, "position_ids": positions, "attention_mask": None, "use_cache": False}
