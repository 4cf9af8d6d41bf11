"""How many threads each engine process gets, and the variables that set them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sendnn_pipeline.config.schema import ProcessConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.machine.cpu import (
    check_threads,
    count_cpus,
    encoder_threads,
    read_cpu_facts,
    thread_variables,
    threads_per_worker,
)


@dataclass(frozen=True)
class Threads:
    """Threads of each engine process."""

    count: int
    """0 where nothing says how many CPUs there are."""
    reason: str
    environment: Mapping[str, str]
    warnings: Sequence[str]
    encoder: int = 0
    """Threads of a vision encoder; 0 leaves them as they are."""


def plan_threads(process: ProcessConfig, environ: Mapping[str, str], workers: int = 1) -> Threads:
    """Decide the threads of each engine process.

    Raises:
        ConfigError: nothing says how many CPUs there are.
    """
    facts = read_cpu_facts()
    cpus, reason = count_cpus(process.num_cpus, facts)
    if cpus is None:
        if process.update_thread_config:
            raise ConfigError(
                f"threads cannot be set: {reason}",
                hint="set process.num_cpus (SENDNN_INFERENCE_NUM_CPUS), or process.update_thread_config=false",
            )
        return Threads(0, reason, {}, ())
    count = threads_per_worker(cpus, workers)
    if process.update_thread_config:
        encoder = encoder_threads(process.num_cpus, facts)
        return Threads(count, reason, thread_variables(count), (), encoder)
    return Threads(count, "process.update_thread_config=false: not set", {}, check_threads(environ, count))
