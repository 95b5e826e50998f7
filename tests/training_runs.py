"""Small Lightning runs for the tests."""

import signal
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

Batch = tuple[Tensor, Tensor]

FEW_WELDS = ["callbacks=default", "data.shares.train=0.7", "data.shares.val=0.16", "data.shares.test=0.14"]
"""With `experiment=demo`, whose validation is large and whose weights are averaged: the usual splits and callbacks."""

DRAWN = [
    "experiment=demo",
    "model=timm",
    "model.backbone=test_resnet",
    "model.zero_init_residual=false",
    "data.num_images=72",
    "data.num_seams=12",
]
"""A small network on few drawn welds, of all kinds."""

DEMO = [
    *DRAWN,
    "data.image_size.height=32",
    "data.image_size.width=16",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    *FEW_WELDS,
]
"""What `weldnet-train` takes for a small network and an epoch of drawn welds, all kinds of them."""


class Losses(Callback):
    """Notes the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].item())


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    """A trainer on the CPU that writes and prints nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return Trainer(**(defaults | settings))


def load_batches(*batches: tuple[Tensor, ...]) -> "DataLoader[Any]":
    """A loader that yields these batches in this order."""
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def quiet(test: Any) -> Any:
    """Lets a test run a trainer: these warnings are Lightning's own, or of small runs."""
    for warning in (
        "ignore:.*does not have many workers",
        "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",
        "ignore:The number of training batches .* is smaller than the logging interval",
        "ignore:Found .* in eval mode at the start of training",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return test


def heed_interrupts() -> None:
    """For Popen's preexec_fn: a job that a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class StopAfterFirstEpoch(Callback):
    """Stops a run as a power cut would: an exception right after the first epoch's checkpoint."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.ckpt_path is None:
            raise ConnectionAbortedError
