"""What the server counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self, workers: int) -> None:
        self.registry = CollectorRegistry()
        to: dict[str, Any] = {"namespace": "neuromoco", "registry": self.registry}
        self.requests = Counter("requests", "Answers of /classify, by outcome.", ["outcome"], **to)
        self.stages = Histogram("stage_seconds", "Seconds of /classify, by stage.", ["stage"], buckets=BUCKETS, **to)
        self.received = Counter("received_bytes", "Bytes of files.", **to)
        self.busy = Gauge("workers_busy", "Workers at work.", **to)
        self.streams = Gauge("streams", "Streams of events at /stream.", **to)
        self.streamed = Counter("streamed_events", "Events of /stream.", **to)
        Gauge("workers", "Workers.", **to).set(workers)
