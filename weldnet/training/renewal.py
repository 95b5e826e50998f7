"""On resume: applies the config again, after Lightning restored the states of the earlier epochs."""

import logging
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from weldnet.model.optimizers import WarmupCosine

log = logging.getLogger(__name__)


class Renewal(Callback):
    """Writes the settings of today over restored ones: of optimizer, schedule and, in `callbacks`, every patience."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.patient = [(callback, callback.patience) for callback in callbacks if hasattr(callback, "patience")]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback, patience in self.patient:
            callback.patience = patience
            if getattr(callback, "wait_count", -1) >= patience:
                # The run may have been interrupted before its test.
                log.warning("early stopping has ended this run already; more epochs take a higher patience")
                trainer.should_stop = True
        configured: Any = pl_module.configure_optimizers()
        if isinstance(configured, Optimizer):
            renew_optimizer(trainer.optimizers[0], configured, [1.0] * len(configured.param_groups))
            return
        schedule, fresh = trainer.lr_scheduler_configs[0].scheduler, configured["lr_scheduler"]["scheduler"]
        if is_own(schedule) and is_own(fresh):
            factors = renew_schedule(schedule, fresh, find_last_step(trainer))
            renew_optimizer(trainer.optimizers[0], configured["optimizer"], factors)


def is_own(schedule: object) -> TypeGuard[LambdaLR]:
    """Whether a schedule is weldnet's; any other restores its own plan."""
    return isinstance(schedule, LambdaLR) and all(isinstance(curve, WarmupCosine) for curve in schedule.lr_lambdas)


def find_last_step(trainer: Trainer) -> int:
    """The optimizer step with which training ends, counted from the run's beginning, on any number of devices."""
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    left = (trainer.max_epochs or 0) - trainer.current_epoch
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        ends.append(trainer.global_step + max(0, left) * steps)
    return min(ends, default=trainer.global_step)


def renew_schedule(schedule: LambdaLR, fresh: LambdaLR, last_step: int) -> list[float]:
    """Takes over the rates and the plan of a fresh schedule; returns the factor of each parameter group now."""
    schedule.base_lrs = fresh.base_lrs
    curves = [curve for curve in schedule.lr_lambdas if isinstance(curve, WarmupCosine)]
    for curve, plan in zip(curves, fresh.lr_lambdas, strict=True):
        assert isinstance(plan, WarmupCosine)
        curve.replan(plan, schedule.last_epoch, last_step)
    return [curve(schedule.last_epoch) for curve in curves]


def renew_optimizer(optimizer: Optimizer, fresh: Optimizer, factors: Sequence[float]) -> None:
    """Takes over every setting of a fresh optimizer's parameter groups, with its rate times the schedule's factor."""
    for group, new, factor in zip(optimizer.param_groups, fresh.param_groups, factors, strict=True):
        base = new.get("initial_lr", new["lr"])
        group.update({name: value for name, value in new.items() if name != "params"} | {"lr": base * factor})
