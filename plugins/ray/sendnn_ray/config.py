"""Options of ``serve=ray``."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.numbers import Positive
from sendnn_pipeline.config.serving import ServeConfig

Seconds = Annotated[float, Meta(gt=0)]
# How often Ray counts requests; it averages over more than that.
COUNT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class RayConfig(ServeConfig):
    """Replicas behind Ray Serve."""

    target: str = "ray"
    """Registered serve target."""
    address: Annotated[str, Meta(min_length=1)] = "local"
    """Cluster to run on: `local` starts one on this machine for this run, `auto` is the one that runs here already."""
    name: Annotated[str, Meta(min_length=1)] = "sendnn"
    """Name of the application in Ray Serve; a run of the same name takes its place."""
    min_replicas: Positive = 1
    """Replicas that are always there."""
    max_replicas: Positive = 1
    """Most replicas; above `serve.min_replicas` their number follows the queue."""
    cpus: Positive = 1
    """CPUs that Ray counts for a replica; its threads, unless variables or `process.num_cpus` say otherwise."""
    resources: list[str] = field(default_factory=list)
    """Other resources of Ray that a replica needs, such as `[spyre:1]`."""
    target_requests: Annotated[float, Meta(gt=0)] = 16.0
    """Requests under way a replica, waiting ones among them, that the number of replicas is chosen for."""
    max_requests: Positive = 256
    """Most requests that are sent to a replica at once; more wait in Ray's proxy, for whichever is free first."""
    look_back_seconds: Annotated[float, Meta(gt=COUNT_SECONDS)] = 15.0
    """Time over which requests are averaged before replicas are added or removed; Ray counts them every 10 s."""
    upscale_seconds: Seconds = 10.0
    """How long there must be too many requests before replicas are added."""
    downscale_seconds: Seconds = 120.0
    """How long there must be too few requests before replicas are removed."""
    health_seconds: Seconds = 5.0
    """How often a replica is asked whether it is ready; one that says three times that it is not is replaced."""
