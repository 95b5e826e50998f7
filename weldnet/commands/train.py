"""weldnet-train: fine-tune, keep the best, test it."""

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from weldnet.config.hydra_app import command
from weldnet.config.literal import pin
from weldnet.config.resume import CONFIG, StoppedRun, find_saved_config, find_stopped_run
from weldnet.config.runs import (
    is_leader,
    keep_log,
    make_absolute,
    name_folder,
    propose_resuming,
    show,
    show_command,
    work_alone,
)
from weldnet.config.schema import TrainConfig
from weldnet.errors import InputError

if TYPE_CHECKING:
    from lightning import Trainer

    from weldnet.data.datamodule import WeldDataModule
    from weldnet.inference.evaluation_report import EvaluationReport

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Trains from a composed config; with `ckpt_path`, resumes inside that run's folder."""
    stopped = None
    if cfg.ckpt_path is None:
        folder = name_folder("train", cfg.output_dir)
        cfg = pin(cfg, folder)
    elif HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("--multirun starts new runs; leave ckpt_path out, or -m")
    else:
        stopped = find_stopped_run(cfg, HydraConfig.get().overrides.task)
        cfg, folder = stopped.cfg, stopped.folder
        if stopped.is_complete:
            _print_complete(stopped)
            return
    # Before the data: while they are set up, another command could change what was found.
    with work_alone(folder) if stopped else nullcontext():
        reports = train_run(cfg, folder, stopped, f"{show_command('weldnet-train')} ckpt_path={show(folder)}")
    if reports:
        _print_outcome(folder, reports)


def prepare_trainer(cfg: DictConfig, folder: Path) -> "Trainer":
    """Checks all of a config that needs no data, seeds, and builds the trainer of a run in `folder`."""
    from lightning import seed_everything

    from weldnet.config.build import build_trainer, check_nodes
    from weldnet.hardware import use_available_cores, use_tf32

    # Its notes on hardware that is not there, and its tips.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    make_absolute(cfg.data)
    check_nodes(cfg)
    use_available_cores()
    use_tf32()
    seed_everything(cfg.seed, verbose=False)
    return build_trainer(cfg, folder)


def train_run(
    cfg: DictConfig, folder: Path, stopped: StoppedRun | None, resume: str
) -> "dict[str, EvaluationReport] | None":
    """Trains one pinned config in one run folder, made once everything has been checked; tests the best epoch.

    Args:
        stopped: the run in that folder to resume; None for a new one.
        resume: the command that is shown when the run is interrupted.

    Returns:
        The reports by split; None where there is nothing to test: after `fast_dev_run`, and in all processes but one.
    """
    from weldnet.config.build import build_data, build_model, build_trainer
    from weldnet.config.callbacks import describe_selection, resolve_monitor
    from weldnet.data.sources.vocabulary import BUILT_IN, read_vocabulary
    from weldnet.training.fit import describe, finish_run, guard_fit
    from weldnet.training.monitors import check_fit

    # Before the data: a missing file or missing hardware should be reported at once.
    good, file = cfg.evaluation.good_classes, cfg.evaluation.vocabulary
    vocabulary = BUILT_IN if file is None else read_vocabulary(file)
    trainer = prepare_trainer(cfg, folder)
    if trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("--multirun and several processes exclude each other; start one run at a time")
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    if resolve_monitor(cfg, data.validation_groups):
        trainer = build_trainer(cfg, folder)
    check_fit(data, trainer)
    if stopped:
        stopped.check_data(data)
    last = stopped.checkpoint if stopped else None
    # A checkpoint holds the weights.
    model = build_model(cfg, data, weights="none" if last else None)
    text = OmegaConf.to_yaml(cfg)
    good_classes, selection = None if good is None else list(good), describe_selection(cfg, data.validation_groups)
    model.record = describe(data, model, text, good_classes, vocabulary, selection).to_plain()
    with work_alone(folder):
        if is_leader():
            _fill_folder(folder, text, data)
        with keep_log(folder / "train.log"), propose_resuming(resume, folder, CONFIG):
            _announce(folder, trainer, data)
            if not (stopped and stopped.is_trained):
                with guard_fit(data, trainer, is_resumed=last is not None):
                    path = last.path if last else None
                    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True if last else None)
            if not is_leader() or cfg.trainer.get("fast_dev_run"):
                return None
            num_epochs = last.num_epochs if stopped and stopped.is_trained and last else trainer.current_epoch
            settings = _flatten(cfg)
            return finish_run(data, folder, trainer, num_epochs, test=cfg.test, settings=settings, **cfg.decision)


def _fill_folder(folder: Path, config: str, data: "WeldDataModule") -> None:
    from weldnet.data.sources.manifest import write_manifest, write_unreadable
    from weldnet.files import remove_leftovers, write_text

    for each in (folder, folder / "checkpoints"):
        remove_leftovers(each)
    write_text(folder / CONFIG, config)
    write_manifest(data.table, folder / "split.csv")
    write_unreadable(data.unreadable, folder)


def _announce(folder: Path, trainer: "Trainer", data: "WeldDataModule") -> None:
    for warning in data.warnings:
        log.warning(warning)
    if is_leader():
        if skipped := data.found.describe_skipped():
            log.info(skipped)
            print(skipped)
        tf32 = trainer.accelerator.name() == "cuda" and trainer.precision == "32-true"
        precision = f"{trainer.precision}{', convolutions in TF32' if tf32 else ''}"
        print(f"training in {show(folder)}: {trainer.accelerator.name()}, {precision}")
        if any("TensorBoard" in type(logger).__name__ for logger in trainer.loggers):
            print(f"watch it:   {show_command('tensorboard')} --logdir {show(folder.parent)}", flush=True)


def _print_outcome(folder: Path, reports: "dict[str, EvaluationReport]") -> None:
    from weldnet.console import print_table
    from weldnet.inference.checkpoint import kept_checkpoint

    for report in reports.values():
        print_table(report.table())
    for sentence in json.loads((folder / "report.json").read_text("utf-8"))["summary"]:
        print(sentence)
    print(f"the page:   {show(folder / 'report.html')}")
    print(f"checkpoint: {show(kept_checkpoint(folder))}")
    print(f"next:       {show_command('weldnet-test')} ckpt_path={show(folder)}")


def _print_complete(run: StoppedRun) -> None:
    assert run.checkpoint is not None
    num_epochs = run.checkpoint.num_epochs
    print(f"{show(run.folder)} is complete: trained for {num_epochs} epochs, tested, reported; nothing was done")
    print(f"the page:   {show(run.folder / 'report.html')}")
    print(f"next:       {show_command('weldnet-test')} ckpt_path={show(run.folder)}")
    print("more epochs, at the learning rate with which it ended:")
    print(
        f"            {show_command('weldnet-train')} ckpt_path={show(run.folder)} trainer.max_epochs={2 * num_epochs}"
    )


def _flatten(cfg: DictConfig) -> dict[str, str | int | float | bool]:
    """The settings that distinguish runs, as `group.key` of plain values, for the HPARAMS tab."""
    flat: dict[str, str | int | float | bool] = {"seed": cfg.seed}
    for group in ("data", "model", "optimizer", "scheduler"):
        for name, value in cfg[group].items():
            if isinstance(value, (str, int, float, bool)):
                flat[f"{group}.{name}".replace("._target_", "")] = value
    return flat | {f"trainer.{name}": cfg.trainer[name] for name in ("max_epochs", "precision") if name in cfg.trainer}


main = command("train", run, TrainConfig, find_saved_config)
