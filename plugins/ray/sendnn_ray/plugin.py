"""What is registered under ``ray``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_pipeline.hooks import hookimpl
from sendnn_ray.config import RayConfig

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run
    from sendnn_pipeline.frontend.target import ServeTarget


def _ray() -> "ServeTarget":
    from sendnn_ray.target import RayTarget

    return RayTarget()


@hookimpl
def config_paths() -> Path:
    """Add the option."""
    return Path(__file__).parent / "conf"


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the option."""
    store("serve", "ray", RayConfig)


@hookimpl
def register_serve_targets(register: Callable[[str, "Callable[[], ServeTarget]"], None]) -> None:
    """Register ray."""
    register("ray", _ray)


@hookimpl
def check_config(run: "Run") -> list[str]:
    """Refuse what Ray's proxy cannot do."""
    serve = run.config.serve
    if not isinstance(serve, RayConfig):
        return []
    problems = []
    if serve.max_replicas < serve.min_replicas:
        problems.append(
            f"serve.max_replicas={serve.max_replicas} is below serve.min_replicas={serve.min_replicas}; raise it"
        )
    for key in ("uds", "ssl_certfile"):
        if getattr(serve, key) is not None:
            problems.append(f"serve.{key}: Ray's proxy speaks HTTP at an address; leave it out")
    wrong = [text for text in serve.resources if not _is_resource(text)]
    if wrong:
        problems.append(f"serve.resources: {wrong[0]} is not a name and a number, such as spyre:1; correct it")
    return problems


def _is_resource(text: str) -> bool:
    name, _, number = text.partition(":")
    return bool(name) and number.replace(".", "", 1).isdigit()
