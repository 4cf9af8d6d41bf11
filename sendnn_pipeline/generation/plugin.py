"""The generation engine, its keys and its routes, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sendnn_pipeline.generation.config import GenerationConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.engines.base import Engine

NAME = "generation"


def _engine() -> "Engine":
    from sendnn_pipeline.generation.engine import GenerationEngine

    return GenerationEngine()


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the options of the engine."""
    store("engine", NAME, GenerationConfig)


@hookimpl
def register_engines(register: "Callable[[str, Callable[[], Engine]], None]") -> None:
    """Register generation."""
    register(NAME, _engine)
