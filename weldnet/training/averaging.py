"""A moving average of the weights, kept without waiting for the device."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor


class MovingAverage(EMAWeightAveraging):
    """Lightning's `EMAWeightAveraging`, in one operation a step on the device that trains.

    Lightning's own keeps the average on the CPU, reads back from the device twice a step, and averages each tensor by
    itself. Counts of batches are not averaged but those of the weights.

    Args:
        decay: the share of the old average that each update keeps.
        warm_up: keep at most n / (n + 9) of it at the update after the n-th one, so that the average of a short run
            is one of its last tenth, not of its first steps.
    """

    def __init__(self, decay: float = 0.999, *, warm_up: bool = False) -> None:
        super().__init__(decay=decay)
        self.decay, self.warm_up, self.num_updates = decay, warm_up, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The average was copied before the model moved to its device.
        self._parts().to(pl_module.device)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pairs = list(zip(_tensors(self._parts().get_submodule("module")), _tensors(pl_module), strict=True))
        self.averaged = [mine for mine, _ in pairs if mine.is_floating_point()]
        self.current = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Where gradients accumulate, not every batch ends a step.
        if trainer.global_step > self._latest_update_step:
            self._update()
            self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._copy_counts()
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._copy_counts()
        self._parts().get_buffer("n_averaged").fill_(self.num_updates)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self.num_updates = int(self._parts().get_buffer("n_averaged"))

    def _update(self) -> None:
        """Averages the weights as they are now; the first time it takes them over."""
        kept = min(self.decay, self.num_updates / (self.num_updates + 9)) if self.warm_up else self.decay
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.current, 1 - kept if self.num_updates else 1.0)
        self.num_updates += 1

    def _parts(self) -> torch.nn.Module:
        assert self._average_model is not None
        return self._average_model

    def _copy_counts(self) -> None:
        for mine, theirs in getattr(self, "counts", []):
            mine.copy_(theirs)


def _tensors(module: torch.nn.Module) -> list[Tensor]:
    """All that is averaged, as `AveragedModel` counts it."""
    return [each.detach() for each in (*module.parameters(), *module.buffers())]
