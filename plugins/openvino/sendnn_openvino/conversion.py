"""A graph becomes an OpenVINO model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sendnn_openvino.library import DEVICE, failing_as, import_openvino
from sendnn_openvino.signal_stack import signal_stack_put_back
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import openvino

    from sendnn_pipeline.backends.base import Graph


def convert(graph: "Graph", properties: Mapping[str, Any]) -> "openvino.CompiledModel":
    """Compile all of ``graph`` with the parts of ``torch.compile(backend="openvino")``, or fail.

    That backend traces with its decompositions, sorts the operations it has on a list into partitions, and gives each
    to ``openvino_compile`` when it is first called. It has three silent ways out: where tracing fails it compiles with
    inductor, where a partition fails it runs that in PyTorch from then on, and what is not on the list never leaves
    PyTorch. This is the same tracing and the same ``openvino_compile`` without them: nothing is caught, and the graph
    is one partition, so the frontend converts every operation or raises with the names of those it cannot. Partition
    numbers, and the library's tables by them, which all models of a process share, do not come into it.

    Raises:
        BackendError: the graph cannot be traced, writes into an input, or OpenVINO lacks one of its operations.
    """
    if graph.written:
        raise BackendError(
            f"{graph.name} writes into {', '.join(graph.written)}, which OpenVINO would leave as it is",
            hint="use backend=inductor",
        )
    exported = export_graph(graph).module()
    with failing_as(f"OpenVINO cannot compile {graph.name}", hint="backend=inductor may"):
        import_openvino()
        import torch
        from openvino.frontend.pytorch.torchdynamo.compile import openvino_compile
        from openvino.frontend.pytorch.torchdynamo.decompositions import get_inf_decomposition_list
        from torch._decomp import get_decompositions
        from torch.fx.experimental.proxy_tensor import make_fx

        # The frontend believes that a graph is functional: it would drop a write into a view (`t[0] = 1`) in silence.
        functional = torch.func.functionalize(exported, remove="mutations")
        # It has `any` of one dimension, and lacks `all`.
        decompositions: Any = get_decompositions([*get_inf_decomposition_list(), torch.ops.aten.all.dim])
        trace = make_fx(functional, decompositions, tracing_mode="fake", _allow_non_fake_inputs=True)
        with torch.no_grad(), signal_stack_put_back():
            traced = trace(*graph.example)
            return openvino_compile(traced, *graph.example, options={"device": DEVICE, "config": dict(properties)})
