"""A run, resolved: what every stage and every process works by."""

from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import Plan
from sendnn_pipeline.models.facts import ModelFacts


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
    encoder_threads: int = 0
    """Of a vision encoder; 0 leaves them as they are."""
