"""A whole training step as one CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelPruning, StochasticWeightAveraging
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.optim import Optimizer

from weldnet.hardware.devices import Replay, Tensors

MODES = ("auto", "on", "off")

GRADIENT_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")

CHANGE_STEPS = (GradientAccumulationScheduler, ModelPruning, StochasticWeightAveraging)
"""Callbacks that change what a step does, once it has been captured."""


def find_obstacle(trainer: Trainer) -> str | None:
    """Why the steps of a trainer cannot be graphs; None where they can."""
    if trainer.strategy.root_device.type != "cuda":
        return f"training runs on {trainer.strategy.root_device.type}"
    if trainer.world_size > 1:
        return "several processes train"
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        return f"{type(trainer.strategy).__name__} deals with gradients"
    if trainer.accumulate_grad_batches > 1:
        return "trainer.accumulate_grad_batches adds up gradients, and a graph overwrites them"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, CHANGE_STEPS) or any(
            is_overridden(hook, callback, Callback) for hook in GRADIENT_HOOKS
        ):
            return f"{type(callback).__name__} deals with gradients"
    if any(getattr(config.scheduler, "cycle_momentum", False) for config in trainer.lr_scheduler_configs):
        return "the scheduler changes the momentum in each step (scheduler.cycle_momentum=false)"
    if torch.is_anomaly_enabled():
        return "trainer.detect_anomaly checks each result"
    if trainer.precision == "16-mixed":
        return "trainer.precision=16-mixed leaves out steps, as it finds on the way"
    if not all(group.get("fused") for optimizer in trainer.optimizers for group in optimizer.param_groups):
        return "the optimizer is not a fused one (optimizer.fused=true)"
    return None


class GraphedStep:
    """A whole step: the loss, its gradients, and what the optimizer makes of them.

    Lightning's own backward pass must be left out then; its call of the optimizer finds no gradients, and does nothing.

    Args:
        compute: from images and labels to the loss, which needs gradients, and to what else is wanted.
        clip: called between the backward pass and the optimizer.
        optimizer: a fused one; its learning rates may change from step to step.
        network: what `compute` runs.
        is_required: raise an error where a step cannot be captured, instead of a warning.
    """

    def __init__(
        self,
        compute: Callable[[Tensor, Tensor], Tensors],
        clip: Callable[[], None],
        optimizer: Optimizer,
        network: nn.Module,
        *,
        is_required: bool = False,
    ) -> None:
        self.compute, self.clip, self.optimizer, self.is_required = compute, clip, optimizer, is_required
        self.modules = list(network.modules())
        self.settings: list[Any] = []

    def __call__(self, images: Tensor, labels: Tensor) -> Tensors:
        """What `compute` returns, detached."""
        groups = self.optimizer.param_groups
        settings = [[module.training for module in self.modules], *(_freeze_settings(group) for group in groups)]
        if settings != self.settings:
            # What learns, or how, has changed, and would be left out of a replay.
            self.settings = settings
            self.replay = Replay(self._run, subject="a training step", is_required=self.is_required)
            self.rates = torch.zeros(len(groups), dtype=torch.float32, device=images.device)
        # By trainer.precision the default type may be a half one.
        rates = torch.tensor([group["lr"] for group in groups], dtype=torch.float32)
        self.rates.copy_(rates, non_blocking=True)
        return self.replay(images, labels)

    def _run(self, images: Tensor, labels: Tensor) -> Tensors:
        self.optimizer.zero_grad()
        loss, *others = self.compute(images, labels)
        # Autocast is for the forward pass alone.
        with torch.autocast(images.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]
            self.clip()
            with read_rates(self.optimizer, self.rates):
                self.optimizer.step()
        # Gradients that a capture made belong to the graph.
        self.optimizer.zero_grad()
        return tuple(each.detach() for each in (loss, *others))


def _freeze_settings(group: dict[str, Any]) -> tuple[list[bool], dict[str, Any]]:
    learns = [parameter.requires_grad for parameter in group["params"]]
    return learns, {name: value for name, value in group.items() if name not in ("params", "lr")}


@contextmanager
def read_rates(optimizer: Optimizer, rates: Tensor) -> Iterator[None]:
    """Within it an optimizer reads its learning rates from memory; outside, they are the numbers of a schedule."""
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        # torch asks for `capturable` during a capture, and only then.
        group.update(lr=rate, capturable=rates.is_cuda and torch.cuda.is_current_stream_capturing())
    try:
        yield
    finally:
        for group, kept in zip(optimizer.param_groups, before, strict=True):
            group.clear()
            group.update(kept)
