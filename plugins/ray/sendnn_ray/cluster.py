"""All that is asked of Ray."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sendnn_pipeline.config.description import RunDescription
from sendnn_pipeline.config.schema import ConsoleName, RunConfig
from sendnn_pipeline.errors import ServeError
from sendnn_ray.config import RayConfig
from sendnn_ray.replica import Replica

DEPLOYMENT = "replica"
# Requests and answers pass by; nothing is stored.
OBJECTS_BYTES = 256 * 2**20
LINGER_SECONDS = 5.0
# A line of ours in a traceback of Ray's.
OURS = "sendnn_pipeline.errors."


@dataclass(frozen=True)
class State:
    """How an application is."""

    running: int
    """Replicas that take requests."""
    message: str = ""
    """What Ray says is wrong; empty where nothing is."""
    failed: bool = False
    """Whether Ray gave up."""


class Cluster(Protocol):
    """What the target needs of Ray."""

    def deploy(self, description: RunDescription, config: RunConfig) -> None:
        """Start the replicas, and return when they are ready.

        Raises:
            ServeError: they do not start.
        """

    def state(self) -> State:
        """Return how the application is."""

    def remove(self) -> None:
        """Let requests finish, then end the replicas."""


@contextmanager
def open_cluster(options: RayConfig, console: ConsoleName) -> Iterator[Cluster]:
    """Yield the cluster while the block runs: one of its own, which ends with it, or one that is there.

    Raises:
        ServeError: there is none at ``serve.address``, or no Ray Serve is installed.
    """
    # Ray reports what is used unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # noqa: TID251
    # Workers, and so engines, would give way to every other process of the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")  # noqa: TID251
    try:
        import ray
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise ServeError(f"serve=ray needs Ray Serve: {_line(error)}", hint='pip install "ray[serve]"') from None

    local = options.address == "local"
    own = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES} if local else {}
    try:
        ray.init(options.address, log_to_driver=console != ConsoleName.quiet, logging_level="warning", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "start Ray there (ray start --head), or use serve.address=local"
        raise ServeError(f"serve.address={options.address}: no Ray answers: {error}", hint=hint) from None
    try:
        yield RayCluster(options, local)
    finally:
        ray.shutdown()


def _line(error: Exception) -> str:
    """Return the first sentence of what an import says."""
    return " ".join(str(error).split()).partition(". ")[0]


@dataclass(frozen=True)
class RayCluster:
    """An application of Ray Serve."""

    options: RayConfig
    local: bool

    def deploy(self, description: RunDescription, config: RunConfig) -> None:
        """Start the replicas, and return when they are ready.

        Raises:
            ServeError: they do not start.
        """
        import ray
        from ray import serve

        # What it does is ours to say.
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        options, total = self.options, int(ray.cluster_resources().get("CPU", 0))
        if self.local and options.min_replicas * options.cpus > total:
            raise ServeError(
                f"{options.min_replicas} replicas of {options.cpus} CPUs each, and this machine has {total}",
                hint="lower serve.min_replicas or serve.cpus",
            )
        http = {"host": options.host, "port": options.port, "keep_alive_timeout_s": options.keep_alive_seconds}
        deployment = serve.deployment(serve.ingress()(Replica), name=DEPLOYMENT)
        app = deployment.options(**deployment_options(options)).bind(description, config)
        try:
            serve.start(http_options=http, logging_config={"log_level": "WARNING"})
        except ray.exceptions.RayError as error:
            raise ServeError(f"Ray's proxy does not start: {reason_of(str(error))}") from None
        try:
            serve.run(app, name=options.name)
        except RuntimeError as error:
            raise ServeError(f"the replicas do not start: {reason_of(self._message() or str(error))}") from None

    def state(self) -> State:
        """Return how the application is."""
        from ray import serve
        from ray.serve.schema import ApplicationStatus

        app = serve.status().applications[self.options.name]
        running = sum(found.replica_states.get("RUNNING", 0) for found in app.deployments.values())
        well = app.status in (ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING)
        message = "" if well else f"{app.status.lower()}: {reason_of(self._message())}"
        return State(running, message, app.status == ApplicationStatus.DEPLOY_FAILED)

    def remove(self) -> None:
        """Let requests finish, then end the replicas; and Serve, where the cluster is the run's own."""
        from ray import serve

        serve.delete(self.options.name)
        if self.local:
            serve.shutdown()

    def _message(self) -> str:
        from ray import serve

        app = serve.status().applications.get(self.options.name)
        if app is None:
            return ""
        return "\n".join([*(found.message for found in app.deployments.values()), app.message]).strip()


def deployment_options(options: RayConfig) -> dict[str, Any]:
    """Return a deployment's options: number of replicas, resources, health and drain."""
    resources = dict(text.split(":") for text in options.resources)
    number: dict[str, Any] = {"num_replicas": options.min_replicas}
    if options.max_replicas > options.min_replicas:
        number = {
            "autoscaling_config": {
                "min_replicas": options.min_replicas,
                "max_replicas": options.max_replicas,
                "target_ongoing_requests": options.target_requests,
                "look_back_period_s": options.look_back_seconds,
                "upscale_delay_s": options.upscale_seconds,
                "downscale_delay_s": options.downscale_seconds,
            }
        }
    return {
        **number,
        "max_ongoing_requests": options.max_requests,
        "ray_actor_options": {
            "num_cpus": options.cpus,
            "resources": {name: float(number) for name, number in resources.items()},
        },
        "health_check_period_s": options.health_seconds,
        # Ray ends a replica that has requests for longer; ours are answered by then.
        "graceful_shutdown_timeout_s": options.drain_seconds + LINGER_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }


def reason_of(message: str) -> str:
    """Return the line of a message of Ray's that says why: our own error's, else its last."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    ours = [line.partition(OURS)[2].partition(": ")[2] for line in lines if OURS in line]
    return ours[-1] if ours else " ".join(lines[-1:]) or "it does not say why"
