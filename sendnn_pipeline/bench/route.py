"""Where the requests of a bench go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.multimodal import MultimodalConfig
from sendnn_pipeline.config.serving import GoodputConfig, WorkloadConfig
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.frontend.endpoint import Endpoint


@dataclass(frozen=True)
class Route:
    """A path, and what it does."""

    path: str
    endpoint: Endpoint[Any]


def choose_route(run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> Route:
    """Return the route that benches of the run go to, under its first path.

    Raises:
        ConfigError: the engine has none, or does not do what the workload asks for.
    """
    workload = run.config.workload
    _check_images(workload, run.config.multimodal)
    images = workload.images_per_request > 0
    for path, endpoint in endpoints.items():
        bench = endpoint.bench
        if bench is not None and bench.images == images and bench.applies(run):
            _check_goodput(workload.goodput, endpoint, path)
            return Route(path, endpoint)
    if images:
        raise ConfigError(
            f"workload.images_per_request={workload.images_per_request}, and {run.served_name} reads text alone",
            hint="leave it at 0, or choose a model that reads images",
        )
    raise ConfigError(f"the engine {run.config.engine.name} has no route that can be benched")


def _check_images(workload: WorkloadConfig, multimodal: MultimodalConfig) -> None:
    if workload.images_per_request > multimodal.max_images:
        raise ConfigError(
            f"workload.images_per_request={workload.images_per_request} is more than "
            f"multimodal.max_images={multimodal.max_images}",
            hint="raise the second, or lower the first",
        )
    width, height, most = workload.image_width, workload.image_height, multimodal.max_pixels
    if workload.images_per_request and width * height > most:
        raise ConfigError(
            f"workload.image_width={width} and workload.image_height={height} are more than "
            f"multimodal.max_pixels={most:,}",
            hint="lower them",
        )


def _check_goodput(goodput: GoodputConfig, endpoint: Endpoint[Any], path: str) -> None:
    if goodput.tpot_ms is not None and endpoint.stream is None:
        raise ConfigError(
            f"workload.goodput.tpot_ms={goodput.tpot_ms:g}, and {path} answers whole, not token by token",
            hint="use workload.goodput.latency_ms",
        )
