"""What test_several_processes.py has torchrun start, and then calls itself: two trainings, and their evaluation."""

import json
import sys
import warnings
from pathlib import Path

from calling import call, without_charts
from lightning import Callback, LightningModule, Trainer
from torch.nn import BatchNorm2d

from weldnet.config.build import build_data
from weldnet.config.literal import read_config
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.evaluate import run_trainer

FROZEN = "+callbacks.frozen._target_=two_processes.FrozenBatchNorm"


class FrozenBatchNorm(Callback):
    """Keeps the statistics of batch norm as they were, so that a step is the same for a whole batch and for halves."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for module in pl_module.modules():
            if isinstance(module, BatchNorm2d):
                module.eval()


def evaluate(run: Path, trainer: Trainer) -> dict[str, float]:
    """What a trainer measures on validation and test images with the last weights of a run."""
    cfg = read_config(run / "config.yaml")
    data = build_data(cfg.data, cfg.seed)
    classifier = load_checkpoint(run / "checkpoints" / "last.ckpt").classifier()
    figures: dict[str, float] = {}
    with run_trainer():
        for measure in (trainer.validate, trainer.test):
            (measured,) = measure(classifier, datamodule=data, verbose=False)
            figures |= {name: float(value) for name, value in measured.items()}
    return figures


def make_trainer(**settings: object) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **settings)  # type: ignore[arg-type]


def main(*arguments: str) -> None:
    """Trains `frozen` and `live` with these keys, and writes what the trainer measures of the second one."""
    with without_charts():
        call("train", *arguments, FROZEN, "output_dir=frozen")
        call("train", *arguments, "output_dir=live")
    trainer = make_trainer(strategy="ddp", devices=2)
    figures = evaluate(Path("live"), trainer)
    if trainer.is_global_zero:
        Path("figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(*sys.argv[1:])
