"""Metrics that an engine brings along."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sendnn_pipeline.observe.measure import Measure

KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class Measures:
    """The measures of a plan in a registry.

    Args:
        registry: that exports them.
        labels: of every metric.
        seconds: buckets of histograms that have none of their own.
        measures: of the plan.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        labels: Mapping[str, str],
        seconds: Sequence[float],
        measures: Iterable[Measure],
    ) -> None:
        self._labels = labels
        self._metrics: dict[str, Any] = {}
        for measure in measures:
            options = {"buckets": measure.buckets or seconds} if measure.kind == "histogram" else {}
            names = [*labels, *([measure.label] if measure.label else [])]
            self._metrics[measure.name] = KINDS[measure.kind](
                measure.name, measure.doc, names, registry=registry, **options
            )
            if not measure.label:
                self._metrics[measure.name].labels(**labels)

    def take(self, values: Mapping[str, float]) -> None:
        """Account the counters and gauges of a step."""
        for key, value in values.items():
            name, _, label = key.partition("/")
            metric = self._of(name, label)
            if isinstance(metric, Counter):
                metric.inc(value)
            else:
                metric.set(value)

    def observe(self, values: Mapping[str, Sequence[float]]) -> None:
        """Account the histograms of a request."""
        for name, all_ in values.items():
            metric = self._of(name, "")
            for value in all_:
                metric.observe(value)

    def _of(self, name: str, label: str) -> Any:
        return self._metrics[name].labels(*self._labels.values(), *([label] if label else []))
