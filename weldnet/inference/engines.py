"""What turns images into scores: a checkpoint run by torch, or an export run by ONNX Runtime or OpenVINO."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from weldnet.errors import InputError, check_choice, first_line
from weldnet.evaluation.metrics import Floats
from weldnet.hardware import choose_device, exact_float32
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.model_card import ModelFacts, describe_running
from weldnet.inference.settings import EngineSettings

PRECISIONS = ("float32", "bf16")


class Scores(NamedTuple):
    """Of B images: calibrated probabilities float64 (B, C), and distances float64 (B,) from training, above 1 unlike
    it; nan where the model is not calibrated."""

    probabilities: Floats
    distances: Floats


class Engine(Protocol):
    """A loaded model; several threads may score at once."""

    facts: ModelFacts

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """Scores uint8 (B, 3, H, W), RGB, of the model's geometry, B at least 1."""


class TorchEngine:
    """A checkpoint on a device; a damaged one is refused by an InputError.

    Args:
        device: as `weldnet.hardware.choose_device` takes it.
        precision: `float32`, as it was tested (without TF32), or `bf16`: convolutions in bfloat16.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = EngineSettings.device, precision: str = EngineSettings.precision
    ) -> None:
        check_choice("precision", precision, PRECISIONS)
        self.checkpoint, self.device, self.half = checkpoint, choose_device(device), precision == "bf16"
        self.network = checkpoint.network().to(self.device)
        # Torch's precision is that of the whole process: one thread would reset it while a different one computes.
        self.alone: AbstractContextManager[object] = threading.Lock() if self.device.type != "cpu" else nullcontext()
        self.judge = checkpoint.card.judge
        self.facts = describe_running(
            checkpoint.card,
            calibrated=self.judge is not None,
            digest=checkpoint.digest,
            checkpoint_digest=checkpoint.digest,
            runtime=f"torch {torch.__version__} {precision} on {self.device}",
        )
        try:
            try_out(self)
        except RuntimeError:  # the device's own, such as too little memory
            raise
        except Exception as error:
            raise InputError(f"{checkpoint.path} is no checkpoint that runs: {first_line(error)}") from error

    def score(self, images: NDArray[np.uint8]) -> Scores:
        with self.alone, torch.inference_mode(), exact_float32():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                pooled = self.network.features(torch.from_numpy(images).to(self.device))
            pooled = pooled.float()
            logits, features = self.network.head(pooled).double().cpu().numpy(), pooled.cpu().numpy()
        check_finite(logits)
        if self.judge is None:
            return Scores(softmax(logits, axis=1), np.full(len(images), np.nan))
        scores = Scores(*self.judge.score(logits, features))
        # nan is not above 1, so such an image would pass as like training.
        if not np.isfinite(scores.distances).all():
            raise InputError("the distances from training are not finite numbers; the checkpoint is damaged")
        return scores


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
