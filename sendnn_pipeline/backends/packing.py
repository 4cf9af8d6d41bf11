"""Products of few rows over weights in oneDNN's own layout, which are up to twice as fast as over the checkpoint's."""

import torch

from sendnn_pipeline.backends.base import Graph

# From more rows on, the checkpoint's own layout is as fast.
FEW_ROWS = 64
# A layout depends on the number of rows; this one does well from 1 to 64.
ROWS = 32
PACKED = torch.ops.mkldnn._linear_pointwise.default


def packs(graph: Graph) -> bool:
    """Return whether a graph computes few rows at a time, its first dimension, where this CPU gains by it."""
    few = graph.shares_weights and graph.program.dims[0].max <= FEW_ROWS
    return few and graph.dtype == "bfloat16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack_products(exported: torch.export.ExportedProgram) -> frozenset[str]:
    """Have every product with a weight read it in either layout; return the names of these weights.

    A weight that something else reads, too, stays as it is: an embedding that is also the head.
    """
    graph, signature = exported.graph_module.graph, exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    products = [node for node in graph.nodes if node.target == torch.ops.aten.linear.default]
    weights = {node.args[1] for node in products if node.args[1].name in names}
    own = {weight for weight in weights if all(user in products and user.args[1] is weight for user in weight.users)}
    for node in products:
        if node.args[1] in own:
            bias = node.args[2] if len(node.args) > 2 else None
            with graph.inserting_before(node):
                packed = graph.call_function(PACKED, (node.args[0], node.args[1], bias, "none", [], ""))
            packed.meta = dict(node.meta)
            node.replace_all_uses_with(packed)
            graph.erase_node(node)
    exported.graph_module.recompile()
    return frozenset(names[weight.name] for weight in own)


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Return a copy of ``weight`` ``[outputs, inputs]`` in that layout."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return packed
