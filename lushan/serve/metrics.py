"""What the service counts, in Prometheus' text format. No label comes from a client."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one service; threads may observe at the same time."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "lushan_requests",
            "Requests answered, by route and status",
            ("route", "status"),
            registry=self._registry,
        )
        self._errors = Counter(
            "lushan_errors", "Requests refused, by kind", ("kind",), registry=self._registry
        )
        self._queue = Gauge(
            "lushan_queue_pictures",
            "Pictures admitted and not yet answered",
            registry=self._registry,
        )
        self._held = Gauge(
            "lushan_held_bytes", "Bytes of requests now in memory", registry=self._registry
        )
        self._kept = Gauge(
            "lushan_kept_bytes", "Bytes of pictures kept to be explained", registry=self._registry
        )
        self._explanations = Gauge(
            "lushan_queue_explanations",
            "Explanations asked for and not yet given",
            registry=self._registry,
        )
        self._sizes = Histogram(
            "lushan_batch_pictures",
            "Pictures per run of the engine",
            ("model",),
            buckets=_SIZES,
            registry=self._registry,
        )
        self._phases = Histogram(
            "lushan_phase_seconds",
            "Seconds in each phase: decode and wait per picture, engine per batch, "
            "receive and total per request, explain per explanation",
            ("model", "phase"),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def watch(
        self,
        *,
        queue: Callable[[], float],
        held: Callable[[], float],
        kept: Callable[[], float],
        explanations: Callable[[], float],
    ) -> None:
        """Let the gauges ask these functions."""
        self._queue.set_function(queue)
        self._held.set_function(held)
        self._kept.set_function(kept)
        self._explanations.set_function(explanations)

    def request(self, route: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()

    def error(self, kind: str) -> None:
        """Count a refusal."""
        self._errors.labels(kind).inc()

    def phase(self, model: str, phase: str, seconds: float) -> None:
        """Record how long one phase took."""
        self._phases.labels(model, phase).observe(seconds)

    def batch(self, model: str, size: int, seconds: float, waits: Sequence[float]) -> None:
        """Record one run of the engine, and how long each of its pictures waited for it."""
        self._sizes.labels(model).observe(size)
        self.phase(model, "engine", seconds)
        wait = self._phases.labels(model, "wait")
        for one in waits:
            wait.observe(one)

    def text(self) -> bytes:
        """Return everything, in Prometheus' text format."""
        return generate_latest(self._registry)
