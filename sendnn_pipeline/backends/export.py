"""A graph as ``torch.export`` sees it: what a backend hands to its compiler."""

from typing import TYPE_CHECKING

from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from sendnn_pipeline.backends.base import Graph

# Names that older checkpoints have, and what transformers calls them now.
RENAMED = {"gamma": "weight", "beta": "bias"}


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


def checkpoint_names(tensors: "Mapping[str, torch.Tensor]", weights: "Mapping[str, torch.Tensor]") -> dict[str, str]:
    """Return the checkpoint's name of every tensor that is the checkpoint's.

    Names may begin otherwise in the model than in the checkpoint, so they are compared from their ends, and only the
    longest ending that is one tensor's alone counts. Equal values alone are not enough: two biases that are zero here
    may differ in the next checkpoint that the code runs on.

    Args:
        tensors: by the model's names.
        weights: the checkpoint's, by its own names; other storage than the model's.
    """
    now = {_renamed(name): name for name in weights}
    found = {name: _longest_ending(name, now) for name in tensors}
    return {name: now[other] for name, other in found.items() if other and _same(tensors[name], weights[now[other]])}


def _renamed(name: str) -> str:
    head, dot, last = name.rpartition(".")
    return f"{head}{dot}{RENAMED.get(last, last)}"


def _longest_ending(name: str, names: "Mapping[str, str]") -> str | None:
    parts = name.split(".")
    for start in range(len(parts)):
        ending = ".".join(parts[start:])
        alike = [other for other in names if f".{other}".endswith(f".{ending}")]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def _same(mine: "torch.Tensor", theirs: "torch.Tensor") -> bool:
    import torch

    # Strides, too: code is compiled for them.
    return mine.dtype == theirs.dtype and mine.stride() == theirs.stride() and torch.equal(mine, theirs)
