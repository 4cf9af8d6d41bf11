"""The nodes of a run on several machines: what each brings to the meeting, and how node 0 admits the others."""

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from sendnn_pipeline.config.alike import first_difference, flat_keys
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError

# Groups of keys that decide what is computed, and what of them is a machine's own.
ALIKE = (
    "model",
    "engine",
    "backend",
    "warmup",
    "pipeline",
    "scheduler",
    "cache",
    "parallel",
    "multimodal",
    "artifacts",
)
OWN = (
    *("model.path", "model.served_name", "parallel.node_rank", "parallel.rendezvous", "parallel.worker_log_dir"),
    *("artifacts.dir", "artifacts.max_bytes", "artifacts.trusted"),
)
LIBRARIES = ("sendnn_pipeline", "torch", "transformers")
SAMPLES, SAMPLE_BYTES = 16, 4096
# How long node 0 waits for those that it refuses to have read why, and others longer than it does for its answer.
LAST_WORDS = timedelta(seconds=2)


class Store(Protocol):
    """Where nodes meet: torch's own store."""

    def set(self, key: str, value: str) -> None:
        """Set a value."""

    def get(self, key: str) -> bytes:
        """Wait for a value."""

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        """Wait for values; a RuntimeError where they do not come in time."""

    def add(self, key: str, amount: int) -> int:
        """Count, and return the sum."""

    def check(self, keys: list[str]) -> bool:
        """Return whether all are there."""


@dataclass(frozen=True)
class Node:
    """A machine of the run, as the ranks on it know it."""

    rank: int
    size: int
    """How many there are."""
    meets_at: str
    """Host and port of the store where they meet."""
    about: Mapping[str, str]
    """What has to be the same on all."""
    join_timeout_seconds: float
    links: Mapping[int, str] = field(default_factory=dict)
    """By node, where those who start ranks there hear of the end of this one; of node 0."""


def describe_run(run: Run) -> dict[str, str]:
    """Return what has to be the same on all nodes, by its name."""
    keys = flat_keys(run.config, ALIKE, OWN)
    model = {"the model's structure": run.model.structure_digest, "its weights": _sampled(run.model.weight_files)}
    programs = " ".join(program.name for program in run.plan.programs)
    versions = {name: _version(name) for name in LIBRARIES}
    return {**versions, "sendnn_pipeline's code": _own_code(), **model, **keys, "Programs": programs}


def join(store: Store, node: Node, *, speaks: bool) -> str:
    """Come to the other nodes, and return where node 0 links with this one.

    Args:
        store: where they meet.
        node: this one.
        speaks: whether this rank is the one that speaks for its node.

    Raises:
        EngineError: a node did not come in time, or is of another run.
    """
    if speaks and node.rank == 0:
        _admit(store, node)
        return ""
    if speaks and store.add(f"sendnn/came/{node.rank}", 1) > 1:
        raise EngineError(
            f"node {node.rank} came to {node.meets_at} before", hint="each machine has a parallel.node_rank of its own"
        )
    if speaks:
        store.set(_about(node.rank), json.dumps(dict(node.about)))
    try:
        store.wait([_answer(node.rank)], timedelta(seconds=node.join_timeout_seconds) + LAST_WORDS)
        refused, hint, link = json.loads(store.get(_answer(node.rank)))
        store.set(_heard(node.rank), "")
    except RuntimeError:
        raise EngineError(f"node 0 at {node.meets_at} gave no answer", hint="what does it say itself?") from None
    if refused:
        raise EngineError(refused, hint=hint)
    return str(link)


def _admit(store: Store, node: Node) -> None:
    """Wait for all others, compare, and answer; refuse all where one is missing or of another run."""
    others, ends = range(1, node.size), time.monotonic() + node.join_timeout_seconds
    for other in others:
        with suppress(RuntimeError):
            store.wait([_about(other)], timedelta(seconds=max(0.001, ends - time.monotonic())))
    missing = [other for other in others if not store.check([_about(other)])]
    came = [other for other in others if other not in missing]
    refused = hint = ""
    if missing:
        who = " and ".join(f"node {other}" for other in missing)
        refused = f"{who} did not come to {node.meets_at} within {node.join_timeout_seconds:g} s"
        hint = "start it with its parallel.node_rank, or raise parallel.join_timeout_seconds"
    for other in came:
        refused = refused or difference(node.about, json.loads(store.get(_about(other))), other)
    if refused:
        hint = hint or "set the same on all nodes"
    # Other ranks on node 0 wait for its answer, too: by a clock of their own they could decide otherwise.
    for other in (0, *came):
        store.set(_answer(other), json.dumps((refused, hint, node.links.get(other, ""))))
    if refused:
        for other in came:
            with suppress(RuntimeError):
                store.wait([_heard(other)], LAST_WORDS)
        raise EngineError(refused, hint=hint)


def difference(ours: Mapping[str, str], theirs: Mapping[str, str], node: int) -> str:
    """Return the first field in which another node is of another run than node 0; empty where none is."""
    found = first_difference(ours, theirs)
    if found is None:
        return ""
    name, here, there = found
    return f"node {node} is of another run: {name} is {there} there and {here} on node 0"


def _about(node: int) -> str:
    return f"sendnn/about/{node}"


def _answer(node: int) -> str:
    return f"sendnn/answer/{node}"


def _heard(node: int) -> str:
    return f"sendnn/heard/{node}"


def _sampled(files: Mapping[Path, str]) -> str:
    """Return a digest of the sizes and of some bytes of the weights: no rank reads all of them."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for sample in range(SAMPLES):
                stream.seek(sample * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _own_code() -> str:
    """Return a digest of this package's source, of which one version may have several."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
