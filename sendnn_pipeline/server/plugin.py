"""The built-in serve target."""

from typing import TYPE_CHECKING

from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from sendnn_pipeline.frontend.target import ServeTarget


def _http() -> "ServeTarget":
    from sendnn_pipeline.server.target import HttpTarget

    return HttpTarget()


@hookimpl
def register_serve_targets(register: "Callable[[str, Callable[[], ServeTarget]], None]") -> None:
    """Register http."""
    register("http", _http)
