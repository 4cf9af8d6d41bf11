"""The collectors behind ``/metrics``, and which plugin each is of."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector


class OwnedRegistry(CollectorRegistry):
    """A registry in which a plugin's collector that fails costs its plugin's metrics alone.

    Args:
        on_failure: called once with the plugin and its error.
    """

    def __init__(self, on_failure: Callable[[str, Exception], None]) -> None:
        super().__init__()
        self._on_failure = on_failure
        self._owner = ""
        self._owners: dict[Collector, str] = {}

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

    def write(self) -> bytes:
        """Return Prometheus text of all that can be collected."""
        try:
            return generate_latest(self)
        except Exception:
            return self._write_each()

    def _write_each(self) -> bytes:
        texts: dict[Collector, bytes] = {}
        for collector, owner in list(self._owners.items()):
            if collector not in self._owners:
                continue
            try:
                texts[collector] = generate_latest(_Collected(collector.collect()))
            except Exception as error:
                if not owner:
                    raise
                for other in [one for one, name in self._owners.items() if name == owner]:
                    self.unregister(other)
                self._on_failure(owner, error)
        return b"".join(text for collector, text in texts.items() if collector in self._owners)


class _Collected(Collector):
    """What one collector gave."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self._metrics
