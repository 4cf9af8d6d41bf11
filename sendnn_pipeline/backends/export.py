"""A graph as ``torch.export`` sees it: what a backend hands to its compiler."""

import inspect
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.backends.base import Graph


def export_graph(graph: "Graph") -> "torch.export.ExportedProgram":
    """Trace ``graph`` whole; its ranges stay ranges.

    The result's ``.module()`` has code of its own, so that dynamo, which keeps what it compiled by code and for eight
    sizes at most, never confuses two Programs.

    Raises:
        BackendError: the function cannot be traced as one graph.
    """
    import torch
    from torch.export import Dim

    dims = {dim.name: Dim(dim.name, min=dim.min, max=dim.max) for dim in graph.program.dims if dim.min is not None}
    dynamic = tuple(
        {axis: dims[name] for axis, name in argument.axes.items() if name in dims} for argument in graph.inputs
    )
    try:
        with torch.no_grad():
            return torch.export.export(
                graph.function,
                graph.example,
                dynamic_shapes=_as_signature(graph.function, dynamic) if dims else None,
                strict=False,
            )
    except Exception as error:
        raise BackendError(
            f"{graph.name} cannot be traced: {type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:300]}",
            hint="backend=eager runs without a compiler",
        ) from error


def _as_signature(function: Any, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return ``shapes`` of positional arguments, those that ``*arguments`` takes as one entry."""
    kinds = [
        parameter.kind for parameter in inspect.signature(getattr(function, "forward", function)).parameters.values()
    ]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:first], shapes[first:])
