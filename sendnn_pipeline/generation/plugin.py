"""The generation engine, its keys and its routes, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.generation.config import GenerationConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.engines.base import Engine
    from sendnn_pipeline.frontend.endpoint import Endpoint

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


@hookimpl
def register_endpoints(register: "Callable[[str, str, Endpoint[Any]], None]") -> None:
    """Register what can be asked of it."""
    from sendnn_pipeline.generation.api import chat, completions

    for endpoints in (completions.ENDPOINTS, chat.ENDPOINTS):
        for path, endpoint in endpoints.items():
            register(NAME, path, endpoint)
