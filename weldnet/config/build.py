"""From a composed config to the data, the model and the trainer."""

import sys
import warnings
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.plugins import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf, open_dict

from weldnet.config.callbacks import build_callbacks, check_callbacks
from weldnet.config.hydra_app import typed_keys
from weldnet.config.literal import escape
from weldnet.config.schema import DataConfig, take
from weldnet.config.targets import check_target, find_target, instantiate
from weldnet.config.trainer import check_built, check_numbers, check_trainer, make_profiler
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.settings import BatchSettings, Framing, ImageSettings, SplitRule
from weldnet.data.sources.source import Source, SourceKeys
from weldnet.errors import InputError
from weldnet.hardware.devices import best_precision
from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings
from weldnet.training.checkpoint_io import CheckpointFiles
from weldnet.training.progress import EpochBar


def build_data(data: DictConfig, seed: int, **further: Any) -> WeldDataModule:
    """The data module of a `data` node, not set up yet; a test gives it `classes` and `unsplit`, too."""
    keys: Any = OmegaConf.to_object(OmegaConf.merge(DataConfig, data))
    if isinstance(keys.augmentation, dict):
        keys.augmentation = instantiate("data.augmentation", data.augmentation)
    geometry = Geometry(**asdict(keys.image_size), **asdict(take(Framing, keys)))
    return WeldDataModule(
        _build_source(data, keys),
        take(SplitRule, keys),
        geometry,
        take(BatchSettings, keys),
        take(ImageSettings, keys),
        seed=seed,
        **further,
    )


def _build_source(data: DictConfig, keys: DataConfig) -> Source:
    """The source that a `data` node names, made of those keys that are its own; a key that it ignores is refused."""
    if keys._target_ is None:
        raise InputError("data is not given; type data=folder data.root=DIR")
    kind = find_target("data", data)
    if not (is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Source)):
        raise InputError(f"data._target_={keys._target_} is no source: a dataclass that has a method `find`")
    read = {each.name for each in fields(kind)}
    readers = {each.name: reader for reader in SourceKeys.__bases__ for each in fields(reader) if each.default is None}
    for name, reader in readers.items():
        if name not in read and getattr(keys, name) is not None:
            raise InputError(
                f"data.{name} is not read by data={kind.__name__.lower()}; add the source that reads it, as in "
                f"data={reader.__name__.lower()}"
            )
    source: Source = kind(**{name: getattr(keys, name) for name in read if hasattr(keys, name)})
    return source


def check_nodes(cfg: DictConfig) -> None:
    """Checks every `_target_` node of a training config, and its numbers, before any data is read."""
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    nodes = {key: cfg[key] for key in ("optimizer", "scheduler", "trainer") if cfg[key]}
    for group in ("callbacks", "logger"):
        nodes |= {f"{group}.{name}": node for name, node in cfg[group].items() if node is not None}
    for key, node in nodes.items():
        if "_target_" not in node:
            raise InputError(f"{key} has no _target_: name the class to make, or set {key}=null")
        check_target(key, node)
    check_numbers(cfg)
    check_trainer(cfg.trainer)
    check_decision(cfg.decision, own=False)
    _check_optimizer(cfg)
    check_callbacks(cfg)
    check_model(cfg, "none")
    if "model.zero_init_residual" in typed_keys() and cfg.model.zero_init_residual and cfg.model.weights != "none":
        raise InputError(
            f"model.zero_init_residual=true changes nothing with model.weights={cfg.model.weights}, which holds what "
            "it would set; leave it out, or type model.weights=none"
        )


def check_model(cfg: DictConfig, weights: str) -> None:
    """Makes the classifier of a training config without memory for its weights: they need only be there and fit."""
    size = cfg.data.image_size
    with torch.device("meta"), warnings.catch_warnings():
        # What is wanted here: nothing but names and shapes is compared.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        _make_classifier(cfg, ["", ""], weights=weights, size=(size.height, size.width))


