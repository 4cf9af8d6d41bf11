"""The collectors behind ``/metrics``, and which plugin each is of."""

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from sendnn_pipeline.observe.in_time import in_time

# For a plugin's collectors together; a scrape of Prometheus waits for ten.
MAX_SECONDS = 3.0


class OwnedRegistry(CollectorRegistry):
    """A registry in which a plugin's collector that fails or hangs costs its plugin's metrics alone.

    Args:
        on_failure: called once with the plugin and its error.
    """

    def __init__(self, on_failure: Callable[[str, Exception], None]) -> None:
        super().__init__()
        self._on_failure = on_failure
        self._owner = ""
        self._owners: dict[Collector, str] = {}
        self._tasks: dict[str, asyncio.Task[bytes]] = {}

    def of(self, plugin: str) -> "OwnedRegistry":
        """Return itself; what is registered from here on is of ``plugin``."""
        self._owner = plugin
        return self

    def register(self, collector: Collector) -> None:
        """Take a collector; of two with one name, the second is refused."""
        super().register(collector)
        self._owners[collector] = self._owner

    def unregister(self, collector: Collector) -> None:
        """Forget a collector."""
        super().unregister(collector)
        del self._owners[collector]

    async def write(self) -> bytes:
        """Return Prometheus text of all that can be collected, plugins' within their time."""
        plugins = sorted({owner for owner in self._owners.values() if owner})
        texts = await asyncio.gather(*map(self._write_of, plugins))
        return b"".join([_text_of(self._collectors_of("")), *texts])

    async def _write_of(self, plugin: str) -> bytes:
        """Return a plugin's text; nothing, and nothing from then on, where one of its collectors fails or hangs."""
        task = self._tasks.get(plugin)
        if task is None:
            collectors = self._collectors_of(plugin)
            task = self._tasks[plugin] = asyncio.create_task(in_time(lambda: _text_of(collectors), MAX_SECONDS))
            task.add_done_callback(lambda _: self._tasks.pop(plugin))
        try:
            # Others wait for it, too: who leaves takes it from nobody.
            return await asyncio.shield(task)
        except Exception as error:
            self._drop(plugin, error)
            return b""

    def _drop(self, plugin: str, error: Exception) -> None:
        collectors = self._collectors_of(plugin)
        for collector in collectors:
            self.unregister(collector)
        if collectors:
            self._on_failure(plugin, error)

    def _collectors_of(self, plugin: str) -> list[Collector]:
        return [collector for collector, owner in self._owners.items() if owner == plugin]


def _text_of(collectors: Iterable[Collector]) -> bytes:
    return generate_latest(_Collected(metric for collector in collectors for metric in collector.collect()))


class _Collected(Collector):
    """What one collector gave."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self._metrics
