"""What a checkpoint's safetensors headers say, and the digests that tell checkpoints apart. No torch."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from sendnn_pipeline.errors import ModelError

DIGESTS_FILE = "weight_digests.json"


@dataclass(frozen=True)
class Checkpoint:
    """The dtype and shape of every tensor, by its name."""

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def num_parameters(self) -> int:
        """All elements of all tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors.values())

    def structure_digest(self, config: Mapping[str, Any]) -> str:
        """Return a digest of config.json and of all names, dtypes and shapes: what decides a graph, not its weights."""
        return hashlib.sha256(json.dumps([config, self.tensors], sort_keys=True).encode()).hexdigest()


def read_checkpoint(files: Mapping[Path, str]) -> Checkpoint:
    """Read the headers, which the library proves to fit their files.

    Args:
        files: each with what goes before the names of its tensors.

    Raises:
        ModelError: a file is truncated or not safetensors; the message names it.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file, prefix in files.items():
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118  it has no iterator
                    entry = opened.get_slice(name)
                    tensors[prefix + name] = (entry.get_dtype(), tuple(entry.get_shape()))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file} is not a whole safetensors file: {error}", hint="fetch the model again") from None
    if files and not tensors:
        raise ModelError(f"{next(iter(files))} holds no tensors", hint="fetch the model again")
    return Checkpoint(tensors)


def weights_digest(files: Iterable[Path], cache_dir: Path) -> str:
    """Return a digest of the weights themselves: what decides a Program that holds them.

    Each file's is remembered in ``cache_dir`` by path, size and time of change, so that a start hashes nothing twice.
    """
    memory = cache_dir / DIGESTS_FILE
    known = _read(memory)
    digests = {_identity(file): known.get(_identity(file)) or _digest(file) for file in files}
    if not digests.keys() <= known.keys():
        _remember(memory, digests)
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()


def _identity(file: Path) -> str:
    facts = file.stat()
    return f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(file: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(file: Path, digests: Mapping[str, str]) -> None:
    """Add to the file; a cache that cannot be written only costs the next start its time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            partial = file.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(_read(file) | dict(digests), indent=1), encoding="utf-8")
            partial.replace(file)
    except OSError:
        return
