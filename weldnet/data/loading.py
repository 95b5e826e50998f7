"""Decoded images as batches, and the orders they come in."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = tuple[Tensor, Tensor]


class WeldImages(Dataset[Batch]):
    """Decoded images with their labels; reads whole batches at once.

    Args:
        images: uint8 (N, 3, H, W).
        rows: int64 (M,), the images of this data set.
        labels: int64 (M,), the class of each.
    """

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        self.images, self.rows, self.labels = images, rows, torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return torch.from_numpy(self.images[self.rows[indices]]), self.labels[indices]


class BalancedSampler(Sampler[int]):
    """Draws every class equally often, with replacement; a new draw each epoch, the same for the same seed.

    Under several processes each draws its own share of the epoch.
    """

    def __init__(self, labels: Tensor, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        self.weights = (1.0 / torch.bincount(labels).clamp(min=1))[labels].double()
        self.seed, self.rank, self.epoch = seed, rank, 0
        self.num_samples = len(labels) // num_replicas

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch, self.rank)) % 2**63)
        return iter(torch.multinomial(self.weights, self.num_samples, replacement=True, generator=generator).tolist())


def make_batches(dataset: WeldImages, batch_size: int, sampler: Sampler[int] | None = None) -> "DataLoader[Batch]":
    """Batches in the data set's order or the sampler's: rows of memory, so no worker process is worth its start."""
    pin = torch.cuda.is_available()
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=_as_is, pin_memory=pin)


def _as_is(batch: Any) -> Any:
    return batch
