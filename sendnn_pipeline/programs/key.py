"""What decides whether a compiled Program may be used again, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from sendnn_pipeline.config.cpu import cpu_features
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.programs.checkpoint import content_digest, structure_digest

# The source of what is traced beside the model's own code.
TRACED = ("pooling/function.py", "pooling/poolers.py")


@dataclass(frozen=True)
class ArtifactKey:
    """Named fields in the order in which a difference is reported."""

    fields: tuple[tuple[str, str], ...]

    @property
    def program(self) -> str:
        """The Program's name."""
        return dict(self.fields)["program"]

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for all fields."""
        return hashlib.sha256(json.dumps(self.fields).encode()).hexdigest()[:16]

    def differences(self, other: "ArtifactKey") -> list[str]:
        """Return what differs in ``other``, first field first: ``torch is 2.12 there and 2.13 here``."""
        there = dict(other.fields)
        return [
            f"{name} is {there.get(name, 'missing')} there and {value} here"
            for name, value in self.fields
            if there.get(name) != value
        ]


@dataclass(frozen=True)
class KeyMaker:
    """Keys of one run's Programs; the model is read once."""

    common: tuple[tuple[str, str], ...]

    def key(self, program: str) -> ArtifactKey:
        """Return the key of the Program with this name."""
        return ArtifactKey((("program", program), *self.common))


def key_maker(
    run: Run, backend: str, fingerprint: Mapping[str, str], *, embeds_weights: bool, of_model: bool = True
) -> KeyMaker:
    """Collect what all Programs of a run share.

    Args:
        run: the run.
        backend: name of the backend that compiles.
        fingerprint: the backend's own fields: versions and options that change what it generates.
        embeds_weights: whether Programs hold the weights, so that only the same weights will do.
        of_model: whether they run the model; helper graphs do not.
    """
    config = run.config
    model: list[tuple[str, str]] = []
    if of_model:
        digest = content_digest(run.model) if embeds_weights else structure_digest(run.model)
        model = [
            ("model", digest[:16]),
            ("dtype", config.model.dtype),
            ("task", config.engine.task),
            ("pooling", f"{config.engine.pooling}, normalize={config.engine.normalize}"),
            ("transformers", version("transformers")),
        ]
    shared = [("device", config.device), ("cpu", cpu_features()), ("rank", "0 of 1"), ("code", _traced_digest())]
    return KeyMaker((*model, ("backend", backend), *sorted(fingerprint.items()), *shared))


@lru_cache(maxsize=1)
def _traced_digest() -> str:
    package = Path(__file__).parent.parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in TRACED)).hexdigest()[:16]
