"""What decides whether a compiled Program may be used again, and nothing else."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DIGEST = re.compile("[0-9a-f]{16}")

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ArtifactKey:
    """Named fields in the order in which a difference is reported."""

    fields: Fields

    @property
    def program(self) -> str:
        """The Program's name."""
        return dict(self.fields)["program"]

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for all fields."""
        return hashlib.sha256(json.dumps(self.fields).encode()).hexdigest()[:16]

    def differences(self, other: "ArtifactKey") -> list[str]:
        """Return what differs in ``other``, first field first: ``torch is 2.12 there and 2.13 here``.

        Digests come last: what is in words may be why they differ.
        """
        there = dict(other.fields)
        differing = [(name, value) for name, value in self.fields if there.get(name) != value]
        differing.sort(key=lambda field: DIGEST.fullmatch(field[1]) is not None)
        return [f"{name} is {there.get(name, 'missing')} there and {value} here" for name, value in differing]


@dataclass(frozen=True)
class ArtifactKeys:
    """Keys of one run's Programs."""

    common: Fields
    """What all of them share."""

    def key(self, program: str) -> ArtifactKey:
        """Return the key of the Program with this name."""
        return ArtifactKey((("program", program), *self.common))


def artifact_keys(
    model: str,
    engine: Iterable[tuple[str, str]],
    backend: str,
    fingerprint: Mapping[str, str],
    machine: Iterable[tuple[str, str]],
) -> ArtifactKeys:
    """Collect what all Programs of a run share.

    Args:
        model: digest of the model: of its structure, or of its weights where Programs hold them.
        engine: the engine's own fields: what of its options and code decides a graph.
        backend: name of the backend that compiles.
        fingerprint: the backend's own fields: versions and options that change what it generates.
        machine: what code is generated for: device, vector extensions, rank.
    """
    fields = (("model", model[:16]), *engine, ("backend", backend), *sorted(fingerprint.items()), *machine)
    return ArtifactKeys(tuple(fields))
