"""Dynamo's marks: which axes of an input have one size to the device, and which any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sendnn_pipeline.backends.base import Graph


@dataclass(frozen=True)
class Marks:
    """Axes of an input."""

    static: tuple[int, ...] = ()
    dynamic: tuple[int, ...] = ()


TOKENS = ("input_ids", "position_ids", "slot_mapping")
# In place of ids, of models that read images.
ROWS = "inputs_embeds"
MASKS = ("current_tkv_mask", "left_padded_prompt_mask")
# By function, then by input; the cache has no marks.
DECODER: Mapping[str, Mapping[str, Marks]] = {
    "prefill": dict.fromkeys((*TOKENS, "block_table"), Marks(static=(0,), dynamic=(1,)))
    | {ROWS: Marks(static=(0, 2), dynamic=(1,))},
    "decode": dict.fromkeys(TOKENS, Marks(static=(1,), dynamic=(0,)))
    | {ROWS: Marks(static=(1, 2), dynamic=(0,))}
    | dict.fromkeys(MASKS, Marks(dynamic=(0,)))
    | {"block_table": Marks(dynamic=(0, 1))},
}


def mark(graph: "Graph", inputs: Sequence[torch.Tensor]) -> None:
    """Mark the inputs of a call, in place.

    Args:
        graph: that is called.
        inputs: in the graph's order.
    """
    table = DECODER[graph.program.function] if graph.decoder else {}
    for declared, tensor in zip(graph.inputs, inputs, strict=True):
        all_static = Marks() if graph.decoder else Marks(static=tuple(range(tensor.dim())))
        marks = table.get(declared.name, all_static)
        for axis in marks.static:
            torch._dynamo.mark_static(tensor, axis)
        for axis in marks.dynamic:
            torch._dynamo.mark_dynamic(tensor, axis)
