"""What a plan costs before anything is built: memory by arithmetic, compile time from earlier runs."""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.programs.program import PoolProgram

BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
# Live at once in an encoder layer: input, query, key, value, attention output, and the widened feed-forward twice.
WIDTHS_LIVE = 13
MAX_HEADER_BYTES = 100_000_000


def count_parameters(facts: ModelFacts) -> int:
    """Count the parameters from the safetensors headers, proving on the way that every file is whole.

    Raises:
        ModelError: a file is truncated or no safetensors; the message names it.
    """
    return sum(_parameters_of(file) for file in facts.weight_files)


def _parameters_of(file: Path) -> int:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (header_size,) = struct.unpack("<Q", stream.read(8))
            if header_size > min(size, MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(header_size))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        if not tensors:
            raise ValueError("it holds no tensors")
        end = 8 + header_size + max(entry["data_offsets"][1] for entry in tensors)
        if end != size:
            raise ValueError(f"it has {size} bytes and its header says {end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ModelError(f"{file} is no whole safetensors file: {error}", hint="fetch the model again") from None
    total = 0
    for entry in tensors:
        count = 1
        for size_of_dimension in entry["shape"]:
            count *= size_of_dimension
        total += count
    return total


def activation_bytes(program: PoolProgram, facts: ModelFacts, dtype: str) -> int:
    """Estimate what one run of ``program`` holds at once beside the weights."""
    return program.num_tokens * facts.hidden_size * WIDTHS_LIVE * BYTES_OF_DTYPE[dtype]


@dataclass(frozen=True)
class PriceBook:
    """Compile seconds of Programs, as earlier runs on this machine recorded them."""

    file: Path

    def read(self) -> dict[str, float]:
        """Return recorded seconds by key; nothing where no run was recorded yet or the file is unreadable."""
        try:
            recorded = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return recorded if isinstance(recorded, dict) else {}

    def record(self, seconds: Mapping[str, float]) -> None:
        """Add or replace entries; the longest seen stays, since a compiler's cache makes later ones short."""
        known = self.read()
        merged = known | {key: max(value, known.get(key, 0.0)) for key, value in seconds.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(merged, indent=1, sort_keys=True))
        partial.replace(self.file)