def _check_optimizer(cfg: DictConfig) -> None:
    """Makes the optimizer and the scheduler for one number."""
    try:
        optimizer = _prepare("optimizer", cfg)([torch.nn.Parameter(torch.zeros(1))])
        if cfg.scheduler:
            _prepare("scheduler", cfg)(optimizer, total_steps=10)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"optimizer or scheduler: {error}") from error
    if cfg.trainer.gradient_clip_val and cfg.optimizer.get("fused") and "mixed" in str(cfg.trainer.precision):
        raise InputError("trainer.gradient_clip_val under mixed precision needs optimizer.fused=false")


def _prepare(key: str, cfg: DictConfig) -> Any:
    """The optimizer or the scheduler, but for what it works on."""
    return instantiate(key, cfg[key], _partial_=True)


def check_decision(decision: DictConfig, *, own: bool) -> dict[str, float | None]:
    """The targets of a `decision` node; null stands for the checkpoint's own, where `own` allows it."""
    targets = {str(name): value for name, value in decision.items()}
    for name, value in targets.items():
        if not (own if value is None else 1e-6 <= value <= 1 - 1e-6):
            shown = "null" if value is None else value
            raise InputError(f"decision.{name}={shown}: allowed are numbers between 0 and 1, such as 0.05")
    return targets


def build_model(cfg: DictConfig, data: WeldDataModule, weights: str | None = None) -> WeldClassifier:
    """The classifier of a training config for data that are set up; `weights` stands in for those of the config."""
    weighed = data.class_weights()
    return _make_classifier(
        cfg,
        data.classes,
        weights=weights or cfg.model.weights,
        optimizer=_prepare("optimizer", cfg),
        scheduler=_prepare("scheduler", cfg) if cfg.scheduler else None,
        lr=cfg.optimizer.lr,
        size=(data.geometry.height, data.geometry.width),
        class_weights=None if weighed is None else weighed.tolist(),
        **data.geometry.statistics,
    )


def _make_classifier(cfg: DictConfig, classes: list[str], *, weights: str, **further: Any) -> WeldClassifier:
    if OmegaConf.is_missing(cfg.model, "_target_"):
        raise InputError("model has no _target_: add _target_: weldnet.model.classifier.WeldClassifier to its file")
    kind = find_target("model", cfg.model)
    if not (isinstance(kind, type) and issubclass(kind, WeldClassifier)):
        raise InputError(f"model._target_={cfg.model._target_} is no weldnet.model.classifier.WeldClassifier")
    return kind(classes, replace(take(ModelSettings, cfg.model), weights=weights), **further)


def build_trainer(cfg: DictConfig, folder: Path) -> Trainer:
    """The trainer of a training config, its loggers and checkpoints inside `folder`."""
    with open_dict(cfg):
        cfg.output_dir = escape(str(folder))
    callbacks = build_callbacks(cfg)
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    shows_bar = cfg.trainer.enable_progress_bar
    if shows_bar is None:
        # Without a terminal the epoch lines are enough.
        shows_bar = has_bar or sys.stdout.isatty()
    if shows_bar and not has_bar:
        callbacks.append(EpochBar())
    loggers = [instantiate(f"logger.{name}", node) for name, node in cfg.logger.items() if node]
    if not loggers:
        # It has nowhere to write, and Lightning refuses it then.
        callbacks = [callback for callback in callbacks if type(callback).__name__ != "LearningRateMonitor"]
    arguments = {"callbacks": callbacks, "logger": loggers or False, "enable_progress_bar": shows_bar}
    arguments["default_root_dir"] = str(folder)
    if isinstance(cfg.trainer.get("profiler"), str):
        arguments["profiler"] = make_profiler(cfg.trainer.profiler, folder)
    trainer: Trainer = instantiate("trainer", cfg.trainer, **arguments)
    # A plugin of the user's own stays.
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckpointFiles()
    check_built(cfg.trainer, trainer)
    # What is recorded is what computes: without 16-bit floats, as on a CPU, Lightning takes bfloat16.
    if cfg.trainer.precision is not None:
        # Else a plugin may have it, and Lightning takes one or the other.
        cfg.trainer.precision = str(trainer.precision)
    return trainer
