"""Whose tensors a Program reads. Imports torch: for the engine process only."""

from collections.abc import Iterable, Mapping

import torch

type_tensors = Mapping[str, torch.Tensor]


def checkpoint_names(tensors: type_tensors, weights: type_tensors) -> dict[str, str]:
    """Return the checkpoint's name of every tensor that is the checkpoint's.

    Names may begin otherwise in the model than in the checkpoint, so they are compared from their ends. Equal values
    alone are not enough: two biases that are zero here may differ in the next checkpoint that the code runs on.

    Args:
        tensors: by the model's names.
        weights: by the checkpoint's names.
    """
    alike = {name: _longest_ending(name, weights) for name in tensors}
    return {name: found for name, found in alike.items() if found and torch.equal(tensors[name], weights[found])}


def _longest_ending(name: str, names: Iterable[str]) -> str | None:
    parts = name.split(".")
    for start in range(len(parts)):
        ending = ".".join(parts[start:])
        found = [other for other in names if f".{other}".endswith(f".{ending}")]
        if found:
            return found[0] if len(found) == 1 else None
    return None
