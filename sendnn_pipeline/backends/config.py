"""The options of the built-in backends that have some."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.schema import BackendConfig


@dataclass(frozen=True, kw_only=True)
class InductorConfig(BackendConfig):
    """Options of ``backend=inductor``."""

    freezing: bool | None = None
    """Fold the weights into each Program, prepacked; null does so for bfloat16 only: see programs/README.md."""


@dataclass(frozen=True, kw_only=True)
class SendnnConfig(BackendConfig):
    """Options of ``backend=sendnn`` and of ``backend=sendnn_compile_only``."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the device's library must find when it is imported; those that are set already stay."""
    card_memory_gib: Annotated[float, Meta(gt=0)] = 128.0
    """What a card holds: weights and KV blocks are checked against it before anything is compiled."""
    max_batch_tkv: Annotated[int, Meta(ge=64)] | None = None
    """Most sequences times tokens of a decode; null is the known configuration's, else 131072."""
    any_architecture: bool = False
    """Compile models, too, of types that are not known to run on the device."""
