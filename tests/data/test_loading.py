"""Batches are rows; the balanced order is balanced, repeatable and shared out."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler

from weldnet.data.loading import BalancedSampler, WeldImages, make_batches
from weldnet.data.storage import HeldImages

LABELS = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)


def draw(sampler: BalancedSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("order", [None, [3, 0, 4, 1, 2]])
def test_batches_are_rows(order: Sequence[int] | None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 2), np.uint8)
    rows, labels = np.array([8, 1, 3, 0, 5]), np.array([0, 1, 2, 0, 1])
    dataset = WeldImages(HeldImages(torch.from_numpy(images)), rows, labels)
    batches = list(make_batches(dataset, 2, None if order is None else SequentialSampler(order)))
    assert [len(batch[1]) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([batch[0] for batch in batches]), torch.from_numpy(images[rows]))
    assert torch.equal(torch.cat([batch[1] for batch in batches]), torch.from_numpy(labels))
    for index in range(len(dataset)):
        image, label = dataset[index]
        assert torch.equal(image, torch.from_numpy(images[rows[index]]))
        assert label == labels[index]


def test_balanced_sampler_draws_every_class_equally_often() -> None:
    drawn = LABELS[[index for epoch in range(10) for index in draw(BalancedSampler(LABELS, seed=0), epoch)]]
    shares = torch.bincount(drawn) / len(drawn)
    # Four standard deviations of 10,000 draws at a share of 1/3.
    assert shares[[0, 1, 3]].tolist() == pytest.approx([1 / 3] * 3, abs=0.019)


def test_balanced_sampler_is_a_function_of_seed_epoch_and_rank() -> None:
    orders = [
        draw(BalancedSampler(LABELS, seed, 2, rank), epoch) for seed in (0, 1) for rank in (0, 1) for epoch in (0, 1)
    ]
    assert all(len(order) == len(LABELS) // 2 == len(BalancedSampler(LABELS, 0, 2, 0)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)
    assert draw(BalancedSampler(LABELS, 0, 2, 1), 1) == orders[3]
