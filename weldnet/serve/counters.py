"""What a server counts, for Prometheus."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from weldnet.inference.predictor import Prediction
from weldnet.serve.request_queue import WorkQueue

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the histogram's buckets."""


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, queue: WorkQueue) -> None:
        self.registry = CollectorRegistry()
        known = self.registry
        self.requests = Counter("weldnet_requests", "Answered requests.", ["route", "status"], registry=known)
        self.seconds = Histogram(
            "weldnet_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=known,
        )
        self.images = Counter("weldnet_images", "Images received, judged or unreadable.", ["outcome"], registry=known)
        self.verdicts = Counter("weldnet_verdicts", "Verdicts given.", ["verdict", "predicted"], registry=known)
        length = Gauge("weldnet_queue_length", "Requests that are judged or wait for it.", registry=known)
        length.set_function(lambda: queue.length)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def count_predictions(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            self.images.labels("judged" if prediction.error is None else "unreadable").inc()
            if prediction.error is None:
                self.verdicts.labels(prediction.verdict, prediction.predicted).inc()

    def to_text(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)
