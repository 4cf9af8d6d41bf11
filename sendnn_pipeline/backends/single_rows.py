"""Products of one row, written out as sums: loops that a compiler fuses with what is around them.

A product of one row reads its weight once, and a library is called, and waited for by all threads, for each. Written
out, a whole layer is one loop after the other in one function, and its weights are read as the checkpoint has them.
"""

from typing import Any

import torch

LINEAR = torch.ops.aten.linear.default
HALVES = (torch.bfloat16, torch.float16)


def write_out_products(exported: torch.export.ExportedProgram) -> None:
    """Replace every product of one row with a weight of two bytes; sums are float32's."""
    graph = exported.graph_module.graph
    for node in [node for node in graph.nodes if node.target == LINEAR and _is_one_row(node)]:
        with graph.inserting_before(node):
            _replace(graph, node)
        graph.erase_node(node)
    exported.graph_module.recompile()


def _is_one_row(node: Any) -> bool:
    value = node.args[0].meta["val"]
    rows = value.shape[:-1]
    return value.dtype in HALVES and all(isinstance(size, int) and size == 1 for size in rows)


def _replace(graph: torch.fx.Graph, node: Any) -> None:
    """Put ``[1, ..., outputs]`` in the place of a product, cast once, behind its bias."""
    row, weight, *bias = node.args
    ops, value = torch.ops.aten, node.meta["val"]

    def call(target: Any, *args: Any) -> Any:
        made = graph.call_function(target, args)
        values = [arg.meta["val"] if isinstance(arg, torch.fx.Node) else arg for arg in args]
        made.meta = node.meta | {"val": target(*values)}
        return made

    one = call(ops.view.default, call(ops.to.dtype, row, torch.float32), [1, row.meta["val"].shape[-1]])
    found = call(ops.sum.dim_IntList, call(ops.mul.Tensor, call(ops.to.dtype, weight, torch.float32), one), [-1])
    if bias and bias[0] is not None:
        found = call(ops.add.Tensor, found, bias[0])
    node.replace_all_uses_with(call(ops.view.default, call(ops.to.dtype, found, value.dtype), list(value.shape)))
