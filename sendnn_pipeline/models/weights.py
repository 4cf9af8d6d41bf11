"""A checkpoint's tensors, mapped from its files."""

from typing import TYPE_CHECKING

from sendnn_pipeline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

PAGE_BYTES = 4096


def load_weights(files: "Sequence[Path]", dtype: str) -> "dict[str, torch.Tensor]":
    """Return every tensor by its name in the checkpoint, floating ones in ``dtype``.

    Tensors that have that dtype in the file stay mapped, and their pages are shared with every process that maps them.

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
            # Read every page now: no request pays for it, and memory is from the start what it will be.
            tensors[name].flatten().view(torch.uint8)[::PAGE_BYTES].sum()
    return tensors
