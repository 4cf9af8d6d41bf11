"""Products over weights in oneDNN's own layout: of few rows, up to twice as fast as over the checkpoint's."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

import torch

from sendnn_pipeline.backends.base import Graph
from sendnn_pipeline.backends.single_rows import LINEAR, write_out_products

PACKED = torch.ops.mkldnn._linear_pointwise.default
CAST = torch.ops.aten.to.dtype
SLICE = torch.ops.aten.slice.Tensor


def arrange_products(
    exported: torch.export.ExportedProgram, graph: Graph, names: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Have products over weights that several graphs read be made in the fastest way.

    Those of one row are written out, whatever the CPU.

    Args:
        exported: of ``graph``.
        graph: what is compiled.
        names: of all that the checkpoint has of its parameters.

    Returns:
        What ``pack_products`` does.
    """
    if graph.shares_weights:
        write_out_products(exported, names)
    return pack_products(exported) if packs(graph) else {}


def packs(graph: Graph) -> bool:
    """Return whether a graph, one of several over the same weights, gains by it on this CPU."""
    return graph.shares_weights and graph.dtype == "bfloat16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack_products(exported: torch.export.ExportedProgram) -> dict[str, tuple[str, ...]]:
    """Have every product with a weight read it in either layout, and those of one input become one.

    A weight that something else reads, too, stays as it is: an embedding that is also the head.

    Returns:
        The names of the weights whose rows are read one after the other, by the name of the first of them.
    """
    graph, signature = exported.graph_module.graph, exported.graph_signature
    # What a model computes and nobody asks for, such as the embedding of tokens that a head has no use for.
    graph.eliminate_dead_code()
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    products = [node for node in graph.nodes if node.target == LINEAR and node.args[1].name in names]
    own = [node for node in products if all(_is_weight_of(user, node.args[1]) for user in node.args[1].users)]
    read = {}
    for together in _by_input(own):
        weights = [names[node.args[1].name] for node in together]
        read[weights[0]] = tuple(weights)
        _replace(exported, together, weights)
    exported.graph_module.recompile()
    return read


def _is_weight_of(user: Any, weight: Any) -> bool:
    return user.target == LINEAR and user.args[1] is weight and user.args[0] is not weight


def _by_input(products: Sequence[Any]) -> list[list[Any]]:
    """Return products that can be one together: of the same input, without bias, each over a weight of its own."""
    groups: dict[object, list[Any]] = defaultdict(list)
    for node in products:
        alone = (len(node.args) > 2 and node.args[2] is not None) or len(node.args[1].users) > 1
        groups[node if alone else _source(node.args[0])].append(node)
    return list(groups.values())


def _source(value: Any) -> object:
    """Return what tells inputs apart; casts of one value to one dtype are the same."""
    return (value.args[0], value.meta["val"].dtype) if getattr(value, "target", None) == CAST else value


def _replace(exported: torch.export.ExportedProgram, products: Sequence[Any], weights: Sequence[str]) -> None:
    """Replace products of one input by one with all their weights, which is the first's from now on."""
    graph, first = exported.graph_module.graph, products[0]
    if len(products) > 1:
        rows = torch.cat([exported.state_dict[name] for name in weights])
        exported.state_dict[weights[0]] = torch.nn.Parameter(rows, requires_grad=False)
        placeholder = first.args[1]
        placeholder.meta["val"] = placeholder.meta["val"].fake_mode.from_tensor(rows)
    values = [node.meta["val"] for node in products]
    ends = list(accumulate(value.shape[-1] for value in values))
    with graph.inserting_before(first):
        bias = first.args[2] if len(first.args) > 2 else None
        product = graph.call_function(PACKED, (first.args[0], first.args[1], bias, "none", [], ""))
        product.meta = first.meta | {"val": torch.cat(values, -1) if len(products) > 1 else values[0]}
        for node, start, end in zip(products, [0, *ends], ends, strict=False):
            part = graph.call_function(SLICE, (product, -1, start, end)) if len(products) > 1 else product
            part.meta = dict(node.meta)
            node.replace_all_uses_with(part)
    for node in products:
        graph.erase_node(node)
