"""Numbers for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "resight_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "resight_request_seconds", "Time to the answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.searches = Counter("resight_searches", "Searches by outcome.", ("outcome",), registry=self.registry)
        self.stages = Histogram(
            "resight_search_seconds", "Time of a search.", ("stage",), buckets=SECONDS, registry=self.registry
        )
        self.waiting = Gauge("resight_waiting", "Requests that wait for a place.", registry=self.registry)
        self.busy = Gauge("resight_busy", "Computations at work.", registry=self.registry)
        self.photos = Gauge("resight_photos", "Photos of a collection.", ("collection",), registry=self.registry)
        self.pending = Gauge(
            "resight_pending", "Photos that are stored and not searchable yet.", ("collection",), registry=self.registry
        )
        self.age = Gauge(
            "resight_state_age_seconds", "Since a collection was opened.", ("collection",), registry=self.registry
        )
        self.deaths = Gauge("resight_decoder_deaths", "Decoders that died.", registry=self.registry)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
