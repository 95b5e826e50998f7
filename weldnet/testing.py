"""A checkpoint on images, in float32: what was tested is what runs."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from weldnet.checkpoint import Checkpoint
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.report import EvaluationReport
from weldnet.hardware import choose_device
from weldnet.model.network import WeldNet


def predict_logits(network: WeldNet, data: WeldDataModule, split: str, device: torch.device) -> NDArray[np.float64]:
    """Logits (N, C) of one split, in the order of `data.samples(split)`; float32 throughout, without TF32."""
    network = network.to(device)
    batches = data.batches(split)
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        logits = [
            network(images.to(device)).cpu() for images, _ in track(batches, f"testing {split}", total=len(batches))
        ]
    return torch.cat(logits).double().numpy()


def evaluate(checkpoint: Checkpoint, data: WeldDataModule, split: str, device: str = "auto") -> EvaluationReport:
    """Tests a checkpoint on one split.

    Args:
        data: set up, with the checkpoint's geometry and classes.
        split: train, val, test or all.

    Raises:
        InputError: the split has no image.
    """
    if data.samples(split).is_empty():
        raise InputError(f"no image in split={split}; there are images in {', '.join(data.splits())}")
    record = checkpoint.record
    facts = {
        "split": split,
        "split_digest": data.split_digest,
        "validation_groups": record.validation_groups,
        "checkpoint_digest": checkpoint.digest,
        "warnings": data.warnings,
    }
    logits = predict_logits(checkpoint.network(), data, split, choose_device(device))
    return EvaluationReport(logits, data.dataset(split).labels.numpy(), record.classes, data.samples(split), facts)


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint file."""
    return checkpoint.absolute().parent.parent
