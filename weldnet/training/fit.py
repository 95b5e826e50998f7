"""From a built model to a kept and tested checkpoint."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint

from weldnet.data.batches import explain_workers
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.leaks import fingerprint_names, fingerprints
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.decision import find_good_classes
from weldnet.evaluation.metrics import METRICS
from weldnet.evaluation.vocabulary import BUILT_IN, Vocabulary, describe_classes
from weldnet.files import write_text
from weldnet.inference.checkpoint import kept_checkpoint, load_checkpoint
from weldnet.inference.evaluate import evaluate, run_trainer
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.model_card import TrainedCard
from weldnet.inference.provenance import current_commit, current_versions
from weldnet.model.classifier import WeldClassifier
from weldnet.report.writer import save_evaluation, write_report
from weldnet.spelling import tidy
from weldnet.training.crossval_report import is_tested
from weldnet.training.dashboard import draw_test
from weldnet.training.kept_checkpoint import calibrate
from weldnet.training.loggers import Outcome, log_extra
from weldnet.training.progress import say_end
from weldnet.training.renewal import Renewal

log = logging.getLogger(__name__)

PROGRESS = "training.json"
"""In a run folder, once its training has ended: after how many epochs, and whether the test and its report are done."""


def describe(
    data: WeldDataModule,
    model: WeldClassifier,
    config: str,
    good_classes: list[str] | None = None,
    vocabulary: Vocabulary = BUILT_IN,
) -> TrainedCard:
    """The record that the checkpoints of a run carry.

    Args:
        config: the whole resolved config, as YAML.
        good_classes: those of sound welds; None for the usual names among the model's.

        vocabulary: numbers and names of ISO 6520-1.

    Raises:
        InputError: a good class is not among the model's.
    """
    good_classes = find_good_classes(model.classes) if good_classes is None else [tidy(name) for name in good_classes]
    for name in good_classes:
        check_choice("evaluation.good_classes", name, model.classes)
    return TrainedCard(
        classes=model.classes,
        backbone=model.network.backbone.name,
        mean=tuple(model.network.backbone.mean),
        std=tuple(model.network.backbone.std),
        channels_last=model.network.channels_last,
        geometry=data.geometry,
        split_digest=data.split_digest,
        validation_groups=data.validation_groups,
        fingerprints=torch.from_numpy(np.sort(fingerprints(data.samples("train")["digest"]))),
        validation_fingerprints=torch.from_numpy(np.sort(fingerprints(data.samples("val")["digest"]))),
        groups=torch.from_numpy(fingerprint_names(data.table.filter(pl.col("split") != "test")["group"])),
        leaks=data.leaks,
        good_classes=good_classes,
        vocabulary=describe_classes(model.classes, vocabulary),
        config=config,
        versions=current_versions(),
        git_commit=current_commit(),
    )


def train(
    data: WeldDataModule, model: WeldClassifier, trainer: Trainer, record: TrainedCard, resume_from: Path | None = None
) -> None:
    """Fits the model; the trainer's callbacks keep the checkpoints, each with the record inside.

    Args:
        data: set up, with images in train and val.
        record: see `describe`.
        resume_from: a `last.ckpt` to resume from; the optimizer, the schedule and every patience are as the model and
            the trainer have them, not as they were.

    Raises:
        InputError: training has diverged, a callback asks for what is not logged, or a worker process was killed.
        OSError: a file of the run cannot be written.
    """
    model.record = record.to_plain()
    if resume_from:
        trainer.callbacks.append(Renewal(trainer.callbacks))  # type: ignore[attr-defined]
    with run_trainer(), explain_workers(data.count_workers()):
        try:
            trainer.fit(model, datamodule=data, ckpt_path=resume_from, weights_only=True if resume_from else None)
            say_end(trainer)
            check_kept(trainer)
        except MisconfigurationException as error:
            raise InputError(f"Lightning refuses this config: {error}") from error
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has too little memory for a step ({str(error).splitlines()[0]}); take a smaller "
                f"data.batch_size ({data.batch_settings.batch_size} now), and trainer.accumulate_grad_batches=2"
            ) from error


def check_kept(trainer: Trainer) -> None:
    """Warns, after training, of a figure that was never there to choose an epoch by.

    Raises:
        InputError: no checkpoint was kept at all.
    """
    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    idle = [each for each in savers if not each.best_model_path and not getattr(trainer, "fast_dev_run", False)]
    if savers and len(idle) == len(savers):
        raise InputError("training ended before an epoch was finished, so no checkpoint was kept; give it more time")
    for each in idle:
        log.warning("no epoch was chosen by %s: training ended before it was measured", each.monitor)


def note_progress(run: Path, num_epochs: int, *, is_complete: bool) -> None:
    """Notes that a run has ended its training after so many epochs, and whether everything after it is done."""
    write_text(run / PROGRESS, json.dumps({"num_epochs": num_epochs, "is_complete": is_complete}) + "\n")


def has_ended(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run ended its training after so many epochs, those of its last checkpoint; or after any."""
    noted = _read_progress(run).get("num_epochs")
    return noted is not None and num_epochs in (None, noted)


def is_complete(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run ended its training after so many epochs, or after any, was tested, and has its report."""
    has_report = (run / "report.html").is_file() and (run / "report.json").is_file()
    is_noted = has_ended(run, num_epochs) and _read_progress(run).get("is_complete") is True
    return is_noted and is_tested(run) and has_report


def _read_progress(run: Path) -> dict[str, Any]:
    try:
        noted = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def evaluate_kept(
    data: WeldDataModule, run: Path, trainer: Trainer, *, test: bool, **targets: float
) -> dict[str, EvaluationReport]:
    """Calibrates the kept checkpoint of a run and tests it on validation data and, if `test` says so, on test data.

    Writes the test's files and its report into the run folder, the validation's figures under `validation` in
    `metrics.json`; without a test, that key stands alone and the other files are the validation's.

    Args:
        trainer: that trained it; the test is drawn for its loggers.
        targets: as `weldnet.evaluation.decision.choose_operating_point` takes them.

    Returns:
        The reports by split.
    """
    device = str(trainer.strategy.root_device)
    checkpoint = calibrate(load_checkpoint(kept_checkpoint(run)), data, device, **targets)
    splits = ["val", "test"] if test and "test" in data.splits() else ["val"]
    reports = {split: evaluate(checkpoint, data, split, device) for split in splits}
    metrics = {"validation": reports["val"].metrics()}
    save_evaluation(reports[splits[-1]], run, metrics if len(splits) == 1 else reports["test"].metrics() | metrics)
    validation = reports["val"] if len(splits) > 1 else None
    report, gallery = write_report(checkpoint, data, reports[splits[-1]], run, validation=validation, device=device)
    draw_test(trainer, reports[splits[-1]], report, gallery)
    return reports


def log_hyperparameters(trainer: Trainer, settings: dict[str, Any], reports: dict[str, EvaluationReport]) -> None:
    """Gives the settings and the final metrics to the loggers; TensorBoard shows them under HPARAMS."""
    figures = {
        f"final/{split}_{metric.key}": value
        for split, report in reports.items()
        for metric in METRICS
        if (value := report.metrics()[metric.key]) is not None
    }
    log_extra(trainer, "final", Outcome(settings, figures))
