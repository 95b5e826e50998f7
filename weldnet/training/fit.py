"""Runs `Trainer.fit` with log lines and readable errors, then calibrates and tests the result."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
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
from weldnet.data.sources.vocabulary import BUILT_IN, Vocabulary, describe_classes
from weldnet.data.splits.leaks import fingerprint_names, fingerprints
from weldnet.errors import InputError, check_choice, first_line
from weldnet.evaluation.decision import find_good_classes
from weldnet.evaluation.judge import fit_judge
from weldnet.evaluation.metrics import METRICS
from weldnet.files import write_text
from weldnet.inference.checkpoint import Checkpoint, kept_checkpoint, load_checkpoint, write_judge
from weldnet.inference.evaluate import check_data, evaluate, predict, run_trainer
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.model_card import TrainedCard
from weldnet.inference.provenance import current_commit, current_versions
from weldnet.inference.settings import DeviceSettings
from weldnet.model.classifier import WeldClassifier
from weldnet.report.writer import save_evaluation, write_report
from weldnet.spelling import tidy
from weldnet.training.crossval_report import FILES
from weldnet.training.dashboard import draw_test
from weldnet.training.loggers import Outcome, log_extra
from weldnet.training.progress import print_early_end
from weldnet.training.renewal import Renewal

log = logging.getLogger(__name__)

PROGRESS = "training.json"
"""In a run folder, once its training has ended: after how many epochs, and whether the test and its report are done."""


def describe(
    data: WeldDataModule,
    model: WeldClassifier,
    config: str = "",
    good_classes: list[str] | None = None,
    vocabulary: Vocabulary = BUILT_IN,
    selection: str = "",
) -> TrainedCard:
    """The record that the checkpoints of a run carry.

    Args:
        config: the whole resolved config, as YAML.
        good_classes: those of sound welds; None for the usual names among the model's.
        vocabulary: numbers and names of ISO 6520-1.
        selection: which epoch the run keeps, and why, in one sentence.
    """
    good_classes = find_good_classes(model.classes) if good_classes is None else [tidy(name) for name in good_classes]
    for name in good_classes:
        check_choice("evaluation.good_classes", name, model.classes)
    normalises = {name: tuple(getattr(model.network.backbone, name)) for name in ("mean", "std")}
    if normalises != normalises | data.geometry.statistics:
        raise InputError(
            f"the data are standardised ({data.geometry.normalize}), but the model normalises by other statistics; "
            "make it by WeldClassifier(..., **data.geometry.statistics)"
        )
    return TrainedCard(
        classes=model.classes,
        backbone=model.network.backbone.name,
        mean=normalises["mean"],
        std=normalises["std"],
        channels_last=model.network.channels_last,
        geometry=data.geometry,
        split_digest=data.split_digest,
        validation_groups=data.validation_groups,
        selection=selection,
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


@contextmanager
def guard_fit(data: WeldDataModule, trainer: Trainer, *, is_resumed: bool = False) -> Iterator[None]:
    """Within it, `trainer.fit` runs as a command's training does: quietly, its failures in words.

    Args:
        is_resumed: the optimizer, the schedule and every patience are as the model and the trainer have them, not as
            they were.

    Raises:
        InputError: training has diverged, a callback asks for what is not logged, a worker process was killed, or no
            checkpoint was kept.
    """
    if is_resumed:
        trainer.callbacks.append(Renewal(trainer.callbacks))  # type: ignore[attr-defined]
    with run_trainer(), explain_workers(data.count_workers()):
        try:
            yield
        except MisconfigurationException as error:
            raise InputError(f"Lightning refuses this config: {error}") from error
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has too little memory for a step ({first_line(error)}); take a smaller "
                f"data.batch_size ({data.batch_settings.batch_size} now), and trainer.accumulate_grad_batches=2"
            ) from error
    print_early_end(trainer)
    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    idle = [each for each in savers if not each.best_model_path and not getattr(trainer, "fast_dev_run", False)]
    if savers and len(idle) == len(savers):
        raise InputError("training ended before an epoch was finished, so no checkpoint was kept; give it more time")
    for each in idle:
        log.warning("no epoch was chosen by %s: training ended before it was measured", each.monitor)


def has_ended(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run ended its training after so many epochs, those of its last checkpoint; or after any."""
    ended_after = _read_progress(run).get("num_epochs")
    return ended_after is not None and num_epochs in (None, ended_after)


