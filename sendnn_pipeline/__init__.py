"""Declarative load, compile, warmup and serve of models on compiled, static-shape accelerators."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sendnn_pipeline.app.embedder import Embedder
    from sendnn_pipeline.app.generator import Generator
    from sendnn_pipeline.frontend.errors import RequestError

    __version__: str

__all__ = ["Embedder", "Generator", "RequestError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import what Python programs use when they use it: the command line and the engine need none of it."""
    if name == "__version__":
        return _version()
    if name == "Embedder":
        from sendnn_pipeline.app.embedder import Embedder

        return Embedder
    if name == "Generator":
        from sendnn_pipeline.app.generator import Generator

        return Generator
    if name == "RequestError":
        from sendnn_pipeline.frontend.errors import RequestError

        return RequestError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sendnn_pipeline")
    except PackageNotFoundError:  # a bare checkout on PYTHONPATH
        return "0+checkout"
