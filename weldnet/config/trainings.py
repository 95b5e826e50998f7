"""One training, from its config to its test."""

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from weldnet.config.build import build_data, build_model, build_trainer, check_model, check_nodes
from weldnet.config.callbacks import describe_selection, resolve_monitor
from weldnet.config.resumable import list_settings
from weldnet.config.resume import CONFIG, StoppedRun
from weldnet.config.runs import (
    is_leader,
    keep_log,
    make_absolute,
    propose_resuming,
    show,
    show_command,
    work_alone,
)
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.sources.manifest import write_manifest, write_unreadable
from weldnet.data.sources.selection import refuse_inside
from weldnet.data.sources.vocabulary import BUILT_IN, read_vocabulary
from weldnet.errors import InputError
from weldnet.files import remove_leftovers, write_text
from weldnet.hardware import describe_waits
from weldnet.hardware.devices import use_available_cores, use_tf32
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.training.fit import describe, finish_run, guard_fit
from weldnet.training.monitors import check_fit

log = logging.getLogger(__name__)


def prepare_trainer(cfg: DictConfig, folder: Path) -> Trainer:
    """Checks all of a config that needs no data, seeds, and builds the trainer of a run in `folder`."""
    # Lightning prints notes on missing hardware, and tips.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    make_absolute(cfg.data)
    check_nodes(cfg)
    use_available_cores()
    use_tf32()
    seed_everything(cfg.seed, verbose=False)
    return build_trainer(cfg, folder)


def prepare_data(
    cfg: DictConfig, folder: Path, trainer: Trainer, further: Sequence[Callback] = (), *, needs_weights: bool = True
) -> tuple[WeldDataModule, Trainer]:
    """The data of a run, set up, and its trainer with the monitor that they ask for; checks them together.

    Where the config `needs_weights`, which a checkpoint would hold, missing ones are refused before an image is
    decoded, and together with what the splits lack.
    """
    if cfg.data.root is not None:
        refuse_inside("output_dir", folder, cfg.data.root)
    data = build_data(cfg.data, cfg.seed)
    if needs_weights and cfg.model.weights != "none":
        _require_weights(cfg, data)
    data.setup()
    if resolve_monitor(cfg, data.validation_groups):
        trainer = build_trainer(cfg, folder)
    trainer.callbacks.extend(further)  # type: ignore[attr-defined]
    check_fit(data, trainer)
    return data, trainer


def train_run(
    cfg: DictConfig, folder: Path, stopped: StoppedRun | None, resume: str, further: Sequence[Callback] = ()
) -> dict[str, EvaluationReport] | None:
    """Trains one pinned config in one run folder, made once everything has been checked; tests the best epoch.

    Args:
        resume: the command that is shown when the run is interrupted.
        further: callbacks of a trial of a sweep, which has shown the notes on the data already.

    Returns:
        The reports by split; None where there is nothing to test: after `fast_dev_run`, and in all processes but one.
    """
    # Before the data: a missing file or missing hardware should be reported at once.
    file = cfg.evaluation.vocabulary
    vocabulary = BUILT_IN if file is None else read_vocabulary(file)
    trainer = prepare_trainer(cfg, folder)
    if trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("--multirun and several processes exclude each other; start one run at a time")
    last = stopped.checkpoint if stopped else None
    data, trainer = prepare_data(cfg, folder, trainer, further, needs_weights=last is None)
    if stopped:
        stopped.check_data(data)
    # A checkpoint holds the weights.
    model, good = build_model(cfg, data, weights="none" if last else None), cfg.evaluation.good_classes
    good_classes, selection = None if good is None else list(good), describe_selection(cfg, data.validation_groups)
    model.record = describe(data, model, OmegaConf.to_yaml(cfg), good_classes, vocabulary, selection).to_plain()
    with work_alone(folder):
        if is_leader():
            _fill_folder(folder, OmegaConf.to_yaml(cfg), data)
        with keep_log(folder / "train.log"), propose_resuming(resume, folder, CONFIG):
            _announce(folder, trainer, data, is_trial=bool(further))
            if not (stopped and stopped.is_trained):
                with guard_fit(data, trainer, is_resumed=last is not None):
                    path = last.path if last else None
                    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True if last else None)
            if not is_leader() or cfg.trainer.get("fast_dev_run"):
                return None
            num_epochs = last.num_epochs if stopped and stopped.is_trained and last else trainer.current_epoch
            settings = list_settings(cfg)
            return finish_run(data, folder, trainer, num_epochs, test=cfg.test, settings=settings, **cfg.decision)


def _require_weights(cfg: DictConfig, data: WeldDataModule) -> None:
    try:
        check_model(cfg, cfg.model.weights)
    except InputError as missing:
        try:
            data.split()
        except InputError as error:
            raise InputError(f"{error}\nAnd {missing}") from missing
        raise


def _fill_folder(folder: Path, config: str, data: WeldDataModule) -> None:
    for each in (folder, folder / "checkpoints"):
        remove_leftovers(each)
    write_text(folder / CONFIG, config)
    write_manifest(data.table, folder / "split.csv")
    write_unreadable(data.unreadable, folder)


def _announce(folder: Path, trainer: Trainer, data: WeldDataModule, *, is_trial: bool) -> None:
    if not is_trial:
        show_notes(data)
    if is_leader():
        log.info(describe_waits())
        tf32 = trainer.accelerator.name() == "cuda" and trainer.precision == "32-true"
        precision = f"{trainer.precision}{', convolutions in TF32' if tf32 else ''}"
        several = f", {trainer.world_size} processes, a step is as many batches" if trainer.world_size > 1 else ""
        print(f"training in {show(folder)}: {trainer.accelerator.name()}, {precision}{several}")
        if any("TensorBoard" in type(logger).__name__ for logger in trainer.loggers):
            print(f"watch it:   {show_command('tensorboard')} --logdir {show(folder.parent)}", flush=True)


def show_notes(data: WeldDataModule) -> None:
    """Warns of what is doubtful in the data, and prints and logs what else was noticed."""
    for warning in data.warnings:
        log.warning(warning)
    if is_leader():
        for note in (data.found.describe_skipped(), data.shapes.settings and data.shapes.describe()):
            if note:
                log.info(note)
                print(note)
