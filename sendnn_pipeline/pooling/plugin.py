"""The pooling engine, its keys and its routes, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.pooling.config import PoolingConfig, ShapeWarmup

if TYPE_CHECKING:
    from sendnn_pipeline.engines.base import Engine
    from sendnn_pipeline.frontend.endpoint import Endpoint

NAME = "pooling"


def _engine() -> "Engine":
    from sendnn_pipeline.pooling.engine import PoolingEngine

    return PoolingEngine()


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the options of the engine, and the shapes of every warmup."""
    store("engine", NAME, PoolingConfig)
    store("warmup", "", ShapeWarmup)


@hookimpl
def register_engines(register: "Callable[[str, Callable[[], Engine]], None]") -> None:
    """Register pooling."""
    register(NAME, _engine)


@hookimpl
def register_endpoints(register: "Callable[[str, str, Endpoint[Any]], None]") -> None:
    """Register what can be asked of it."""
    from sendnn_pipeline.pooling.api import classify, cohere, embeddings, rerank, score, tei

    for endpoints in (module.ENDPOINTS for module in (embeddings, score, rerank, classify, tei, cohere)):
        for path, endpoint in endpoints.items():
            register(NAME, path, endpoint)
