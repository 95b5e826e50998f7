"""WeldClassifier: the LightningModule."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from weldnet.errors import InputError, check_choice
from weldnet.model.checkpoint_content import average_weights, read_arguments, refuse_objects
from weldnet.model.confusion import EpochSums
from weldnet.model.cuda_graph import GRADIENT_HOOKS, MODES, GraphedStep, find_obstacle
from weldnet.model.network import WeldNet, make_backbone
from weldnet.model.optimizers import parameter_groups
from weldnet.model.settings import ModelSettings

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

OF_A_STEP = (
    *("training_step", "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping"),
    *GRADIENT_HOOKS,
)
"""What a subclass may do in its own way, and a graph does in ours, or leaves out."""


class WeldClassifier(LightningModule):
    """Trains a `WeldNet` by cross entropy.

    It logs, for the stages train, val and test, `<stage>/<key>` of each of `METRICS`, means over the classes present,
    and, outside training, `<stage>_recall/<class>`; what needs groups, where the batches hold them. Each checkpoint
    carries `record`, a dict of plain types, under the key `weldnet`. `load_from_checkpoint` takes any that weldnet has
    trained; optimizer and schedule are not in it.

    Args:
        classes: their names, in the order of the outputs.
        settings: of the network and of how it learns, or a dict of them.
        optimizer: called with parameter groups, such as `torch.optim.AdamW` with its settings bound.
        scheduler: called with the optimizer and `total_steps`, stepped after each batch; None for a constant rate.
        lr: the head's learning rate.
        size: height and width of the images; None for the backbone's own.
        class_weights: (C,), of the loss; None for equal ones.
        mean, std: of RGB pixels from 0 to 1; None for the backbone's own.
    """

    def __init__(
        self,
        classes: Sequence[str],
        settings: ModelSettings | Mapping[str, Any],
        optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        lr: float = 1e-3,
        size: tuple[int, int] | None = None,
        class_weights: Sequence[float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(settings, ModelSettings):
            settings = ModelSettings(**settings)
        for name, low in (("layer_decay", 0.01), ("label_smoothing", 0.0)):
            if not low <= (value := getattr(settings, name)) <= 1:
                raise InputError(f"model.{name}={value}: allowed are {low} to 1")
        if settings.unfreeze_at_epoch is not None and settings.freeze_through is None:
            raise InputError("model.unfreeze_at_epoch is set, but nothing is frozen; set model.freeze_through, too")
        check_choice("model.cuda_graphs", settings.cuda_graphs, MODES)
        backbone = make_backbone(
            settings.backbone, size, settings.weights, zero_init_residual=settings.zero_init_residual
        )
        backbone = replace(backbone, mean=tuple(mean or backbone.mean), std=tuple(std or backbone.std))
        self.network = WeldNet(backbone, len(classes), channels_last=settings.channels_last)
        self.network.freeze(settings.freeze_through)
        self.classes, self.settings, self.lr = list(classes), settings, lr
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.criterion = nn.CrossEntropyLoss(weights, label_smoothing=settings.label_smoothing)
        self.record: dict[str, Any] = {}
        self.graphed: GraphedStep | None = None
        self.train_sums, self.val_sums, self.test_sums = (EpochSums(len(classes)) for _ in range(3))
        self.plain: dict[str, Any] = {"classes": self.classes, "lr": lr, "size": size, "class_weights": class_weights}
        self.plain |= {"settings": asdict(settings) | {"weights": "none"}, "mean": backbone.mean, "std": backbone.std}
        self.save_hyperparameters(self.plain, logger=False)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Lightning's, without running code, and for checkpoints that older versions wrote, too."""
        if hparams_file is None and isinstance(checkpoint_path, (str, Path)) and Path(checkpoint_path).is_file():
            kwargs = read_arguments(checkpoint_path, cls.CHECKPOINT_HYPER_PARAMS_KEY, weights_only) | kwargs
        # Lightning would call what a checkpoint names.
        kwargs.setdefault("_instantiator", None)
        return super().load_from_checkpoint(checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) from 0 to 255."""
        logits: Tensor = self.network(images)
        return logits

    def _learn(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to learn by, with smoothing and class weights, and the logits."""
        logits = self(images)
        return self.criterion(logits, labels), logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss; the labels are int64 (B,) or float (B, C), the share of each class."""
        loss, logits = (self.graphed or self._learn)(*batch)
        self.train_sums.update(loss, logits, batch[1])
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.graphed:
            super().backward(loss, *args, **kwargs)

    def _evaluation_step(self, sums: EpochSums, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, *groups = batch
        logits = self(images)
        # What is compared and reported is the plain cross entropy.
        loss = functional.cross_entropy(logits, labels)
        sums.update(loss, logits, labels, *groups)
        return {"loss": loss, "logits": logits.float()}

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """`loss` and `logits` (B, C) of images, labels and, if they are known, groups."""
        return self._evaluation_step(self.val_sums, batch)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """As `validation_step`."""
        return self._evaluation_step(self.test_sums, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """`logits` (B, C) and pooled `features` (B, F), float32."""
        features = self.network.features(batch[0])
        return {"logits": self.network.head(features).float(), "features": features.float()}

    def _log_epoch(self, stage: str, sums: EpochSums) -> None:
        for name, value in sums.finish(self.classes).items():
            if not name.startswith("recall/"):
                self.log(f"{stage}/{name}", value)
            elif stage != "train":
                self.log(f"{stage}_{name}", value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["weldnet"] = self.record
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self._plain_hparams()
        if "callbacks" not in checkpoint:
            average_weights(self, checkpoint)

    def _plain_hparams(self) -> dict[str, Any]:
        """The hyper-parameters as a checkpoint without code holds them; a subclass may have saved more."""
        # A bare `save_hyperparameters()` keeps our own arguments as they were given.
        hparams = {k: v for k, v in {**self.hparams, **self.plain}.items() if k not in ("optimizer", "scheduler")}
        refuse_objects(type(self).__name__, hparams)
        return hparams

    def on_train_start(self) -> None:
        # Not after the first epoch, when a checkpoint is saved.
        self._plain_hparams()
        # An interrupted training may have left one, of its own optimizer.
        self.graphed = None
        mode, trainer = self.settings.cuda_graphs, self.trainer
        obstacle = find_obstacle(trainer)
        if any(getattr(type(self), name) is not getattr(WeldClassifier, name) for name in OF_A_STEP):
            obstacle = obstacle or f"{type(self).__name__} has a step of its own"
        if mode != "off" and not obstacle:
            (optimizer,) = trainer.optimizers
            clipping = (optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            clip = partial(self.configure_gradient_clipping, *clipping)
            self.graphed = GraphedStep(self._learn, clip, optimizer, self.network, is_required=mode == "on")
        elif mode == "on" or (mode == "auto" and self.device.type == "cuda"):
            log.warning("model.cuda_graphs: each step is launched by itself, since %s", obstacle)

    def on_train_end(self) -> None:
        self.graphed = None

    def on_train_epoch_start(self) -> None:
        if self.settings.unfreeze_at_epoch is not None and self.current_epoch >= self.settings.unfreeze_at_epoch:
            self.network.freeze(None)
        # The trainer logs the means at the epoch's end.
        self.log("train/loss_epoch", self.train_sums.loss)
        self.log("train/loss", self.train_sums.loss, logger=False)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if batch_idx == 0 or (every and self.trainer.global_step % every == 0):
            self.log("train/loss_step", outputs["loss"])
            # For a callback that watches it within the first epoch.
            self.log("train/loss", outputs["loss"], logger=False)

    def on_validation_epoch_start(self) -> None:
        self.log("val/loss", self.val_sums.loss)
        if isinstance(wrapper := self.trainer.strategy.model, DistributedDataParallel):
            # All measure the weights that the first one saves. DDP would wait for every process at each batch, and they
            # have not equally many.
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
            wrapper.require_forward_param_sync = False

    def on_test_epoch_start(self) -> None:
        self.log("test/loss", self.test_sums.loss)

    def on_train_epoch_end(self) -> None:
        if not torch.isfinite(self.trainer.callback_metrics["train/loss_epoch"]):
            raise InputError(
                f"the loss is no longer finite in epoch {self.current_epoch + 1}: training has diverged; "
                f"lower optimizer.lr ({self.lr:g} now)"
            )
        self._log_epoch("train", self.train_sums)

    def on_validation_epoch_end(self) -> None:
        if isinstance(wrapper := self.trainer.strategy.model, DistributedDataParallel):
            wrapper.require_forward_param_sync = True
        self._log_epoch("val", self.val_sums)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test", self.test_sums)

    def configure_optimizers(self) -> Any:
        if self.settings.unfreeze_at_epoch is not None and self.trainer.world_size > 1:
            # DDP keeps in step only those parameters that learn when it starts.
            raise InputError("model.unfreeze_at_epoch works in one process only; take trainer.devices=1")
        optimizer = self.make_optimizer(parameter_groups(self.network, self.lr, self.settings.layer_decay), lr=self.lr)
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
