"""Evaluates a checkpoint on labelled images, in float32 as in prediction."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from rich.progress import track

from weldnet.data.batches import explain_workers
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.leaks import ALL_THE_SAME, Fingerprints, fingerprint, is_known
from weldnet.errors import InputError, MemoryShortageError, count, first_line, shorten
from weldnet.evaluation.arrays import Flags
from weldnet.evaluation.judge import Judge, Outputs
from weldnet.evaluation.verdicts import NOT_CALIBRATED
from weldnet.hardware.devices import choose_device, exact_float32
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.engines import check_finite
from weldnet.inference.evaluation_report import EvaluationReport
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
"""The label of the progress bar for each split; `select` and `calibrate` divide validation."""

IRRELEVANT_WARNINGS = (
    # Rows of a memory-mapped array need no worker processes.
    ".*does not have many workers",
    # A resumed run writes into its own folder.
    "Checkpoint directory .* exists and is not empty",
    # Metrics are logged once an epoch, however few batches there are.
    "The number of training batches .* is smaller than the logging interval",
    # Frozen stages keep their batch norm statistics.
    r"Found \d+ module\(s\) in eval mode",
    # The metrics of several processes are added up before they are logged.
    "It is recommended to use .*sync_dist=True",
)
"""Lightning's warnings that do not apply to weldnet."""


@contextmanager
def run_trainer() -> Iterator[None]:
    """Within it, a trainer's irrelevant warnings are hidden, and Ctrl-C raises KeyboardInterrupt.

    Lightning itself would exit with code 1. Too little memory on the device is a MemoryShortageError.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        for message in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        # Lightning calls deprecated functions of torch.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"lightning\.")
        # Hides Lightning's tips, and its notes on hardware that this machine lacks.
        logger.setLevel(logging.WARNING)
        try:
            yield
        except SystemExit as error:
            raise KeyboardInterrupt from error
        except torch.OutOfMemoryError as error:
            raise MemoryShortageError(
                f"the device has too little memory for a batch ({first_line(error)}); take a smaller data.batch_size, "
                "and in training trainer.accumulate_grad_batches=2"
            ) from error
        finally:
            logger.setLevel(level)


def predict(classifier: WeldClassifier, data: WeldDataModule, split: str, device: str) -> Outputs:
    """The outputs for one split, in the order of `data.samples(split)`, computed in float32 without TF32.

    `device` is as `weldnet.hardware.devices.choose_device` takes it. Outputs that are not finite are an InputError.
    """
    torch_device, network, batches = choose_device(device), classifier.network, data.batches(split)
    # The result for a split without images.
    outputs: list[Any] = [
        {"logits": torch.empty(0, len(data.classes)), "features": torch.empty(0, network.backbone.num_features)}
    ]
    with run_trainer(), exact_float32(), explain_workers(data.count_workers()):
        trainer = Trainer(
            accelerator=torch_device.type,
            devices=1 if torch_device.type == "cpu" else [torch_device.index or 0],
            # One process, even if torchrun or SLURM started several.
            plugins=LightningEnvironment(),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        outputs += trainer.predict(classifier, track(batches, LABELS[split], total=len(batches))) or []
    logits = torch.cat([output["logits"] for output in outputs]).double().numpy()
    check_finite(logits)
    features = torch.cat([output["features"] for output in outputs]).numpy()
    return Outputs(logits, features, data.dataset(split).labels.numpy())


def evaluate(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    split: str,
    device: str = DeviceSettings.device,
    judge: Judge | None = None,
) -> EvaluationReport:
    """Evaluates a checkpoint on one split.

    Args:
        data: set up, with the checkpoint's geometry and classes.
        split: train, val, test or all.
        judge: gives the verdicts; None for the checkpoint's own.

    Raises:
        InputError: the split has no image; the geometry or the classes of the data differ from the checkpoint's; an
            output is not finite; or `find_seen` finds a leak that the data do not allow.
    """
    if data.samples(split).is_empty():
        raise InputError(f"no image in split={split}; there are images in {', '.join(data.splits())}")
    check_data(checkpoint, data)
    facts, card = _describe(checkpoint, data, split), checkpoint.card
    outputs = predict(checkpoint.shared, data, split, device)
    judge = judge or card.judge
    if judge is None:
        facts["warnings"].append(NOT_CALIBRATED)
    judgement, good_classes = (judge.judge(outputs), judge.good_classes) if judge else (None, card.good_classes)
    samples = data.samples(split)
    return EvaluationReport(outputs.logits, outputs.labels, card.classes, samples, facts, judgement, good_classes)


def check_data(checkpoint: Checkpoint, data: WeldDataModule) -> None:
    """Checks that the data have the geometry and the classes of a checkpoint."""
    if data.geometry != checkpoint.geometry:
        raise InputError(f"the data have {data.geometry}; the checkpoint has learned from {checkpoint.geometry}")
    if data.classes != checkpoint.card.classes:
        raise InputError(
            f"the data have the classes {', '.join(data.classes)}; the checkpoint has learned "
            f"{', '.join(checkpoint.card.classes)}, in this order (WeldDataModule(..., classes=...))"
        )


def _describe(checkpoint: Checkpoint, data: WeldDataModule, split: str) -> dict[str, Any]:
    card, samples = checkpoint.card, data.samples(split)
    trained_on = is_known(samples, card.fingerprints.numpy())
    validated = is_known(samples, card.validation_fingerprints.numpy())
    leaks = find_seen(samples, trained_on, validated)
    if leaks and not data.rule.allow_leak:
        raise InputError(
            f"{leaks[0]}\nThe score would measure memory. Test different images. To test the training split on "
            f"purpose, type split=train. {ALL_THE_SAME}"
        )
    return {
        "split": split,
        "num_trained_on": int(trained_on.sum()),
        "leaks": list(dict.fromkeys([*card.leaks, *data.leaks, *leaks])),
        "split_digest": data.split_digest,
        "validation_groups": card.validation_groups,
        "selection": card.selection,
        "checkpoint_digest": checkpoint.digest,
        "vocabulary": card.vocabulary,
        "warnings": data.warnings + find_namesakes(samples, card.groups.numpy()),
    }


def find_seen(table: pl.DataFrame, trained_on: Flags, validated: Flags) -> list[str]:
    """A sentence for each kind of leak among N images to test: which trained the network, or validated it, (N,) each.

    In the training split, images that trained the network are no leak; in train and val, images that validated it.
    """
    split = table["split"]
    trained = table.filter(trained_on & (split != "train").to_numpy())
    chosen = table.filter(validated & ~split.is_in(["train", "val"]).to_numpy())
    return [
        f"{count(len(rows), 'image')} of the test {fault}: {shorten(rows['path'].to_list())}"
        for rows, fault in ((trained, "trained the network"), (chosen, "chose its epoch or its thresholds"))
        if len(rows)
    ]


def find_namesakes(table: pl.DataFrame, known: Fingerprints) -> list[str]:
    """A warning if welds of the test split have the same names as welds of training or validation."""
    groups = table.filter(split="test")["group"].drop_nulls().unique().sort().to_list()
    namesakes = [group for group in groups if fingerprint(group.encode()) in known]
    if not namesakes:
        return []
    return [f"{count(len(namesakes), 'test weld')} named like a weld of training or validation: {shorten(namesakes)}"]
