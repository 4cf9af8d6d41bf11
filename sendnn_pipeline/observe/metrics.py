"""Prometheus metrics under the names that existing dashboards use, and our own beside them."""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from sendnn_pipeline.messages import StageEvent, StepDone
from sendnn_pipeline.observe.measure import Measure
from sendnn_pipeline.observe.measures import Measures
from sendnn_pipeline.observe.registry import OwnedRegistry

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def token_buckets(max_tokens: int) -> list[int]:
    """Return the series 1, 2, 5, 10, … up to ``max_tokens``."""
    series = [digit * 10**power for power in range(len(str(max_tokens))) for digit in (1, 2, 5)]
    return [bucket for bucket in series if bucket <= max_tokens]


class Metrics:
    """Every metric of a run; one registry, no global state."""

    def __init__(
        self, registry: CollectorRegistry, model_name: str, max_tokens: int, measures: Sequence[Measure] = ()
    ) -> None:
        self.registry = registry
        self._labels = {"model_name": model_name, "engine": "0"}
        tokens = token_buckets(max_tokens)
        self.measures = Measures(registry, self._labels, SECONDS, measures)
        self.running = self._make(Gauge, "vllm:num_requests_running", "Requests of which a text is computed.")
        self.waiting = self._make(Gauge, "vllm:num_requests_waiting", "Requests that wait.")
        self.prompt_tokens = self._make(Counter, "vllm:prompt_tokens", "Real tokens computed.")
        self._success = Counter(
            "vllm:request_success", "Finished requests.", [*self._labels, "finished_reason"], registry=registry
        )
        self.e2e = self._make(Histogram, "vllm:e2e_request_latency_seconds", "Arrival to answer.", SECONDS)
        self.queue = self._make(Histogram, "vllm:request_queue_time_seconds", "Time in the queue.", SECONDS)
        self.inference = self._make(Histogram, "vllm:request_inference_time_seconds", "Time computed.", SECONDS)
        self.prefill = self._make(Histogram, "vllm:request_prefill_time_seconds", "Time computed.", SECONDS)
        self.request_tokens = self._make(Histogram, "vllm:request_prompt_tokens", "Real tokens of a request.", tokens)
        self.iteration_tokens = self._make(Histogram, "vllm:iteration_tokens_total", "Real tokens of a step.", tokens)
        self._real = self._program(Counter, "sendnn_pipeline:real_tokens", "Real tokens computed.")
        self._padding = self._program(Counter, "sendnn_pipeline:padding_tokens", "Padding tokens computed.")
        self._steps = self._program(Counter, "sendnn_pipeline:bucket_requests", "Texts computed.")
        self._fill = Histogram(
            "sendnn_pipeline:batch_fill_ratio", "Filled rows of a step.", ["bucket"], registry=registry, buckets=RATIOS
        )
        self._compile = Gauge(
            "sendnn_pipeline:compile_seconds",
            "Seconds to compile or warm a Program.",
            ["phase", "shape", "source"],
            registry=registry,
        )
        self._artifacts = Counter(
            "sendnn_pipeline:artifact_cache_events",
            "Programs opened from artifacts (hit) or compiled (miss).",
            ["event"],
            registry=registry,
        )
        self._phase = Gauge(
            "sendnn_pipeline:startup_phase_seconds", "Seconds of each phase of the start.", ["phase"], registry=registry
        )
        self.recompiles = Counter(
            "sendnn_pipeline:recompiles", "Compilations asked for after ready; all refused.", registry=registry
        )
        self.backend_info = Gauge(
            "sendnn_pipeline:backend_info",
            "The compile backend.",
            ["name", "version", "device", "fallback"],
            registry=registry,
        )
        self.plugin_failures = Counter(
            "sendnn_pipeline:plugin_load_failures", "Plugins that failed.", registry=registry
        )
        self._rejected = Counter(
            "sendnn_pipeline:rejected", "Requests refused at the door.", ["reason"], registry=registry
        )
        self._answered = Counter(
            "sendnn_pipeline:http_requests", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self._cancelled = Counter(
            "sendnn_pipeline:cancelled", "Requests that ended early.", ["stage"], registry=registry
        )
        self.last_step = Gauge(
            "sendnn_pipeline:engine_last_step_timestamp_seconds", "Unix time of the last step.", registry=registry
        )
        self._recompiles_seen = 0
        self.engine_pid = 0
        """Of the process whose memory and CPU time are read whenever they are asked for; 0 where there is none yet."""
        ProcessCollector(namespace="sendnn_pipeline:engine", pid=lambda: self.engine_pid, registry=registry)

    def _make(self, kind: type, name: str, doc: str, buckets: Sequence[float] | None = None) -> Any:
        options = {"buckets": buckets} if buckets else {}
        metric = kind(name, doc, list(self._labels), registry=self.registry, **options)
        return metric.labels(**self._labels)

    def _program(self, kind: type, name: str, doc: str) -> Any:
        return kind(name, doc, ["bucket"], registry=self.registry)

    async def write(self) -> bytes:
        """Return Prometheus text, without the metrics of a plugin whose collector fails or hangs."""
        if isinstance(self.registry, OwnedRegistry):
            return await self.registry.write()
        return generate_latest(self.registry)

    def stepped(self, step: StepDone, unix_time: float) -> None:
        """Account one run of a Program."""
        self.prompt_tokens.inc(step.real_tokens - step.generated)
        self.measures.take(step.measures)
        self.iteration_tokens.observe(step.real_tokens)
        self._real.labels(step.program).inc(step.real_tokens)
        self._padding.labels(step.program).inc(step.computed_tokens - step.real_tokens)
        self._steps.labels(step.program).inc(step.num_items)
        self._fill.labels(step.program).observe(step.num_items / step.max_items)
        self.recompiles.inc(step.recompiles - self._recompiles_seen)
        self._recompiles_seen = step.recompiles
        self.last_step.set(unix_time)

    def finished(self, reason: str) -> None:
        """Count a request that ended: ``stop``, ``length``, ``abort`` or ``error``."""
        self._success.labels(**self._labels, finished_reason=reason).inc()

    def answered(self, route: str, status: int) -> None:
        """Count an answer over HTTP."""
        self._answered.labels(route, str(status)).inc()

    def rejected(self, reason: str) -> None:
        """Count a request that was refused at the door."""
        self._rejected.labels(reason).inc()

    def cancelled(self, stage: str) -> None:
        """Count a request that ended early, by what ended it."""
        self._cancelled.labels(stage).inc()

    def watch_requests(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read the numbers of requests from here whenever they are asked for."""
        self.running.set_function(running)
        self.waiting.set_function(waiting)

    def on_stage(self, event: StageEvent) -> None:
        """Keep how long a stage or a Program of it took in the first rank."""
        if event.rank:
            return
        if event.state == "finished" and event.program:
            self._compile.labels(event.stage, event.program, event.source or "start").set(event.seconds)
            if event.source:
                self._artifacts.labels("hit" if event.source == "artifact" else "miss").inc()
        elif event.state == "finished":
            self._phase.labels(event.stage).set(event.seconds)