def is_complete(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run ended its training after so many epochs, or after any, was tested, and has its report."""
    files = all((run / name).is_file() for name in (*FILES, "report.html", "report.json"))
    return files and has_ended(run, num_epochs) and _read_progress(run).get("is_complete") is True


def _read_progress(run: Path) -> dict[str, Any]:
    try:
        progress = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}


def calibrate(
    checkpoint: Checkpoint, data: WeldDataModule, device: str = DeviceSettings.device, **targets: float
) -> Checkpoint:
    """Fits a judge on the data that trained and validated a checkpoint, and writes it into the file.

    Args:
        data: set up, those of the training.
        targets: as `weldnet.evaluation.decision.choose_operating_point` takes them.

    Returns:
        The checkpoint as it is now.

    Raises:
        InputError: the data are not those of the training; images it has learned would set the thresholds.
    """
    if checkpoint.card.members:
        raise InputError(f"{checkpoint.path} is an ensemble, whose thresholds its members' tests have set")
    check_data(checkpoint, data)
    if data.split_digest != checkpoint.card.split_digest:
        raise InputError(
            "the data are not those of the training: their splits differ, and images it has learned could set the "
            "thresholds; give it the same source, split_rule and seed"
        )
    classifier, card = checkpoint.classifier(), checkpoint.card
    train, select, thresholds = (predict(classifier, data, split, device) for split in ("train", "select", "calibrate"))
    judge = fit_judge(
        card.classes, card.good_classes, train, select, thresholds, by_group=data.split_by_group, **targets
    )
    write_judge(checkpoint.path, judge)
    return load_checkpoint(checkpoint.path)


def finish_run(
    data: WeldDataModule,
    run: Path,
    trainer: Trainer,
    num_epochs: int,
    *,
    test: bool,
    settings: dict[str, Any],
    **targets: float,
) -> dict[str, EvaluationReport]:
    """Calibrates the kept checkpoint of a run and tests it on validation data and, if `test` is true, on test data.

    Writes the test's files and its report into the run folder, the validation's figures under `validation` in
    `metrics.json`; without a test, that key stands alone and the other files are the validation's.

    Args:
        trainer: that trained it; its loggers get the test, the settings and the final metrics.
        num_epochs: that the run has trained.
        settings: of the run, `group.key` of plain values.
        targets: as `weldnet.evaluation.decision.choose_operating_point` takes them.

    Returns:
        The reports by split.
    """
    progress = {"num_epochs": num_epochs, "is_complete": False}
    write_text(run / PROGRESS, json.dumps(progress) + "\n")
    device = str(trainer.strategy.root_device)
    checkpoint = calibrate(load_checkpoint(kept_checkpoint(run)), data, device, **targets)
    splits = ["val", "test"] if test and "test" in data.splits() else ["val"]
    reports = {split: evaluate(checkpoint, data, split, device) for split in splits}
    metrics = {split: report.metrics() for split, report in reports.items()}
    tested, validation = reports[splits[-1]], reports["val"] if len(splits) > 1 else None
    save_evaluation(tested, run, metrics.get("test", {}) | {"validation": metrics["val"]})
    report, gallery = write_report(checkpoint, data, tested, run, validation=validation, device=device)
    draw_test(trainer, tested, report, gallery)
    final = {f"final/{split}_{each.key}": metrics[split][each.key] for split in splits for each in METRICS}
    log_extra(trainer, "final", Outcome(settings, {key: value for key, value in final.items() if value is not None}))
    write_text(run / PROGRESS, json.dumps(progress | {"is_complete": True}) + "\n")
    return reports
