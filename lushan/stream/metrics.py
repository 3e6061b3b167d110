"""What a watch counts, for Prometheus to fetch."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from lushan.errors import UsageError
from lushan.stream.watch import Watch

_HELP = {
    "frames": "Frames read",
    "answered": "Frames recognised",
    "told": "Answers given out",
    "dropped": "Frames dropped, since the machine could not keep up",
    "damaged": "Frames that could not be decoded, or not wholly",
    "reopened": "Times that the source was opened again",
}


class _Counts(Collector):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self):  # type: ignore[no-untyped-def]
        for name, value in self._watch.totals().items():
            yield CounterMetricFamily(f"lushan_watch_{name}", _HELP[name], value=value)


def serve_metrics(watch: Watch, port: int, host: str = "127.0.0.1") -> Callable[[], None]:
    """Answer at ``http://host:port/metrics`` from a thread; return what ends that.

    Raises UsageError where the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(_Counts(watch))
    Gauge(
        "lushan_watch_frames_per_second", "Frames read a second, since the first", registry=registry
    ).set_function(watch.rate)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(
            "metrics cannot be served at port {port}: {problem}",
            port=port,
            problem=error.strerror or str(error),
        ) from None

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
