"""What a person sees while training: a line an epoch, images per second, the share of time spent waiting for data."""

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar, Timer
from torch import Tensor

from weldnet.evaluation.metrics import METRICS
from weldnet.inference.history import Epoch, keep_finite, read_history, write_history
from weldnet.model.classifier import WeldClassifier
from weldnet.training.loggers import last_step

log = logging.getLogger(__name__)

FIGURES = {
    "loss": ("train/loss_epoch", ".4f"),
    "val loss": ("val/loss", ".4f"),
    "accuracy": ("val/accuracy", ".4f"),
    "balanced": ("val/balanced_accuracy", ".4f"),
    "by weld": ("val/balanced_accuracy_by_group", ".4f"),
    "images/s": ("throughput/images_per_s", ".1f"),
}
"""Of the line after an epoch: the metric of each, and how it is written."""


LINE_EVERY_S = 30.0


class Throughput(Callback):
    """Logs `throughput/images_per_s` and, of the time between steps, `throughput/wait_share` of each training epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.num_images, self.waited, self.worked = 0, 0.0, 0.0
        self.mark = time.perf_counter()

    def _lap(self) -> float:
        """The seconds since the last lap."""
        before, self.mark = self.mark, time.perf_counter()
        return self.mark - before

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.waited += self._lap()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        self.worked += self._lap()
        self.num_images += len(batch[1]) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if torch.cuda.is_available() and hasattr(self, "mark"):
            # Steps are only queued on a GPU; they count until they are done.
            torch.cuda.synchronize()
            self.worked += self._lap()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)
        if total := self.waited + self.worked:
            values = {"throughput/images_per_s": self.num_images / total, "throughput/wait_share": self.waited / total}
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
            for logger in trainer.loggers:
                logger.log_metrics(values, step=last_step(trainer))


class _AfterEpochs(Callback):
    """Knows after an epoch whether it was validated; a figure of validation may be of an earlier one."""

    # A run resumed within an epoch does not start it.
    is_validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_validated = True

    def find_figures(self, trainer: Trainer) -> dict[str, Tensor]:
        """What the trainer has measured in this epoch."""
        figures = trainer.callback_metrics
        return {key: value for key, value in figures.items() if self.is_validated or not key.startswith("val/")}


class EpochLines(_AfterEpochs):
    """Prints one plain line after each epoch and, where no bar moves, one each half minute within it."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # By now a resumed run knows where it is.
        self.first = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.epoch_started = self.printed = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        now, done, total = time.perf_counter(), batch_idx + 1, int(trainer.num_training_batches)
        if trainer.progress_bar_callback is not None or now - self.printed < LINE_EVERY_S or done == total:
            return
        self.printed, seconds = now, now - self.epoch_started
        speed = done * len(batch[1]) * trainer.world_size / seconds
        epoch, epochs, step = trainer.current_epoch + 1, trainer.max_epochs or 0, seconds / done
        left = f"{_show_time(step * (total - done))} left of epoch {epoch}"
        if epoch < epochs:
            left += f", {_show_time(step * (total * (epochs - epoch + 1) - done))} of {epochs} epochs"
        _print(trainer, f"  step {done:,} of {total:,}, {speed:,.1f} images/s, {left}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = self.find_figures(trainer)
        shown = [f"{name} {float(figures[key]):{form}}" for name, (key, form) in FIGURES.items() if key in figures]
        epoch, epochs, seconds = trainer.current_epoch + 1, trainer.max_epochs or 0, time.perf_counter() - self.started
        shown.append(f"{seconds:.0f} s")
        if epoch < epochs:
            left = seconds / (epoch - self.first) * (epochs - epoch)
            shown.append(f"{_show_time(left)} left")
        _print(trainer, f"epoch {epoch}/{trainer.max_epochs}  {'  '.join(shown)}")


class EpochBar(RichProgressBar):
    """Lightning's progress bar, which counts epochs from 0, with epochs as in the lines."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            words = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.progress.update(self.train_progress_bar_id, description=words)


class History(_AfterEpochs):
    """Writes `history.csv` into the folder `dirpath` after each epoch: how training and validation went."""

    def __init__(self, dirpath: str) -> None:
        self.folder = Path(dirpath)
        self.epochs: list[Epoch] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # An interrupted run may have got further than the checkpoint it is resumed from.
        self.epochs = [each for each in read_history(self.folder) if (each.get("epoch") or 0) <= trainer.current_epoch]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        counted = [f"train/{key}" for key in ("accuracy", "balanced_accuracy")]
        keys = ["train/loss_epoch", *counted, "val/loss"]
        keys += [f"val/{metric.key}" for metric in METRICS if metric.key != "loss"]
        found = dict[str, Any](self.find_figures(trainer))
        if isinstance(pl_module, WeldClassifier):
            # It logs these only after its callbacks, which would find those of the epoch before.
            figures = pl_module.train_sums.measure(pl_module.classes)
            found |= {key: figures[key.removeprefix("train/")] for key in counted}
        row = {key: keep_finite(float(found[key])) if key in found else None for key in keys}
        self.epochs.append({"epoch": float(trainer.current_epoch + 1), **row})
        if trainer.is_global_zero:
            write_history(self.folder, self.epochs)


def print_early_end(trainer: Trainer) -> None:
    """Prints, after a training that ended before its last epoch, when and why."""
    epochs = trainer.max_epochs
    if epochs is not None and trainer.current_epoch < epochs:
        reason = _find_reason(trainer)
        _print(trainer, f"training stopped after epoch {trainer.current_epoch} of {epochs}: {reason}")


def _print(trainer: Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(line, flush=True)
        log.info(line)


def _show_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _find_reason(trainer: Trainer) -> str:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0:
            return "trainer.max_time is over"
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return callback.stopping_reason_message.removesuffix(" Signaling Trainer to stop.")
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps} are done"
    return "a callback asked for it"
