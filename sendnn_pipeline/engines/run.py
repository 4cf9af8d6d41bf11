"""A run, resolved: what every stage and every process works by."""

from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import Plan
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.programs.artifact import FileState


@dataclass(frozen=True)
class Run:
    """No ``auto`` is left, and nothing below reads the environment or Hydra."""

    config: RunConfig
    model: ModelFacts
    plan: Plan
    cache_dir: Path
    served_name: str
    threads: int
    """Of each engine process; 0 leaves them as they are."""
    timing_prefix: str
    """Under which times of its Programs are recorded on this machine."""
    timing_folders: tuple[Path, ...]
    """Where they are."""
    library: str = ""
    """What the backend imports in the engine's process, which reads its environment at that moment; empty for none."""
    proven: frozenset[FileState] = frozenset()
    """Files of artifacts whose digests were compared when the run was resolved."""
    encoder_threads: int = 0
    """Of a vision encoder; 0 leaves them as they are."""
