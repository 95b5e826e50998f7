"""A moving average of the weights, kept without waiting for the device."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(EMAWeightAveraging):
    """Lightning's `EMAWeightAveraging`, in one operation a step on the device that trains.

    Lightning's own keeps the average on the CPU, reads back from the device twice a step, and averages each tensor by
    itself. Counts of batches are not averaged but those of the weights.

    Args:
        decay: the share of the old average that each step keeps.
        update_every_n_steps: 0 for never within an epoch.
        update_starting_at_step: the first step that updates it; None for all.
        update_starting_at_epoch: the first epoch whose end updates it; None for none.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
    ) -> None:
        super().__init__(
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
            update_starting_at_epoch=update_starting_at_epoch,
        )
        self.average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # It was copied from the model before that was moved to its device.
        self._parts().to(pl_module.device)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.has_begun = bool(self._parts().get_buffer("n_averaged") > 0)
        pairs = list(zip(_tensors(self._parts().get_submodule("module")), _tensors(pl_module), strict=True))
        self.averaged = [mine for mine, _ in pairs if mine.is_floating_point()]
        self.current = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.has_begun:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self.has_begun = self._latest_update_step > 0
        elif trainer.global_step > self._latest_update_step and self.should_update(step_idx=trainer.global_step - 1):
            with torch.no_grad():
                self.average(self.averaged, self.current, 0)
                self._parts().get_buffer("n_averaged").add_(1)
            self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._copy_counts()
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._copy_counts()
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def _parts(self) -> torch.nn.Module:
        assert self._average_model is not None
        return self._average_model

    def _copy_counts(self) -> None:
        for mine, theirs in getattr(self, "counts", []):
            mine.copy_(theirs)


def _tensors(module: torch.nn.Module) -> list[Tensor]:
    """All that is averaged, as `AveragedModel` counts it."""
    return [each.detach() for each in (*module.parameters(), *module.buffers())]
