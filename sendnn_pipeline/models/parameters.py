"""Which of a module's tensors are which of its checkpoint's."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Names that older checkpoints have, and what transformers calls them now.
RENAMED = {"gamma": "weight", "beta": "bias"}


def checkpoint_names(tensors: Mapping[str, "torch.Tensor"], weights: Mapping[str, "torch.Tensor"]) -> dict[str, str]:
    """Return the checkpoint's name of every tensor that is the checkpoint's.

    Names may begin otherwise in the model than in the checkpoint, so they are compared from their ends, and only the
    longest ending that is one tensor's alone counts. Equal values alone are not enough: two biases that are zero here
    may differ in the next checkpoint that the code runs on.

    Args:
        tensors: by the model's names.
        weights: the checkpoint's, by its own names; other storage than the model's.
    """
    now = {_renamed(name): name for name in weights}
    endings = {name: _longest_ending(name, now) for name in tensors}
    found = {name: now[other] for name, other in endings.items() if other and _same(tensors[name], weights[now[other]])}
    # A head that is the embedding has the embedding's name in the checkpoint.
    places = {_place(tensors[name]): original for name, original in found.items()}
    tied = {name: places[_place(tensor)] for name, tensor in tensors.items() if _place(tensor) in places}
    return tied | found


def _place(tensor: "torch.Tensor") -> object:
    """Return what tensors that are one have in common."""
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else id(tensor)


def _renamed(name: str) -> str:
    head, dot, last = name.rpartition(".")
    return f"{head}{dot}{RENAMED.get(last, last)}"


def _longest_ending(name: str, names: Mapping[str, str]) -> str | None:
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
