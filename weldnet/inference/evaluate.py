"""A checkpoint on images, in float32: what was tested is what runs."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.progress import track

from weldnet.data.batches import explain_workers
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.leaks import Fingerprints, count, fingerprint, is_known
from weldnet.errors import InputError, shorten
from weldnet.evaluation.decision import Flags
from weldnet.evaluation.judge import Judge, Outputs
from weldnet.hardware import choose_device, exact_float32
from weldnet.inference.checkpoint import Checkpoint, judge_of
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.model_card import NOT_CALIBRATED
from weldnet.inference.settings import DeviceSettings
from weldnet.model.network import WeldNet


def predict(network: WeldNet, data: WeldDataModule, split: str, device: torch.device) -> Outputs:
    """What a network says of one split, in the order of `data.samples(split)`; float32 throughout, without TF32.

    Raises:
        InputError: its outputs are not finite.
    """
    network = network.to(device)
    batches, table = data.batches(split), data.samples(split)
    features = [torch.empty(0, network.head.in_features)]
    logits = [torch.empty(0, network.head.out_features)]
    with torch.inference_mode(), exact_float32(), explain_workers(data.count_workers()):
        for images, _ in track(batches, f"looking at {split}", total=len(batches)):
            pooled = network.features(images.to(device))
            features.append(pooled.cpu())
            logits.append(network.head(pooled).cpu())
    outputs = torch.cat(logits).double().numpy()
    if not np.isfinite(outputs).all():
        raise InputError("the network's outputs are not finite numbers; its training has diverged")
    return Outputs(
        outputs,
        torch.cat(features).numpy(),
        data.dataset(split).labels.numpy(),
        table["group"].to_list(),
    )


def evaluate(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    split: str,
    device: str = DeviceSettings.device,
    judge: Judge | None = None,
) -> EvaluationReport:
    """Tests a checkpoint on one split.

    Args:
        data: set up, with the checkpoint's geometry and classes.
        split: train, val, test or all.
        judge: gives the verdicts; None for the checkpoint's own.

    Raises:
        InputError: the split has no image; the network's outputs are not finite; or images that are not in the data's
            own training split were in the checkpoint's, and the data do not allow a leak.
    """
    if data.samples(split).is_empty():
        raise InputError(f"no image in split={split}; there are images in {', '.join(data.splits())}")
    assert data.geometry == checkpoint.geometry, "the network learned from another geometry"
    facts = _describe(checkpoint, data, split)
    outputs = predict(checkpoint.network(), data, split, choose_device(device))
    judge = judge or judge_of(checkpoint)
    if judge is None:
        facts["warnings"] = [*facts["warnings"], NOT_CALIBRATED]
    judgement = judge.judge(outputs) if judge else None
    return EvaluationReport(
        outputs.logits,
        outputs.labels,
        checkpoint.record.classes,
        data.samples(split),
        facts,
        judgement,
        judge.good_classes if judge else checkpoint.record.good_classes,
    )


def _describe(checkpoint: Checkpoint, data: WeldDataModule, split: str) -> dict[str, Any]:
    record, samples = checkpoint.record, data.samples(split)
    trained_on = is_known(samples, record.fingerprints.numpy())
    validated = is_known(samples, record.validation_fingerprints.numpy())
    leaks = find_seen(samples, trained_on, validated)
    if leaks and not data.rule.allow_leak:
        raise InputError(
            f"{leaks[0]}\nSuch a score measures memory. Test other images; or the training split, on purpose, by "
            "split=train; or type data.allow_leak=true, and every report will say so"
        )
    return {
        "split": split,
        "num_trained_on": int(trained_on.sum()),
        "leaks": list(dict.fromkeys([*record.leaks, *data.leaks, *leaks])),
        "split_digest": data.split_digest,
        "validation_groups": record.validation_groups,
        "checkpoint_digest": checkpoint.digest,
        "vocabulary": record.vocabulary,
        "warnings": data.warnings + find_namesakes(samples, record.groups.numpy()),
    }


def find_seen(table: pl.DataFrame, trained_on: Flags, validated: Flags) -> list[str]:
    """Says which images of a test the network or its thresholds come from.

    Testing the training or the validation split on purpose is no leak.

    Args:
        table: the N samples to test.
        trained_on, validated: (N,), whether the content of each was in training, or in validation.
    """
    split = table["split"]
    trained = table.filter(trained_on & (split != "train").to_numpy())
    chosen = table.filter(validated & ~split.is_in(["train", "val"]).to_numpy())
    return [
        f"{count(rows, 'image')} of the test {what}: {shorten(rows['path'].to_list())}"
        for rows, what in ((trained, "trained the network"), (chosen, "chose its epoch or its thresholds"))
        if len(rows)
    ]


def find_namesakes(table: pl.DataFrame, known: Fingerprints) -> list[str]:
    """Warns where welds of a test have the names of welds of the training or validation."""
    groups = table.filter(split="test")["group"].drop_nulls().unique().sort().to_list()
    same = [group for group in groups if fingerprint(group.encode()) in known]
    if not same:
        return []
    return [f"{count(same, 'weld')} of the test with a name that training or validation knows, too: {shorten(same)}"]


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint file."""
    return checkpoint.absolute().parent.parent
