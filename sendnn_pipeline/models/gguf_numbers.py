"""What a GGUF file's matrices are made of, by the names of the weights that were read from it."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.programs.quantized import OFFSETS, Q4, Q8, SCALES

if TYPE_CHECKING:
    import numpy as np
    import torch

# Bytes of a group of 32 numbers: a scale, with Q4_1 an offset, in float16 each, then the numbers.
GROUP_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
# Numbers of Q4_0 count from the middle.
MIDDLE = 8


def read_quantized(file: Path, weights: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return the parts of all weights that a file has in a layout known here, as ``programs/quantized.py`` names them.

    Which tensor of the file a weight is, and in which order it has its rows, is told by what they come to: names and
    the order of rows differ by architecture.

    Args:
        file: the GGUF file.
        weights: in bfloat16, as they were read from it.
    """
    import torch
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors if tensor.tensor_type.name in GROUP_BYTES}
    places = {digest: (name, row) for name, tensor in tensors.items() for row, digest in enumerate(_rows(tensor))}
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        rows = [places.get(digest) for digest in _digests(weight)] if weight.ndim > 1 else [None]
        sources = {place and place[0] for place in rows}
        if len(sources) == 1 and (source := sources.pop()) is not None:
            data = tensors[source].data[[place[1] for place in rows if place is not None]]
            parts = _parts(data, tensors[source].tensor_type.name)
            found |= {f"{name}.{kind}": torch.from_numpy(part) for kind, part in parts.items()}
    return found


def _rows(tensor: Any) -> Iterator[bytes]:
    """Yield the digest of each row of a tensor, as it is in bfloat16."""
    import torch
    from gguf.quants import dequantize

    return _digests(torch.from_numpy(dequantize(tensor.data, tensor.tensor_type)).bfloat16())


def _digests(weight: "torch.Tensor") -> Iterator[bytes]:
    import torch

    for row in weight.view(torch.int16).numpy():
        yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _parts(data: "np.ndarray[Any, Any]", layout: str) -> "dict[str, np.ndarray[Any, Any]]":
    """Take the bytes of rows ``[outputs, bytes]`` apart."""
    import numpy as np

    groups = data.reshape(len(data), -1, GROUP_BYTES[layout])
    first, second = (
        np.ascontiguousarray(groups[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32) for at in (0, 2)
    )
    if layout == "Q8_0":
        return {Q8: np.ascontiguousarray(groups[..., 2:]).view(np.int8), SCALES: first}
    offsets, start = (-MIDDLE * first, 2) if layout == "Q4_0" else (second, 4)
    return {Q4: np.ascontiguousarray(groups[..., start:]), SCALES: first, OFFSETS: np.ascontiguousarray(offsets.T)}
