"""weldnet-test: what a checkpoint is worth on images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from weldnet.commands.app import command
from weldnet.commands.runs import apply_overrides, make_absolute, make_folder, name_folder, show
from weldnet.errors import InputError, check_choice

if TYPE_CHECKING:
    from weldnet.checkpoint import Checkpoint
    from weldnet.data.datamodule import WeldDataModule

log = logging.getLogger(__name__)

SPLIT_CHOICES = ("train", "val", "test", "all")


def run(cfg: DictConfig) -> None:
    """Tests a checkpoint from a composed config."""
    from rich.console import Console

    from weldnet.checkpoint import find_checkpoint, load_checkpoint
    from weldnet.hardware import choose_device
    from weldnet.testing import evaluate, run_of

    folder = name_folder("test", cfg.output_dir)
    if cfg.split is not None:
        check_choice("split", cfg.split, SPLIT_CHOICES)
    choose_device(cfg.device)
    checkpoint = load_checkpoint(find_checkpoint(cfg.ckpt_path, Path("runs", "train")))
    data = _build_data(cfg, checkpoint)
    data.setup()
    if data.unsplit == "split" and data.split_digest != checkpoint.record.split_digest:
        own_list = run_of(checkpoint.path) / "split.csv"
        hint = f"the run's own list, data=manifest data.manifest={show(own_list)}, or " if own_list.is_file() else ""
        raise InputError(
            "the data are no longer those of the training: their splits differ, and welds of the training could stand "
            f"in the test. Test {hint}other images, data=folder data.root=DIR"
        )
    report = evaluate(checkpoint, data, cfg.split or "test", cfg.device)
    make_folder(folder)
    report.save(folder)
    for warning in data.warnings:
        log.warning(warning)
    Console().print(report.table())
    print(f"metrics:    {show(folder / 'metrics.json')}")
    print(f"one by one: {show(folder / 'predictions.csv')}")


def _build_data(cfg: DictConfig, checkpoint: "Checkpoint") -> "WeldDataModule":
    """The checkpoint's own data, or those of `data=`; geometry and classes are always the checkpoint's."""
    from hydra.core.hydra_config import HydraConfig

    from weldnet.config.build import build_data

    typed = [override for override in HydraConfig.get().overrides.task if override.lstrip("+~").startswith("data")]
    for key in ("data.image_size", "data.resize", "data.orient", "data.window"):
        if any(override.lstrip("+").startswith(key) for override in typed):
            raise InputError(f"{key} is the checkpoint's; a test may not change it")
    others = any(override.startswith("data=") for override in typed)
    saved = OmegaConf.create(checkpoint.record.config)
    assert isinstance(saved, DictConfig)
    make_absolute(cfg.data)
    settings = apply_overrides(saved, cfg, typed).data
    geometry = checkpoint.geometry
    settings.image_size.height, settings.image_size.width = geometry.height, geometry.width
    if others:
        # That the training's own splits leak says nothing of other images; nor were those split into folds.
        settings.allow_leak = cfg.data.allow_leak
        settings.num_folds = settings.fold = None
    settings.resize, settings.orient, settings.window = geometry.resize, geometry.orient, geometry.window
    whole = others and settings.source != "synthetic"
    return build_data(settings, saved.seed, classes=checkpoint.record.classes, unsplit="test" if whole else "split")


main = command("test")(run)
