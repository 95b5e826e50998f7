"""What turns images into scores: a checkpoint run by torch, or an export run by ONNX Runtime or OpenVINO."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError
from weldnet.evaluation.arrays import Floats
from weldnet.inference.model_card import ModelFacts

PRECISIONS = ("float32", "bf16")


class Scores(NamedTuple):
    """Of B images, float64: calibrated probabilities (B, C); distances (B,), above 1 unlike training, nan unknown."""

    probabilities: Floats
    distances: Floats


class Engine(Protocol):
    """A loaded model; several threads may score at once. Engines inherit from it."""

    facts: ModelFacts
    has_gradients: bool = False
    """Whether it is a `TorchEngine`, so that heatmaps can be drawn."""

    def enter_thread(self) -> None:
        """Prepares a thread that will score, on one core."""
        return

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """Scores uint8 (B, 3, H, W), RGB, of the model's geometry, B at least 1."""


def try_out(engine: Engine) -> None:
    """Scores two black images, so that a network that does not fit its card is refused before any work."""
    facts = engine.facts
    scores = engine.score(np.zeros((2, 3, facts.geometry.height, facts.geometry.width), np.uint8))
    if scores.probabilities.shape != (2, len(facts.classes)) or scores.distances.shape != (2,):
        raise InputError(f"it does not give {len(facts.classes)} probabilities and a distance for each image")


def check_finite(outputs: Floats) -> None:
    """Raises an InputError where outputs are not finite numbers."""
    if not np.isfinite(outputs).all():
        raise InputError("the network's outputs are not finite numbers; its training has diverged")
