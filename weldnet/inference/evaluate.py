"""A checkpoint on images, in float32: what was tested is what runs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from rich.progress import track

from weldnet.data.batches import explain_workers
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.leaks import Fingerprints, count, fingerprint, is_known
from weldnet.errors import InputError, shorten
from weldnet.evaluation.decision import Flags
from weldnet.evaluation.judge import Judge, Outputs
from weldnet.hardware import choose_device, exact_float32
from weldnet.inference.checkpoint import Checkpoint, judge_of
from weldnet.inference.engines import check_finite
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.model_card import NOT_CALIBRATED
from weldnet.inference.settings import DeviceSettings
from weldnet.model.classifier import WeldClassifier

LABELS = {
    "train": "measuring on training images",
    "val": "measuring on validation images",
    "select": "fitting the temperature",
    "calibrate": "setting the thresholds",
    "test": "measuring on test images",
    "all": "measuring on all images",
}
"""Of the progress bar, by the split or the part of validation."""

UNTRUE_WARNINGS = (
    # Rows of a memory-mapped array need no worker processes.
    ".*does not have many workers",
    # A resumed run writes into its own folder.
    "Checkpoint directory .* exists and is not empty",
    # Few batches are no fault; the epoch's figures are logged all the same.
    "The number of training batches .* is smaller than the logging interval",
    # Frozen stages keep their batch norm statistics.
    r"Found \d+ module\(s\) in eval mode",
)
"""Lightning's warnings that say nothing to a user of weldnet."""


@contextmanager
def run_trainer() -> Iterator[None]:
    """Within it, a trainer keeps to itself what says nothing to a user of weldnet, and Ctrl-C stays Ctrl-C.

    Raises:
        KeyboardInterrupt: the trainer was interrupted; Lightning would exit by code 1.
    """
    with warnings.catch_warnings():
        for message in UNTRUE_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        # What is deprecated in how Lightning calls torch is between the two of them.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"lightning\.")
        # Its notes on hardware that is not there, and its tips.
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        try:
            yield
        except SystemExit as stop:
            raise KeyboardInterrupt from stop


def predict(classifier: WeldClassifier, data: WeldDataModule, split: str, device: str) -> Outputs:
    """The outputs for one split, in the order of `data.samples(split)`; float32 throughout, without TF32.

    Args:
        split: or a part of one, as `data.samples` takes it.
        device: as `weldnet.hardware.choose_device` takes it.

    Raises:
        InputError: they are not finite.
    """
    place, network, batches = choose_device(device), classifier.network, data.batches(split)
    outputs: list[Any] = [
        {"logits": torch.empty(0, network.head.out_features), "features": torch.empty(0, network.head.in_features)}
    ]
    with run_trainer(), exact_float32(), explain_workers(data.count_workers()):
        trainer = Trainer(
            accelerator=place.type,
            devices=1 if place.type == "cpu" else [place.index or 0],
            # One process, whatever started it.
            plugins=LightningEnvironment(),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        outputs += trainer.predict(classifier, track(batches, LABELS[split], total=len(batches))) or []
    logits = torch.cat([each["logits"] for each in outputs]).double().numpy()
    check_finite(logits)
    features = torch.cat([each["features"] for each in outputs]).numpy()
    return Outputs(logits, features, data.dataset(split).labels.numpy(), data.samples(split)["group"].to_list())


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
        InputError: the split has no image; the outputs are not finite; or images that are not in the data's own
            training split were in the checkpoint's, and the data do not allow a leak.
    """
    if data.samples(split).is_empty():
        raise InputError(f"no image in split={split}; there are images in {', '.join(data.splits())}")
    assert data.geometry == checkpoint.geometry, "the network learned from another geometry"
    facts = _describe(checkpoint, data, split)
    outputs, record = predict(checkpoint.classifier(), data, split, device), checkpoint.record
    judge = judge or judge_of(checkpoint)
    if judge is None:
        facts["warnings"] = [*facts["warnings"], NOT_CALIBRATED]
    judgement, good_classes = (judge.judge(outputs), judge.good_classes) if judge else (None, record.good_classes)
    samples = data.samples(split)
    return EvaluationReport(outputs.logits, outputs.labels, record.classes, samples, facts, judgement, good_classes)


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
    """Says which of N images to test were in training, or in validation, by flags (N,) each; no leak on purpose."""
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
