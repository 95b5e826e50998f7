"""weldnet-train: fine-tune, keep the best, test it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from weldnet.commands.app import command
from weldnet.commands.runs import (
    apply_overrides,
    is_leader,
    keep_log,
    make_absolute,
    make_folder,
    name_folder,
    show,
    show_command,
)
from weldnet.errors import InputError

if TYPE_CHECKING:
    from lightning import Trainer

    from weldnet.evaluation.report import EvaluationReport

log = logging.getLogger(__name__)

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")


def run(cfg: DictConfig) -> None:
    """Trains from a composed config; with `ckpt_path`, goes on inside that run's folder."""
    from lightning import seed_everything

    from weldnet.config.build import build_data, build_model, build_trainer, check_nodes
    from weldnet.evaluation.report import write_text
    from weldnet.hardware import use_available_cores
    from weldnet.training import describe, evaluate_kept, log_hyperparameters, train

    resume_from = None
    if cfg.ckpt_path is not None:
        cfg, folder, resume_from = _resume(cfg)
    else:
        folder = name_folder("train", cfg.output_dir)
    # Its notes on hardware that is not there, and its tips.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    make_absolute(cfg.data)
    check_nodes(cfg)
    use_available_cores()
    seed_everything(cfg.seed, verbose=False)
    # Before the data: hardware that is not there should be said at once.
    trainer = build_trainer(cfg, folder)
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    model = build_model(cfg, data)
    text = OmegaConf.to_yaml(cfg, resolve=True)

    if is_leader():
        make_folder(folder)
        write_text(folder / "config.yaml", text)
        data.save_split(folder / "split.csv")
    with keep_log(folder / "train.log"):
        for warning in data.warnings:
            log.warning(warning)
        _announce(folder, trainer)
        train(data, model, trainer, describe(data, model, text), resume_from)
        if is_leader() and not cfg.trainer.fast_dev_run:
            reports = evaluate_kept(data, folder, str(trainer.strategy.root_device), test=cfg.test)
            log_hyperparameters(trainer, _flatten(cfg), reports)
            _print_outcome(folder, reports)


def _announce(folder: Path, trainer: "Trainer") -> None:
    if is_leader():
        print(f"training in {show(folder)}: {trainer.accelerator.name()}, {trainer.precision}")
        print(f"watch it:   {show_command('tensorboard')} --logdir {show(folder.parent)}", flush=True)


def _resume(cfg: DictConfig) -> tuple[DictConfig, Path, Path]:
    """The config of a stopped run with what was typed now, its folder, and its last checkpoint."""
    from hydra.core.hydra_config import HydraConfig

    from weldnet.checkpoint import find_checkpoint, load_checkpoint
    from weldnet.testing import run_of

    if cfg.output_dir is not None:
        raise InputError("ckpt_path goes on inside that run's own folder; leave output_dir out")
    overrides = [typed for typed in HydraConfig.get().overrides.task if not typed.startswith("ckpt_path=")]
    for group in (*GROUPS, "experiment"):
        if any(typed.startswith(f"{group}=") for typed in overrides):
            raise InputError(
                f"ckpt_path goes on with that run's own {group}; leave {group}= out, or change single keys, such as "
                "trainer.max_epochs=40"
            )
    folder = run_of(find_checkpoint(cfg.ckpt_path, Path("runs", "train")))
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(last)
    saved = OmegaConf.create(checkpoint.record.config)
    assert isinstance(saved, DictConfig)
    merged = apply_overrides(saved, cfg, overrides)
    if checkpoint.num_epochs >= (merged.trainer.max_epochs or float("inf")):
        raise InputError(
            f"{show(folder)} has finished its {checkpoint.num_epochs} epochs; to go on, give it more: "
            f"trainer.max_epochs={2 * checkpoint.num_epochs}"
        )
    return merged, folder, last


def _print_outcome(folder: Path, reports: "dict[str, EvaluationReport]") -> None:
    from rich.console import Console

    from weldnet.checkpoint import kept_checkpoint

    for report in reports.values():
        Console().print(report.table())
    kept = kept_checkpoint(folder)
    print(f"checkpoint: {show(kept)}")
    print(f"next:       {show_command('weldnet-test')} ckpt_path={show(folder)}")


def _flatten(cfg: DictConfig) -> dict[str, str | int | float | bool]:
    """The settings that tell runs apart, as `group.key` of plain values, for the HPARAMS tab."""
    flat: dict[str, str | int | float | bool] = {"seed": cfg.seed}
    for group in ("data", "model", "optimizer", "scheduler"):
        for name, value in cfg[group].items():
            if isinstance(value, (str, int, float, bool)):
                flat[f"{group}.{name}".replace("._target_", "")] = value
    return flat | {f"trainer.{name}": cfg.trainer[name] for name in ("max_epochs", "precision")}


main = command("train")(run)
