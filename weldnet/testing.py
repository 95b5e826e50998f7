"""A checkpoint on images, in float32: what was tested is what runs."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.progress import track

from weldnet.checkpoint import Checkpoint
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.leaks import count, is_known
from weldnet.errors import InputError, shorten
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
        InputError: the split has no image; or images that are not in the data's own training split were in the
            checkpoint's, and the data do not allow a leak; or the network has diverged.
    """
    if data.samples(split).is_empty():
        raise InputError(f"no image in split={split}; there are images in {', '.join(data.splits())}")
    record = checkpoint.record
    trained_on = is_known(data.samples(split), record.fingerprints.numpy())
    leaks = find_trained_on(data.samples(split), trained_on)
    if leaks and not data.allow_leak:
        raise InputError(
            f"{leaks[0]}\nSuch a score measures memory. Test other images; or the training split, on purpose, by "
            "split=train; or type data.allow_leak=true, and every report will say so"
        )
    facts = {
        "split": split,
        "num_trained_on": int(trained_on.sum()),
        "leaks": list(dict.fromkeys([*record.leaks, *data.leaks, *leaks])),
        "split_digest": data.split_digest,
        "validation_groups": record.validation_groups,
        "checkpoint_digest": checkpoint.digest,
        "warnings": data.warnings,
    }
    logits = predict_logits(checkpoint.network(), data, split, choose_device(device))
    if not np.isfinite(logits).all():
        raise InputError(
            f"{checkpoint.path}: the network's answers are not finite, its training has diverged; train again with a "
            "lower optimizer.lr"
        )
    return EvaluationReport(logits, data.dataset(split).labels.numpy(), record.classes, data.samples(split), facts)


def find_trained_on(table: pl.DataFrame, trained_on: NDArray[np.bool_]) -> list[str]:
    """Says which images of a test the network has learned from; testing the training split on purpose is no leak.

    Args:
        table: the N samples to test.
        trained_on: (N,), whether the content of each was in training.
    """
    leaking = table.filter(trained_on & (table["split"] != "train").to_numpy())
    if leaking.is_empty():
        return []
    return [f"{count(leaking, 'image')} of the test trained the network: {shorten(leaking['path'].to_list())}"]


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint file."""
    return checkpoint.absolute().parent.parent
