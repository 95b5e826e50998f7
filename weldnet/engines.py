"""What turns images into scores: a checkpoint run by torch, or an export run by ONNX Runtime or OpenVINO."""

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from weldnet.checkpoint import Checkpoint, judge_of
from weldnet.data.images import Geometry
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.decision import OperatingPoint, choose_operating_point
from weldnet.evaluation.metrics import Floats, softmax
from weldnet.hardware import choose_device

PRECISIONS = ("float32", "bf16")

NOT_CALIBRATED = "the checkpoint is not calibrated: every image is referred"


class Scores(NamedTuple):
    """Of B images: calibrated probabilities float64 (B, C), and distances float64 (B,) from training, above 1 unlike
    it; nan where the model is not calibrated."""

    probabilities: Floats
    distances: Floats


@dataclass(frozen=True)
class ModelFacts:
    """What a model says of itself, whatever runs it.

    Attributes:
        classes: C names, in the order of the probabilities.
        geometry: how files become its input.
        point: the thresholds; with no good class every image is referred.
        temperature: that the probabilities were calibrated with; 1 where they were not.
        calibrated: whether it has a temperature, thresholds and distances of its own.
        vocabulary: number and name in ISO 6520-1 by class, for those that have one.
        digest: SHA-256, 64 hex digits: of the checkpoint; or of an export's `model.json`, which names its files' own.
        checkpoint_digest: SHA-256 of the checkpoint it comes from.
        runtime: what runs it, and in which precision, in words.
        versions: of the packages that made it.
    """

    classes: tuple[str, ...]
    geometry: Geometry
    point: OperatingPoint
    temperature: float
    calibrated: bool
    vocabulary: dict[str, str]
    digest: str
    checkpoint_digest: str
    runtime: str
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self) | {"classes": list(self.classes), "point": self.point.to_dict()}


class Engine(Protocol):
    """A loaded model; several threads may score at once."""

    facts: ModelFacts

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """Args:
        images: uint8 (B, 3, H, W) RGB of the model's geometry, B at least 1.
        """


class TorchEngine:
    """A checkpoint on a device.

    Args:
        checkpoint: loaded.
        device: as `weldnet.hardware.choose_device` takes it.
        precision: `float32`, as it was tested (without TF32), or `bf16`: convolutions in bfloat16.

    Raises:
        InputError: no such device or precision; the checkpoint is damaged.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "float32") -> None:
        check_choice("precision", precision, PRECISIONS)
        self.checkpoint, self.device, self.half = checkpoint, choose_device(device), precision == "bf16"
        self.network = checkpoint.network().to(self.device)
        # cudnn's flags are the whole process's, so that one thread would set them back under another.
        self.alone: AbstractContextManager[object] = threading.Lock() if self.device.type != "cpu" else nullcontext()
        self.judge, record = judge_of(checkpoint), checkpoint.record
        self.facts = ModelFacts(
            tuple(record.classes),
            checkpoint.geometry,
            self.judge.point if self.judge else choose_operating_point(np.zeros(0), np.zeros(0, np.bool_), ()),
            self.judge.temperature if self.judge else 1.0,
            self.judge is not None,
            record.vocabulary,
            checkpoint.digest,
            checkpoint.digest,
            f"torch {torch.__version__} {precision} on {self.device}",
            record.versions,
        )

    def score(self, images: NDArray[np.uint8]) -> Scores:
        with self.alone, torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                pooled = self.network.features(torch.from_numpy(images).to(self.device))
            pooled = pooled.float()
            logits, features = self.network.head(pooled).double().cpu().numpy(), pooled.cpu().numpy()
        check_finite(logits)
        if self.judge is None:
            return Scores(softmax(logits), np.full(len(images), np.nan))
        return Scores(*self.judge.score(logits, features))


def check_finite(outputs: Floats) -> None:
    """Raises:
    InputError: a network's outputs are not finite numbers.
    """
    if not np.isfinite(outputs).all():
        raise InputError("the network's outputs are not finite numbers; its training has diverged")
