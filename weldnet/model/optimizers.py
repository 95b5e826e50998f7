"""Which parameter learns how fast, and how that changes over the run."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from weldnet.errors import InputError
from weldnet.model.network import STAGES, WeldNet


def parameter_groups(network: WeldNet, lr: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """One or two groups a stage, with its learning rate; biases and batch norms are spared the weight decay.

    Args:
        network: the network.
        lr: the head's rate.
        layer_decay: each stage below the head has this times the rate of the one above it; 1 is the same for all.

    Returns:
        Groups for a torch optimizer, with `name`, from the stem to the head.
    """
    groups: list[dict[str, Any]] = []
    for depth, (name, parameters) in enumerate(network.stages()):
        rate = lr * layer_decay ** (len(STAGES) - 1 - depth)
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "name": name})
        groups.append({"params": vectors, "lr": rate, "name": f"{name}_vectors", "weight_decay": 0.0})
    return groups


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, warmup_share: float = 0.1, final_share: float = 0.01
) -> LambdaLR:
    """Each group's rate rises linearly to its full value, then falls along half a cosine.

    Args:
        total_steps: optimizer steps of the whole run.
        warmup_share: the share of them that rise.
        final_share: the rate at the end, as a share of the full one.

    Raises:
        InputError: a share is not from 0 to 1.

    Source: Loshchilov and Hutter 2017, SGDR; Goyal et al. 2017, warm-up.
    """
    for name, share in (("warmup_share", warmup_share), ("final_share", final_share)):
        if not 0 <= share <= 1:
            raise InputError(f"scheduler.{name}={share}: allowed are 0 to 1")
    warmup = max(1, round(total_steps * warmup_share))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
