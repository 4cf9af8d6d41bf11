"""What safetensors headers say of a checkpoint, without loading it."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.errors import ModelError

MAX_HEADER_BYTES = 100_000_000


def count_parameters(facts: ModelFacts) -> int:
    """Count the parameters from the safetensors headers, proving on the way that every file is whole.

    Raises:
        ModelError: a file is truncated or no safetensors; the message names it.
    """
    total = 0
    for file in facts.weight_files:
        for entry in _header_of(file).values():
            count = 1
            for size_of_dimension in entry["shape"]:
                count *= size_of_dimension
            total += count
    return total


def structure_digest(facts: ModelFacts) -> str:
    """Return a digest of config.json and of every tensor's name, dtype and shape: what decides the graph.

    Raises:
        ModelError: a file cannot be read.
    """
    headers = [_header_of(file) for file in facts.weight_files]
    tensors = {name: [entry["dtype"], entry["shape"]] for header in headers for name, entry in header.items()}
    digest = hashlib.sha256((facts.folder / "config.json").read_bytes())
    digest.update(json.dumps(tensors, sort_keys=True).encode())
    return digest.hexdigest()


def content_digest(facts: ModelFacts) -> str:
    """Return a digest of the weights themselves: what decides a Program that embeds them."""
    digest = hashlib.sha256(structure_digest(facts).encode())
    for file in facts.weight_files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _header_of(file: Path) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (header_size,) = struct.unpack("<Q", stream.read(8))
            if header_size > min(size, MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(header_size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if not tensors:
            raise ValueError("it holds no tensors")
        end = 8 + header_size + max(entry["data_offsets"][1] for entry in tensors.values())
        if end != size:
            raise ValueError(f"it has {size} bytes and its header says {end}")
        for entry in tensors.values():
            if not all(isinstance(length, int) for length in entry["shape"]):
                raise ValueError("a shape is no list of numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ModelError(f"{file} is no whole safetensors file: {error}", hint="fetch the model again") from None
    return tensors
