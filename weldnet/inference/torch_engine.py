"""TorchEngine: a checkpoint run by torch."""

import threading
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from weldnet.errors import InputError, check_choice, first_line
from weldnet.hardware.devices import choose_device, exact_float32
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.engines import PRECISIONS, Engine, Scores, check_finite, try_out
from weldnet.inference.model_card import describe_running
from weldnet.inference.settings import EngineSettings


class TorchEngine(Engine):
    """A checkpoint on a device, as `choose_device` takes it; a damaged one is refused by an InputError.

    `precision` is `float32`, as it was tested (without TF32), or `bf16`: convolutions in bfloat16.
    """

    has_gradients = True

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

    def enter_thread(self) -> None:
        # Threads of torch's own would fight over the cores.
        torch.set_num_threads(1)

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
