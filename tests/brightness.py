"""An engine that calls bright images good: for tests that need verdicts, but no network."""

import threading

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.images import Geometry
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.model_card import ModelFacts

POINT = OperatingPoint(0.7, 0.3, ("good",), 0.05, 0.05, 0.95, 100, 100)
FACTS = ModelFacts(
    classes=["good", "pore"],
    geometry=Geometry(8, 4),
    vocabulary={},
    split_digest="",
    versions={},
    git_commit=None,
    temperature=1.0,
    point=POINT,
    calibrated=True,
    digest="a" * 64,
    checkpoint_digest="b" * 64,
    runtime="brightness float32 on cpu",
)


class BrightnessEngine(Engine):
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
    """The facts of a different model."""
    return FACTS.model_copy(update={"digest": "c" * 64})
