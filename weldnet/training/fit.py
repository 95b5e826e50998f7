"""Around `Trainer.fit`: readable errors; then calibration and the test of the checkpoint that was kept."""

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
from weldnet.errors import InputError, LostProcessError, check_choice, first_line
from weldnet.evaluation.decision import find_good_classes
from weldnet.evaluation.judge import fit_judge
from weldnet.evaluation.metrics import METRICS
from weldnet.files import write_text
from weldnet.inference.checkpoint import Checkpoint, load_checkpoint, write_judge
from weldnet.inference.evaluate import check_data, evaluate, predict, run_trainer
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.finished_runs import kept_checkpoint
from weldnet.inference.settings import DeviceSettings
from weldnet.inference.trained_card import TrainedCard, current_commit, current_versions
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
"""The file in a run folder that holds, once training has ended, the number of epochs and whether the test is done."""


def describe(
    data: WeldDataModule,
    model: WeldClassifier,
    config: str = "",
    good_classes: list[str] | None = None,
    vocabulary: Vocabulary = BUILT_IN,
    selection: str = "",
) -> TrainedCard:
    """The model card for the checkpoints of a run.

    Args:
        config: the whole resolved config, as YAML.
        good_classes: the classes of sound welds; None for those of the model's classes that have a usual name.
        vocabulary: numbers and names of ISO 6520-1.
        selection: a sentence on which epoch the run keeps, and why.
    """
    good_classes = find_good_classes(model.classes) if good_classes is None else [tidy(name) for name in good_classes]
    for name in good_classes:
        check_choice("evaluation.good_classes", name, model.classes)
    backbone = model.network.backbone
    statistics: dict[str, Any] = {name: tuple(getattr(backbone, name)) for name in ("mean", "std")}
    if statistics != statistics | data.geometry.statistics:
        raise InputError(
            f"the data are standardised ({data.geometry.normalize}), but the model normalises by other statistics; "
            "make it by WeldClassifier(..., **data.geometry.statistics)"
        )
    return TrainedCard(
        classes=model.classes,
        backbone=backbone.name,
        **statistics,
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
    """A context for `trainer.fit`: hides irrelevant warnings, and raises what a user can correct as an `InputError`.

    Args:
        is_resumed: the optimizer, the schedule and every patience take the current settings, not the restored ones.

    Raises:
        InputError: training has diverged, Lightning refuses the config, or no checkpoint was kept.
        MachineError: the device has too little memory, or a worker process was killed.
        LostProcessError: one of several processes has ended.
    """
    if is_resumed:
        trainer.callbacks.append(Renewal(trainer.callbacks))  # type: ignore[attr-defined]
    with run_trainer(), explain_workers(data.count_workers()):
        try:
            yield
        except MisconfigurationException as error:
            raise InputError(f"Lightning refuses this config: {error}") from error
        except RuntimeError as error:
            # Gloo's errors have no class of their own.
            if not isinstance(error, torch.distributed.DistError) and "/gloo/" not in str(error):
                raise
            raise LostProcessError(
                f"one of the {trainer.world_size} processes that train together has ended, and this one cannot train "
                "without it. If it left no message of its own, it was killed, most often for want of memory "
                f"({first_line(error).partition('. ')[0]})"
            ) from error
    print_early_end(trainer)
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    is_dry = getattr(trainer, "fast_dev_run", False)
    unused = [saver for saver in savers if not saver.best_model_path and not is_dry]
    if savers and len(unused) == len(savers):
        raise InputError("training ended before an epoch was finished, so no checkpoint was kept; give it more time")
    for saver in unused:
        log.warning("no epoch was chosen by %s: training ended before it was measured", saver.monitor)


def has_ended(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run has ended its training, after `num_epochs` if given (the epochs of its last checkpoint)."""
    ended_after = _read_progress(run).get("num_epochs")
    return ended_after is not None and num_epochs in (None, ended_after)


def is_complete(run: Path, num_epochs: int | None = None) -> bool:
    """Whether a run has ended its training, as in `has_ended`, was tested and has its report."""
    has_files = all((run / name).is_file() for name in (*FILES, "report.html", "report.json"))
    return has_files and has_ended(run, num_epochs) and _read_progress(run).get("is_complete") is True


def _read_progress(run: Path) -> dict[str, Any]:
    try:
        progress = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}


def calibrate(
    checkpoint: Checkpoint, data: WeldDataModule, device: str = DeviceSettings.device, **targets: float
) -> Checkpoint:
    """Fits a judge on the data that trained and validated a checkpoint, and returns it with that, also in its file.

    Args:
        data: set up.
        targets: arguments of `weldnet.evaluation.decision.choose_operating_point`.

    Raises:
        InputError: the data did not train the checkpoint, or are split differently.
    """
    if checkpoint.card.members:
        raise InputError(f"{checkpoint.path} is an ensemble, whose thresholds its members' tests have set")
    check_data(checkpoint, data)
    if data.split_digest != checkpoint.card.split_digest:
        raise InputError(
            "these are not the data that trained the checkpoint: the splits differ, and training images could set the "
            "thresholds; give the data module the same source, split_rule and seed"
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
    """Calibrates the kept checkpoint of a run and evaluates it on validation and, if `test` is true, on test images.

    Writes the files and the report of the test into the run folder; `metrics.json` has the figures of validation under
    `validation`. Without a test, it has only that key, and the other files are those of validation.

    Args:
        trainer: its loggers get the test, the settings and the final metrics.
        num_epochs: the epochs that the run has trained.
        settings: those of the run as `group.key`, with plain values.
        targets: as of `calibrate`.

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
    final = {f"final/{split}_{metric.key}": metrics[split][metric.key] for split in splits for metric in METRICS}
    log_extra(trainer, "final", Outcome(settings, {key: value for key, value in final.items() if value is not None}))
    write_text(run / PROGRESS, json.dumps(progress | {"is_complete": True}) + "\n")
    return reports
