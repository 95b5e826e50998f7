"""Which parameter learns how fast, and how that changes over the run."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from weldnet.errors import InputError
from weldnet.model.network import WeldNet


def parameter_groups(network: WeldNet, lr: float, layer_decay: float) -> list[dict[str, Any]]:
    """One or two groups a stage, from the stem, with its rate; biases, norms and `undecayed` have no weight decay.

    Args:
        lr: the head's rate.
        layer_decay: each stage below the head has this times the rate of the one above it; 1 is the same for all.
    """
    undecayed = {id(network.trunk.get_parameter(name)) for name in network.backbone.undecayed}
    undecayed |= {id(parameter) for parameter in network.parameters() if parameter.ndim <= 1}
    groups: list[dict[str, Any]] = []
    for height, (name, parameters) in zip(reversed(range(len(network.stage_names))), network.stages(), strict=True):
        rate = lr * layer_decay**height
        matrices = [parameter for parameter in parameters if id(parameter) not in undecayed]
        vectors = [parameter for parameter in parameters if id(parameter) in undecayed]
        groups.append({"params": matrices, "lr": rate, "name": name})
        groups.append({"params": vectors, "lr": rate, "name": f"{name}_vectors", "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


class WarmupCosine:
    """The factor of the learning rate at each step: it rises linearly to 1, then falls along half a cosine.

    Its attributes are plain numbers, so that a `LambdaLR` keeps them in its state. See `warmup_cosine`.
    """

    def __init__(self, total_steps: int, warmup_share: float, final_share: float) -> None:
        self.warmup_share, self.final_share = warmup_share, final_share
        self.length = self.estimated_steps = self.last_step = total_steps
        # From step `since`, where the curve had been followed to `reached`, its rest is stretched to `last_step`.
        self.since, self.reached = 0, 0.0

    def replan(self, fresh: "WarmupCosine", step: int, last_step: int) -> None:
        """Takes over the shares of the curve of a run of the new length; if that differs, what is left of this one is
        stretched to `last_step`. So the rate never jumps, and past its end it stays at its end.
        """
        self.warmup_share, self.final_share = fresh.warmup_share, fresh.final_share
        if fresh.estimated_steps != self.estimated_steps:
            self.since, self.reached = step, self._position(step)
            self.estimated_steps, self.last_step = fresh.estimated_steps, max(step, last_step)

    def _position(self, step: int) -> float:
        """Where on a curve of `length` steps a step is."""
        if self.since == 0 and self.last_step == self.length:
            return step
        share = (step - self.since) / max(1, self.last_step - self.since)
        return self.reached + (self.length - self.reached) * share

    def __call__(self, step: int) -> float:
        warmup, position = max(1, round(self.length * self.warmup_share)), self._position(step)
        if position < warmup:
            return min(1.0, (position + 1) / warmup)
        done = min(1.0, (position - warmup) / max(1, self.length - warmup))
        return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done))


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_share: float, final_share: float) -> LambdaLR:
    """Each group's rate rises linearly to its full value, then falls along half a cosine.

    Args:
        total_steps: optimizer steps of the whole run.
        warmup_share: the share of them that rise.
        final_share: the rate at the end, as a share of the full one.

    Source: Loshchilov and Hutter 2017, SGDR; Goyal et al. 2017, warm-up.
    """
    for name, share in (("warmup_share", warmup_share), ("final_share", final_share)):
        if not 0 <= share <= 1:
            raise InputError(f"scheduler.{name}={share}: allowed are 0 to 1")
    return LambdaLR(optimizer, WarmupCosine(total_steps, warmup_share, final_share))
