"""WeldClassifier: the LightningModule."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from weldnet.errors import InputError, check_choice
from weldnet.evaluation.metrics import METRICS, measure_confusion
from weldnet.model.confusion import ConfusionMatrix
from weldnet.model.cuda_graph import AUTO, MODES, GraphedNetwork, find_obstacle
from weldnet.model.network import WeldNet
from weldnet.model.optimizers import parameter_groups

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

STAGES = ("train", "val", "test")


class WeldClassifier(LightningModule):
    """Trains a `WeldNet` by cross entropy.

    It logs, for the stages train, val and test, `<stage>/<key>` of each of `METRICS`, means over the classes present,
    and, outside training, `<stage>_recall/<class>`. Each checkpoint carries
    `record`, a dict of plain types, under the key `weldnet`.

    Args:
        network: the network, with as many outputs as there are classes.
        classes: their names, in the order of the outputs.
        optimizer: called with parameter groups; `torch.optim.AdamW` with its settings bound, say.
        scheduler: called with the optimizer and `total_steps`, stepped after each batch; None for a constant rate.
        lr: the head's learning rate.
        layer_decay: see `parameter_groups`.
        label_smoothing: from 0 to 1.
        class_weights: float (C,) weights of the loss, None for equal ones.
        freeze_through: the last stage that does not learn, None for none.
        unfreeze_at_epoch: the epoch, counted from 0, from which every stage learns; None for never.
        cuda_graphs: whether training replays a CUDA graph, see `GraphedNetwork`: `on`, `off`, or `auto`.
    """

    def __init__(
        self,
        network: WeldNet,
        classes: Sequence[str],
        optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        lr: float = 1e-3,
        layer_decay: float = 1.0,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        freeze_through: str | None = None,
        unfreeze_at_epoch: int | None = None,
        cuda_graphs: str = "auto",
    ) -> None:
        super().__init__()
        for name, value, low in (("layer_decay", layer_decay, 0.01), ("label_smoothing", label_smoothing, 0.0)):
            if not low <= value <= 1:
                raise InputError(f"model.{name}={value}: allowed are {low} to 1")
        if unfreeze_at_epoch is not None and freeze_through is None:
            raise InputError("model.unfreeze_at_epoch is set, but nothing is frozen; set model.freeze_through, too")
        check_choice("model.cuda_graphs", cuda_graphs, MODES)
        self.network, self.classes = network, list(classes)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.lr, self.layer_decay = lr, layer_decay
        self.unfreeze_at_epoch = unfreeze_at_epoch
        self.cuda_graphs = cuda_graphs
        self.graphed: GraphedNetwork | None = None
        self.criterion = nn.CrossEntropyLoss(class_weights, label_smoothing=label_smoothing)
        self.record: dict[str, Any] = {}
        network.freeze(freeze_through)
        self.confusions = nn.ModuleDict({f"{stage}_confusion": ConfusionMatrix(len(classes)) for stage in STAGES})

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) from 0 to 255."""
        logits: Tensor = self.network(images)
        return logits

    def _step(self, stage: str, batch: Batch) -> dict[str, Tensor]:
        images, labels = batch
        logits: Tensor = self.graphed(images) if stage == "train" and self.graphed else self(images)
        # Smoothing and class weights are for learning; what is compared and reported is the plain cross entropy.
        loss: Tensor = self.criterion(logits, labels) if stage == "train" else functional.cross_entropy(logits, labels)
        # Soft labels, as mixup and CutMix make them, count as the class of the largest share.
        classes = labels.argmax(1) if labels.is_floating_point() else labels
        self.confusion(stage).update(logits.detach().argmax(1), classes)
        self.log(f"{stage}/loss", loss, on_step=stage == "train", on_epoch=True, batch_size=len(labels), sync_dist=True)
        return {"loss": loss, "logits": logits.detach().float()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss; the labels are int64 (B,) or float (B, C), the share of each class."""
        return self._step("train", batch)["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """float32 logits (B, C) on the CPU."""
        logits: Tensor = self(batch[0])
        return logits.float().cpu()

    def confusion(self, stage: str) -> ConfusionMatrix:
        """What has been counted in this epoch of a stage."""
        confusion = self.confusions[f"{stage}_confusion"]
        assert isinstance(confusion, ConfusionMatrix)
        return confusion

    def _log_epoch(self, stage: str) -> None:
        counts = self.confusion(stage)
        confusion = counts.compute().cpu().numpy()
        figures = measure_confusion(confusion, self.classes)
        keys = [metric.key for metric in METRICS if metric.key in figures]
        self.log_dict({f"{stage}/{key}": float(figures[key]) for key in keys})
        if stage != "train":
            present = [self.classes[i] for i in confusion.sum(axis=1).nonzero()[0]]
            self.log_dict({f"{stage}_recall/{name}": float(figures[f"recall/{name}"]) for name in present})
        counts.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["weldnet"] = self.record
        if "callbacks" not in checkpoint:
            self._average(checkpoint)

    def _average(self, checkpoint: dict[str, Any]) -> None:
        """Puts what validation measures into a checkpoint of weights alone, for which no callback is asked."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_save_checkpoint(self.trainer, self, checkpoint)
        for needed_to_resume in ("current_model_state", "averaging_state"):
            checkpoint.pop(needed_to_resume, None)

    def on_fit_start(self) -> None:
        obstacle = find_obstacle(self.trainer)
        if self.unfreeze_at_epoch is not None:
            obstacle = obstacle or "model.unfreeze_at_epoch changes what learns"
        wanted = self.cuda_graphs == "on" or (self.cuda_graphs == "auto" and AUTO)
        if wanted and not obstacle:
            self.graphed = GraphedNetwork(self.network)
        elif self.cuda_graphs == "on" or (wanted and self.device.type == "cuda"):
            log.warning("model.cuda_graphs: each step is launched by itself, since %s", obstacle)

    def on_fit_end(self) -> None:
        self.graphed = None

    def on_train_epoch_start(self) -> None:
        if self.unfreeze_at_epoch is not None and self.current_epoch >= self.unfreeze_at_epoch:
            self.network.freeze(None)

    def on_train_epoch_end(self) -> None:
        if not torch.isfinite(self.trainer.callback_metrics["train/loss_epoch"]):
            raise InputError(
                f"the loss is no longer finite in epoch {self.current_epoch + 1}: training has diverged; "
                f"lower optimizer.lr ({self.lr:g} now)"
            )
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        if self.unfreeze_at_epoch is not None and self.trainer.world_size > 1:
            # DDP keeps in step only those parameters that learn when it starts.
            raise InputError("model.unfreeze_at_epoch works in one process only; take trainer.devices=1")
        optimizer = self.make_optimizer(parameter_groups(self.network, self.lr, self.layer_decay), lr=self.lr)
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
