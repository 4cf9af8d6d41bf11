"""The options of the built-in backends that have some."""

from dataclasses import dataclass, field

from sendnn_pipeline.config.schema import BackendConfig


@dataclass(frozen=True, kw_only=True)
class InductorConfig(BackendConfig):
    """Options of ``backend=inductor``."""

    freezing: bool | None = None
    """Fold the weights into each Program, prepacked; null does so for bfloat16 only: see programs/README.md."""


@dataclass(frozen=True, kw_only=True)
class SendnnConfig(BackendConfig):
    """Options of ``backend=sendnn``."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the device's library must find when it is imported; those that are set already stay."""
