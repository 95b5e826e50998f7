"""The numbers of a training config, and which arguments of Lightning's trainer are honoured, and why not the others."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from omegaconf import DictConfig, OmegaConf

from weldnet.errors import InputError, check_choice
from weldnet.hardware import check_processes

log = logging.getLogger(__name__)

REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "limit_test_batches": ((), "a test counts every image; test fewer by data=manifest, or not at all by test=false"),
    "limit_predict_batches": ((), "nothing is predicted while training; weldnet-predict takes the files to predict"),
    "overfit_batches": ((0,), "type trainer.limit_train_batches=N, and trainer.limit_val_batches=N"),
    "enable_checkpointing": ((True,), "a run is tested by the checkpoint that it keeps"),
    "barebones": ((False,), "it keeps no checkpoint, and a run is tested by one"),
    "inference_mode": ((True,), "it changes nothing here: the test is always made in inference mode"),
    "use_distributed_sampler": ((True,), "several processes always share out the images"),
    "enable_autolog_hparams": ((True,), "it changes nothing here; logger.tensorboard=null logs nothing"),
    "model_registry": ((), "a run's checkpoints stay in its folder; upload them from there"),
    "logger": ((), "type logger.tensorboard=null, or a key of the group logger"),
    "callbacks": ((), "type a key of the group callbacks, as in +callbacks.mine._target_=CLASS"),
    "default_root_dir": ((), "type output_dir=DIR"),
}
"""Arguments that would change nothing or spoil a run: the values that ask for nothing, and what to do instead."""

RANGES = {
    "seed": (0, 2**32 - 1),
    "data.batch_size": (2, 10**9),
    "optimizer.lr": (1e-12, 1e6),
    "model.unfreeze_at_epoch": (0, 10**9),
    "trainer.max_epochs": (1, 10**9),
    "trainer.min_epochs": (0, 10**9),
    "trainer.max_steps": (-1, 10**12),
    "trainer.min_steps": (0, 10**12),
    "trainer.accumulate_grad_batches": (1, 10**9),
    "trainer.gradient_clip_val": (0, 1e9),
    "trainer.check_val_every_n_epoch": (1, 10**9),
    "trainer.num_sanity_val_steps": (-1, 10**9),
    "trainer.log_every_n_steps": (0, 10**9),
    "trainer.reload_dataloaders_every_n_epochs": (0, 10**9),
    "trainer.num_nodes": (1, 10**6),
}
"""The least and the greatest value of keys that have the right type and cannot work all the same."""

NEEDED = {"trainer.max_epochs": 20, "optimizer.lr": 1e-3}
"""Keys that may not be null, with an example."""


def check_numbers(cfg: DictConfig) -> None:
    """Checks that the numbers of a training config are in their ranges."""
    for key, (low, high) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value is None and key in NEEDED:
            raise InputError(f"{key} is not given; type {key}={NEEDED[key]}, for example")
        if value is not None and not low <= float(value) <= high:
            raise InputError(f"{key}={value}: allowed are {low} to {high}")


def check_trainer(trainer: DictConfig) -> None:
    """Checks what neither a range nor the signature of Lightning's trainer shows."""
    for name, (no_wish, instead) in REFUSED.items():
        value = trainer.get(name)
        if value is not None and value not in no_wish:
            raise InputError(f"trainer.{name}={value} is not for weldnet: {instead}")
    if trainer.get("max_steps") == 0:
        raise InputError("trainer.max_steps=0 trains nothing; -1 is no limit")
    least = trainer.get("min_epochs") or 0
    if least > trainer.max_epochs:
        raise InputError(f"trainer.min_epochs={least} is more than trainer.max_epochs={trainer.max_epochs}")
    if trainer.get("gradient_clip_algorithm") is not None and not trainer.get("gradient_clip_val"):
        raise InputError("trainer.gradient_clip_algorithm has no effect without trainer.gradient_clip_val")
    if trainer.get("check_val_every_n_epoch", 1) is None and not isinstance(trainer.get("val_check_interval"), int):
        raise InputError(
            "trainer.check_val_every_n_epoch=null counts batches through all epochs: give their number, as in "
            "trainer.val_check_interval=100"
        )
    # Before Lightning makes a list of them.
    devices = str(trainer.get("devices"))
    gpus = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if devices.isdecimal() and int(devices) > gpus:
        check_processes("trainer.devices", int(devices))


def check_built(settings: DictConfig, trainer: Any) -> None:
    """Checks what depends on the hardware that the built trainer has found."""
    if settings.get("sync_batchnorm") and (trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu"):
        raise InputError("trainer.sync_batchnorm=true has an effect with several GPUs only; leave it out")
    if settings.strategy == "ddp" and trainer.world_size == 1:
        log.warning("trainer.strategy=ddp has one process here; trainer.devices=N or torchrun starts several")
    num_nodes, num_devices = trainer.num_nodes, trainer.num_devices
    started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if num_nodes > 1 and started != num_nodes * num_devices:
        raise InputError(
            f"trainer.num_nodes={num_nodes} with trainer.devices={num_devices} needs {num_nodes * num_devices} "
            f"processes, started on every machine by torchrun or SLURM; there is {started}"
        )


def make_profiler(name: str, folder: Path) -> Any:
    """A profiler of Lightning's by its name; its figures go to `fit-profile.txt` in the run folder."""
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    check_choice("trainer.profiler", name, tuple(kinds))
    return kinds[name](dirpath=folder, filename="profile")
