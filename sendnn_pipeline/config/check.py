"""Constraints between values, checked before any weight is loaded."""

from collections.abc import Iterator

from sendnn_pipeline.config.layers import Provenance
from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.config.schema import RunConfig, WorkloadConfig
from sendnn_pipeline.config.shapes import Shape
from sendnn_pipeline.errors import ConfigError

DTYPES = ("float32", "bfloat16", "float16")
TASKS = ("embed", "classify")
POOLINGS = ("mean", "cls", "last")
WORKLOAD_TASKS = ("auto", "texts", "rerank")
LENGTHS = ("lognormal", "uniform", "trace")
STAGES = ("load", "compile", "warmup", "serve")


def check(config: RunConfig, facts: ModelFacts, shapes: tuple[Shape, ...], provenance: Provenance) -> None:
    """Refuse what cannot run.

    Raises:
        ConfigError: the first problem, with where its value was set and what to do.
    """
    for key, message, hint in [*_numbers(config), *_words(config), *_lengths(config, facts, shapes)]:
        raise ConfigError(message, where=provenance.where(key), hint=hint)


def check_description(config: RunConfig, provenance: Provenance) -> None:
    """Refuse what needs no model to be seen wrong."""
    for key, message, hint in [*_numbers(config), *_words(config)]:
        raise ConfigError(message, where=provenance.where(key), hint=hint)


def _numbers(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    serve, model = config.serve, config.model
    if not 0 <= serve.port <= 65535:
        yield "serve.port", f"serve.port={serve.port} is no port", "use 0 to 65535"
    for key, value in (
        ("serve.max_queue", serve.max_queue),
        ("serve.max_body_bytes", serve.max_body_bytes),
        ("warmup.budget", config.warmup.budget),
        ("artifacts.max_bytes", config.artifacts.max_bytes),
        ("parallel.gloo_timeout_minutes", config.parallel.gloo_timeout_minutes),
    ):
        if value < 1:
            yield key, f"{key}={value} must be 1 or more", ""
    if not serve.request_timeout_seconds > 0:
        yield (
            "serve.request_timeout_seconds",
            f"serve.request_timeout_seconds={serve.request_timeout_seconds} must be more than 0",
            "",
        )
    for key, amount in (
        ("serve.drain_seconds", serve.drain_seconds),
        ("process.num_cpus", config.process.num_cpus),
        ("parallel.max_load_processes", config.parallel.max_load_processes),
    ):
        if not amount >= 0:
            yield key, f"{key}={amount} must be 0 or more", ""
    if not config.process.job_seconds > 0:
        yield "process.job_seconds", f"process.job_seconds={config.process.job_seconds} must be more than 0", ""
    if config.process.streams is not None and config.process.streams < 1:
        yield "process.streams", f"process.streams={config.process.streams} must be 1 or more", ""
    yield from _workload(config.workload)
    most = config.scheduler.max_num_batched_tokens
    if most is not None and most < 1:
        yield "scheduler.max_num_batched_tokens", f"scheduler.max_num_batched_tokens={most} must be 1 or more", ""
    if model.max_model_len is not None and model.max_model_len < 1:
        yield "model.max_model_len", f"model.max_model_len={model.max_model_len} must be 1 or more", ""


def _workload(workload: WorkloadConfig) -> Iterator[tuple[str, str, str]]:
    for name in ("least", "num_requests", "texts_per_request", "concurrency", "query_tokens"):
        if getattr(workload, name) < 1:
            yield f"workload.{name}", f"workload.{name}={getattr(workload, name)} must be 1 or more", ""
    if workload.most < workload.least:
        yield "workload.most", f"workload.most={workload.most} is less than workload.least={workload.least}", ""
    if workload.rate is not None and not workload.rate > 0:
        yield "workload.rate", f"workload.rate={workload.rate} must be more than 0", ""
    if not workload.median > 0 or not workload.sigma >= 0:
        yield "workload.median", f"workload.median={workload.median} or sigma={workload.sigma} is no length", ""
    if workload.lengths not in LENGTHS:
        yield "workload.lengths", f"workload.lengths={workload.lengths} is none", f"use {', '.join(LENGTHS)}"
    if workload.task not in WORKLOAD_TASKS:
        yield "workload.task", f"workload.task={workload.task} is none", f"use {', '.join(WORKLOAD_TASKS)}"
    if workload.lengths == "trace" and not workload.trace:
        yield "workload.trace", "workload.lengths=trace needs a file", "name it with workload.trace=FILE"


def _words(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    if config.model.dtype not in (*DTYPES, "auto"):
        yield "model.dtype", f"model.dtype={config.model.dtype} is no dtype", f"use auto, {', '.join(DTYPES)}"
    if config.artifacts.require and not config.artifacts.enabled:
        yield "artifacts.require", "artifacts.require=true and artifacts.enabled=false exclude each other", ""
    if config.engine.pooling not in (*POOLINGS, "auto"):
        yield (
            "engine.pooling",
            f"engine.pooling={config.engine.pooling} is no pooling",
            f"use auto, {', '.join(POOLINGS)}",
        )
    if config.engine.task not in (*TASKS, "auto"):
        yield "engine.task", f"engine.task={config.engine.task} is none", f"use auto, {', '.join(TASKS)}"
    stages = tuple(config.pipeline.stages)
    if not stages or stages != STAGES[: len(stages)]:
        yield (
            "pipeline.stages",
            f"pipeline.stages={list(stages)} cannot run",
            f"name the first of {', '.join(STAGES)}, in order",
        )
    if config.device != "cpu":
        yield "device", f"device={config.device} is not supported by this version", "use device=cpu"


def _lengths(config: RunConfig, facts: ModelFacts, shapes: tuple[Shape, ...]) -> Iterator[tuple[str, str, str]]:
    max_len = config.model.max_model_len or 0
    if facts.position_limit and max_len > facts.position_limit:
        yield (
            "model.max_model_len",
            f"model.max_model_len={max_len} is more than the model's {facts.position_limit} positions",
            "lower it",
        )
    for shape in shapes:
        if shape.prompt_len > max_len:
            yield (
                "warmup.shapes",
                f"shape {shape} in warmup is longer than the model's {max_len} tokens",
                f"use lengths up to {max_len}, or raise model.max_model_len (at most {facts.position_limit})",
            )
