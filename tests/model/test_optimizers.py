"""Who learns how fast, and when."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from weldnet.model.network import WeldNet
from weldnet.model.optimizers import WarmupCosine, parameter_groups, warmup_cosine


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_parameter_groups(layer_decay: float) -> None:
    network = WeldNet("resnet18", 3)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.01, layer_decay), lr=0.01, weight_decay=0.1)
    rate = {name: 0.01 * layer_decay ** (5 - depth) for depth, name in enumerate(network.stage_names)}
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    for group in optimizer.param_groups:
        stage = group["name"].removesuffix("_vectors")
        members = {id(parameter) for module in network.stage(stage) for parameter in module.parameters()}
        assert group["params"]
        assert all(id(parameter) in members for parameter in group["params"])
        assert group["lr"] == pytest.approx(rate[stage])
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize(
    ("total", "share", "final", "warmup"), [(100, 0.1, 0.01, 10), (7, 0.0, 0.5, 1), (50, 0.5, 0, 25)]
)
def test_warmup_cosine(total: int, share: float, final: float, warmup: int) -> None:
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(layers, (1.0, 0.1), strict=True)]
    optimizer = torch.optim.SGD(groups)
    scheduler = warmup_cosine(optimizer, total, share, final)
    rates = []
    for _ in range(total + 3):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    upper = [upper for upper, _ in rates]
    assert [lower for _, lower in rates] == pytest.approx([0.1 * rate for rate in upper])
    assert upper[0] == pytest.approx(1 / warmup)
    assert upper[warmup - 1] == pytest.approx(1)
    assert upper[:warmup] == pytest.approx([(step + 1) / warmup for step in range(warmup)])
    assert all(a >= b for a, b in pairwise(upper[warmup:]))
    half = warmup + (total - warmup) / 2
    expected = final + (1 - final) * (1 + math.cos(math.pi * (int(half) - warmup) / (total - warmup))) / 2
    assert upper[int(half)] == pytest.approx(expected)
    assert upper[total:] == pytest.approx([final] * 3)


def follow(scheduler: torch.optim.lr_scheduler.LambdaLR, steps: int) -> list[float]:
    """The rate of each of so many steps."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def make_schedule(total: int, **shares: float) -> torch.optim.lr_scheduler.LambdaLR:
    shares = {"warmup_share": 0.1, "final_share": 0.01, **shares}
    return warmup_cosine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), total, **shares)


@pytest.mark.parametrize("step", [0, 3, 10, 40, 100])
@pytest.mark.parametrize("total", [60, 100, 250])
def test_a_replanned_schedule_never_jumps(step: int, total: int) -> None:
    whole, resumed = follow(make_schedule(100), 100), make_schedule(100)
    assert follow(resumed, step) == whole[:step]
    state = resumed.state_dict()
    resumed = make_schedule(total)
    fresh = resumed.lr_lambdas[0]
    resumed.load_state_dict(state)
    planned = make_schedule(total).lr_lambdas[0]
    (curve,) = resumed.lr_lambdas
    assert curve is fresh
    assert isinstance(curve, WarmupCosine)
    assert isinstance(planned, WarmupCosine)
    last = max(total, step)
    curve.replan(planned, step, last)
    rates = [curve(each) for each in range(step, last + 5)]
    if total == 100:
        assert rates[: 100 - step] == whole[step:], "the same to the last bit"
    before = whole[step - 1] if step else 0.1
    assert abs(rates[0] - before) < 0.2, "no jump"
    assert all(abs(a - b) < 0.2 for a, b in pairwise(rates))
    assert rates[-1] == pytest.approx(0.01)
    if step == 100:
        assert max(rates) == pytest.approx(0.01), "past its end it stays at its end"
