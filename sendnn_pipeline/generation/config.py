"""The keys of the generation engine."""

from dataclasses import dataclass

from sendnn_pipeline.config.schema import EngineConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(EngineConfig):
    """Text, continued."""

    prefix_caching: bool = True
    """Share the keys and values of equal beginnings."""
    request_templates: bool = False
    """Whether a request may bring a chat template of its own."""


def generation_config(config: RunConfig) -> GenerationConfig:
    """Return the engine's own part of a run's configuration."""
    assert isinstance(config.engine, GenerationConfig)
    return config.engine
