"""The server's counters, for Prometheus."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from weldnet.inference.prediction import Prediction
from weldnet.serve.request_queue import WorkQueue

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the histogram's buckets."""


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, queue: WorkQueue) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("weldnet_requests", "Answered requests.", ["route", "status"], registry=own)
        about = "From a request's head to its answer."
        self.seconds = Histogram("weldnet_request_seconds", about, ["route"], buckets=SECONDS, registry=own)
        self.images = Counter("weldnet_images", "Images received, judged or unreadable.", ["outcome"], registry=own)
        self.verdicts = Counter("weldnet_verdicts", "Verdicts given.", ["verdict", "predicted"], registry=own)
        length = Gauge("weldnet_queue_length", "Requests that are predicted or wait for it.", registry=own)
        length.set_function(lambda: queue.length)

    def count_predictions(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            self.images.labels("judged" if prediction.error is None else "unreadable").inc()
            if prediction.error is None:
                self.verdicts.labels(prediction.verdict, prediction.predicted).inc()
