"""A checkpoint's tensors, mapped from its files."""

from typing import TYPE_CHECKING

from sendnn_pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch


def load_weights(files: "Sequence[Path]", dtype: str) -> "dict[str, torch.Tensor]":
    """Return every tensor by its name in the checkpoint, floating ones in ``dtype``.

    Tensors that have that dtype in the file stay mapped: their pages are read when they are first used and are
    shared with every other process that maps them.

    Raises:
        ModelError: a file is no safetensors file.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    wanted = getattr(torch, dtype)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            held = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from None
        for name, tensor in held.items():
            tensors[name] = tensor.to(wanted) if tensor.is_floating_point() else tensor
    return tensors
