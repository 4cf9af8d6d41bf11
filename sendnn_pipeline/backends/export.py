"""A graph as ``torch.export`` sees it: what a backend hands to its compiler."""

from typing import TYPE_CHECKING

from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.backends.base import Graph


def export_graph(graph: "Graph") -> "torch.export.ExportedProgram":
    """Trace ``graph`` whole, its ranges as dimensions of their own.

    The result's ``.module()`` has code of its own, so that dynamo, which keeps what it compiled by code and for eight
    sizes at most, never confuses two Programs.

    Raises:
        BackendError: the function cannot be traced as one graph.
    """
    import torch
    from torch.export import Dim

    ranges = {held.name: held for given in graph.ranges for held in given.values()}
    dims = {name: Dim(name, min=held.least, max=held.most) for name, held in ranges.items()}
    dynamic = tuple({place: dims[held.name] for place, held in given.items()} for given in graph.ranges)
    try:
        with torch.no_grad():
            return torch.export.export(
                graph.function, graph.example, dynamic_shapes=dynamic if dims else None, strict=False
            )
    except Exception as error:
        raise BackendError(
            f"{graph.name} cannot be traced: {type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:300]}",
            hint="backend=eager runs without a compiler",
        ) from error
