"""Products of one row, written out as sums: loops that a compiler fuses with what is around them.

A product of one row reads its weight once, and a library is called, and waited for by all threads, for each. Written
out, a whole layer is one loop after the other in one function, and its weights are read as the checkpoint has them, or
as the quantized file had them that it was made of: less than half of the bytes.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from sendnn_pipeline.backends.row_products import PRODUCTS
from sendnn_pipeline.programs.quantized import DTYPES, shape_of

LINEAR = torch.ops.aten.linear.default
HALVES = (torch.bfloat16, torch.float16)


def write_out_products(exported: torch.export.ExportedProgram, names: Collection[str] = ()) -> None:
    """Replace every product of one row with a weight of two bytes; sums are float32's.

    Args:
        exported: the graph.
        names: of all that the checkpoint has of its parameters; the parts of quantized weights are read in their place.
    """
    graph, signature = exported.graph_module.graph, exported.graph_signature
    parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    prepared: dict[Any, Any] = {}
    for node in [node for node in graph.nodes if node.target == LINEAR and _is_one_row(node)]:
        row, weight, *bias = node.args
        name = parameters.get(weight.name, "")
        kinds = next(kinds for kinds in PRODUCTS if all(f"{name}_{kind}" in names for kind in kinds))
        prepare, compute = PRODUCTS[kinds]
        parts = tuple(_parameter(exported, weight, name, kind) for kind in kinds) or (weight,)
        with graph.inserting_before(node):
            if (row, prepare) not in prepared:
                prepared[row, prepare] = _inserted(graph, prepare, row)
            product = _inserted(graph, compute, prepared[row, prepare], parts)
            biases = [one for one in bias if one is not None]
            node.replace_all_uses_with(_inserted(graph, _as(node.meta["val"]), product, *biases))
        graph.erase_node(node)
    exported.graph_module.recompile()


def _is_one_row(node: Any) -> bool:
    value = node.args[0].meta["val"]
    rows = value.shape[:-1]
    return value.dtype in HALVES and all(isinstance(size, int) and size == 1 for size in rows)


def _inserted(graph: torch.fx.Graph, function: Callable[..., Any], *inputs: Any) -> Any:
    """Return what a function gives of values of the graph; its operators are put where the graph is."""
    nodes, form = tree_flatten(inputs)
    traced = make_fx(lambda *values: function(*tree_unflatten(values, form)))(*[node.meta["val"] for node in nodes])
    placeholders = traced.graph.find_nodes(op="placeholder")
    return graph.graph_copy(traced.graph, dict(zip(placeholders, nodes, strict=True)))


def _as(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Return what makes a product ``[outputs]`` as ``value`` is, cast once, behind its bias."""

    def finished(product: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        return sum(bias, product).to(value.dtype).view(value.shape)

    return finished


def _parameter(exported: torch.export.ExportedProgram, weight: Any, name: str, kind: str) -> Any:
    """Return the input that is a part of a quantized weight; it is made where there is none yet."""
    graph, signature, target = exported.graph_module.graph, exported.graph_signature, f"{name}_{kind}"
    known = {spec.target: spec.arg.name for spec in signature.input_specs}
    if target in known:
        return next(node for node in graph.nodes if node.op == "placeholder" and node.name == known[target])
    tensor = torch.zeros(shape_of(kind, *weight.meta["val"].shape), dtype=getattr(torch, DTYPES[kind]))
    with graph.inserting_after(weight):
        made = graph.placeholder(f"{weight.name}_{kind}")
    made.meta = {"val": weight.meta["val"].fake_mode.from_tensor(tensor)}
    place = next(index for index, spec in enumerate(signature.input_specs) if spec.arg.name == weight.name)
    spec = InputSpec(InputKind.BUFFER, TensorArgument(made.name), target, persistent=True)
    signature.input_specs.insert(place + 1, spec)
    exported.state_dict[target] = tensor
    return made
