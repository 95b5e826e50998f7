"""An engine that calls bright images good: for tests that need verdicts, but no network."""

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.images import Geometry
from weldnet.evaluation.decision import OperatingPoint
from weldnet.inference.engines import ModelFacts, Scores

POINT = OperatingPoint(0.7, 0.3, ("good",), 0.05, 0.05, 0.95, 100, 100)
FACTS = ModelFacts(
    ("good", "pore"), Geometry(8, 4), POINT, 1.0, True, {}, "a" * 64, "b" * 64, "brightness float32 on cpu", {}
)


class BrightnessEngine:
    """p(good) is the mean brightness; a black image is unlike training.

    Attributes:
        calls: how many images each call of `score` had.
        fail_after: raises what Ctrl-C does once that many images were scored.
    """

    def __init__(self, facts: ModelFacts = FACTS, *, fail_after: int | None = None) -> None:
        self.facts, self.fail_after = facts, fail_after
        self.calls: list[int] = []
        self.lock = threading.Lock()

    def score(self, images: NDArray[np.uint8]) -> Scores:
        with self.lock:
            if self.fail_after is not None and sum(self.calls) >= self.fail_after:
                raise KeyboardInterrupt
            self.calls.append(len(images))
        bright = images.mean(axis=(1, 2, 3)) / 255
        return Scores(np.stack([bright, 1 - bright], axis=1), np.where(bright == 0, 2.0, 0.5))


def other_digest() -> ModelFacts:
    """The facts of another model."""
    return replace(FACTS, digest="c" * 64)
