"""What `/metrics` shows of the verdicts, the model and the process."""

from collections.abc import Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Info, ProcessCollector

from weldnet.evaluation.verdicts import VERDICTS
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction

OUTCOMES = JUDGED, UNREADABLE = ("judged", "unreadable")


class Counters:
    """Counts images by outcome and verdict. Each series begins with 0 at the start, so that a rate sees its first one.

    Args:
        run: the name of the run, or of the export, that the model is.
    """

    def __init__(self, registry: CollectorRegistry, facts: ModelFacts, run: str) -> None:
        about = "Images received, judged or unreadable."
        self.images = Counter("weldnet_images", about, ["outcome"], registry=registry)
        self.verdicts = Counter("weldnet_verdicts", "Verdicts given.", ["verdict", "predicted"], registry=registry)
        about = "Images unlike anything in training, which are referred."
        self.unlike = Counter("weldnet_unlike_training", about, registry=registry)
        for outcome in OUTCOMES:
            self.images.labels(outcome)
        for verdict in VERDICTS:
            for name in facts.classes:
                self.verdicts.labels(verdict, name)
        model = Info("weldnet_model", "The model that gives the verdicts.", registry=registry)
        model.info({"digest": facts.digest, "run": run, "version": version("weldnet")})
        ProcessCollector(registry=registry)

    def count(self, predictions: Sequence[Prediction]) -> None:
        """Counts the predictions of one request."""
        for each in predictions:
            self.images.labels(UNREADABLE if each.error else JUDGED).inc()
            if not each.error:
                self.verdicts.labels(each.verdict, each.predicted).inc()
                self.unlike.inc(bool(each.unlike_training))
