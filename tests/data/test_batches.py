"""Batches are rows; the balanced order is balanced, repeatable and shared out."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from weldnet.data.batches import (
    BalancedSampler,
    EvaluationBatches,
    TrainingBatches,
    WeldImages,
    explain_workers,
    load_batches,
    order_images,
)
from weldnet.data.storage import HeldImages
from weldnet.errors import InputError

LABELS = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)


def draw(sampler: BalancedSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0, 4, 1, 2]])
def test_batches_are_rows(order: Sequence[int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 2), np.uint8)
    rows, labels = np.array([8, 1, 3, 0, 5]), np.array([0, 1, 2, 0, 1])
    dataset = WeldImages(HeldImages(torch.from_numpy(images)), rows, labels)
    batches = list(load_batches(dataset, BatchSampler(order, 2, drop_last=False)))
    assert [len(batch[1]) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([batch[0] for batch in batches]), torch.from_numpy(images[rows[order]]))
    assert torch.equal(torch.cat([batch[1] for batch in batches]), torch.from_numpy(labels[order]))


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


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("num_replicas", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [2, 3, 8, 100])
def test_no_batch_holds_one_image_and_none_is_lost(batch_size: int, num_replicas: int, balanced: bool) -> None:
    for num_images in range(2 * num_replicas, 27):
        labels = torch.arange(num_images) % 2
        drawn = []
        for rank in range(num_replicas):
            order = order_images(labels, 0, num_replicas, rank, balanced=balanced)
            batches = TrainingBatches(order, batch_size)
            batches.set_epoch(4)
            lists = list(batches)
            assert len(lists) == len(batches)
            assert all(len(each) == batch_size for each in lists[:-1])
            assert 2 <= len(lists[-1]) <= batch_size + 1
            indices = [index for each in lists for index in each]
            order.set_epoch(4)
            assert indices == list(order), "the order is that of the sampler"
            drawn += indices
        if not balanced:
            assert set(drawn) == set(range(num_images))
            assert len(drawn) < num_images + num_replicas, "at most one image less than there are processes is repeated"


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_each_image_is_evaluated_once(num_replicas: int, device: torch.device | None) -> None:
    for num_images in range(11):
        shares = [EvaluationBatches(num_images, 2, num_replicas, rank) for rank in range(num_replicas)]
        for share in shares:
            share.device = device
        batches = [list(share) for share in shares]
        assert [len(each) for each in batches] == [len(share) for share in shares]
        assert all(1 <= len(batch) <= 2 for each in batches for batch in each)
        assert sorted(int(index) for each in batches for batch in each for index in batch) == list(range(num_images))


@pytest.mark.parametrize(("num_images", "batch_size", "replicas"), [(8, 1, 1), (1, 4, 1), (3, 4, 3)])
def test_too_few_images_for_a_batch_are_refused(num_images: int, batch_size: int, replicas: int) -> None:
    with pytest.raises(InputError, match="2 or more"):
        TrainingBatches(order_images(torch.zeros(num_images, dtype=torch.int64), 0, replicas), batch_size)


def test_whole_batches_of_a_sampler_are_rows() -> None:
    images = torch.arange(5 * 3, dtype=torch.uint8).view(5, 3, 1, 1)
    dataset = WeldImages(HeldImages(images), np.arange(5), np.arange(5) % 2)
    batches = TrainingBatches(order_images(dataset.labels, 0), 4)
    (loaded,) = load_batches(dataset, batches)
    (rows,) = batches
    assert torch.equal(loaded[0], images[rows])
    assert torch.equal(loaded[1], dataset.labels[rows])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "was killed"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "was killed"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. Out of shared memory.", "cannot hand over"),
        ("Caught RuntimeError in DataLoader worker process 0.\nunable to allocate shared memory(shm)", "--shm-size"),
    ],
)
def test_the_end_of_a_worker_is_explained(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message), explain_workers(3):
        raise RuntimeError(text)


def test_a_mistake_of_ours_in_a_worker_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes") as raised, explain_workers(3):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nTraceback\nshapes do not match")
    assert not isinstance(raised.value, InputError)
