"""Prometheus metrics of this process's requests, and a registry for other collectors."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0)


class Metrics:
    """A separate registry, so that two services in one process do not clash. No label contains user text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pointsman_http_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "pointsman_http_request_seconds",
            "Time until the whole response was sent.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._kinds: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Its size is bounded, because there are few methods, routes and statuses."""

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        kind = (method if method in _METHODS else "other", route, status)
        found = self._kinds.get(kind)
        if found is None:  # a lookup of both by their labels costs a fifth of a short request
            counter = self._requests.labels(kind[0], route, str(status))
            found = self._kinds[kind] = (counter, self._seconds.labels(route))
        found[0].inc()
        found[1].observe(seconds)

    def add(self, collector: Collector) -> None:
        """Include the metrics of ``collector``."""
        self.registry.register(collector)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)
