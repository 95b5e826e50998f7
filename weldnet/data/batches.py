"""Decoded images as batches, and the orders they come in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, get_worker_info

from weldnet.data.storage import Images, Rows
from weldnet.errors import InputError, MachineError

Batch = tuple[Tensor, Tensor]


class WeldImages(Dataset[Any]):
    """The `rows` of some images with their labels and any groups, int64 (M,) each; reads whole batches at once."""

    def __init__(
        self, images: Images, rows: Rows, labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None
    ) -> None:
        self.images, self.labels = images, torch.from_numpy(labels)
        self.rows: Any = rows
        self.facts: tuple[Tensor, ...] = (self.labels,) if groups is None else (self.labels, torch.from_numpy(groups))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, ...]:
        return torch.as_tensor(self.images.read(self.rows[indices])), *(each[indices] for each in self.facts)

    def pictures(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """uint8 (B, 3, H, W), wherever the images are held."""
        pixels: NDArray[np.uint8] = self[indices][0].cpu().numpy()
        return pixels

    def index_on(self, device: torch.device) -> None:
        """From now on is read by indices that are on a device, as the images are: no step copies anything to it."""
        self.rows = torch.from_numpy(self.rows).to(device)
        self.facts = tuple(each.to(device) for each in self.facts)


class BalancedSampler(DistributedSampler[Any]):
    """Draws every class of labels, int64 (N,), equally often, with replacement: by seed, epoch and process."""

    def __init__(self, labels: Tensor, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        # A DistributedSampler, so that Lightning does not shard it once more.
        super().__init__(labels, num_replicas, rank, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.weights = (1.0 / torch.bincount(labels).clamp(min=1))[labels].double()

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, self.rank))
        return iter(torch.multinomial(self.weights, self.num_samples, replacement=True, generator=generator).tolist())


def order_images(
    labels: Tensor, seed: int, num_replicas: int = 1, rank: int = 0, *, balanced: bool = False
) -> "DistributedSampler[Any]":
    """The order of the images with these labels, int64 (N,), in an epoch: a permutation, or a balanced draw.

    It is a function of seed and epoch, which a resumed run draws again.
    """
    if balanced:
        return BalancedSampler(labels, seed, num_replicas, rank)
    return DistributedSampler(labels, num_replicas, rank, shuffle=True, seed=seed)  # type: ignore[arg-type]


class Batches(DistributedSampler[Any]):
    """The batches of an order, as indices.

    Attributes:
        device: where the indices of a whole epoch are sent at once; None for lists.
    """

    device: torch.device | None = None

    def __init__(self, order: Any, batch_size: int, num_replicas: int, rank: int) -> None:
        # A DistributedSampler, so that Lightning neither shuffles nor divides it, and calls `set_epoch`.
        super().__init__(order, num_replicas, rank)
        self.order, self.batch_size = order, batch_size

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        indices: Any = list(self.order)
        if self.device is not None:
            indices = torch.tensor(indices, dtype=torch.int64).to(self.device)
        starts = [number * self.batch_size for number in range(len(self))]
        for start, end in zip(starts, [*starts[1:], None], strict=False):
            yield indices[start:end]


class TrainingBatches(Batches):
    """The batches of a sampler; one image that would be left alone joins the batch before it.

    Batch norm learns from no single value, as a network has where its last stage is one pixel in size; and mixup and
    CutMix take two. So a `batch_size` below 2, or fewer images for a process, raise an InputError.
    """

    def __init__(self, order: "DistributedSampler[Any]", batch_size: int) -> None:
        super().__init__(order, batch_size, order.num_replicas, order.rank)
        if batch_size < 2:
            raise InputError(f"data.batch_size={batch_size}: training takes 2 or more, since batch norm does")
        if len(order) < 2:
            raise InputError(
                f"{len(order)} training image for each of {order.num_replicas} processes: batch norm needs 2 or "
                "more; take more images, or fewer trainer.devices"
            )

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest > 1)


class EvaluationBatches(Batches):
    """The batches of the images in their order; each image is in one batch of one process.

    Lightning's own way repeats some images, so that every process has equally many.
    """

    def __init__(self, num_images: int, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(range(rank, num_images, num_replicas), batch_size, num_replicas, rank)


def derive_seed(*entropy: int) -> int:
    """A seed that is a function of some whole numbers, such as seed and step."""
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(state) % 2**63


class LateLoader(DataLoader[Any]):
    """Draws the order when the first batch is wanted; worker processes would get it as soon as there is an iterator.

    Lightning makes the iterator of a resumed run before it sets the epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


def load_batches(
    dataset: WeldImages, batches: Sampler[Any], *, num_workers: int = 0, pin_memory: bool = False
) -> "DataLoader[Any]":
    """The images of batches of indices, in worker processes or in this one."""
    return LateLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        collate_fn=_hand_over,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )


def _hand_over(batch: Any) -> Any:
    """The batch as it is; in a worker process in shared memory already.

    There a full /dev/shm is an error that reaches the training. Left to the queue between the processes, which
    sends from a thread of its own, the batch would be lost, and the training wait for it for ever.
    """
    if get_worker_info() is not None:
        for tensor in batch:
            tensor.untyped_storage().share_memory_()
    return batch


@contextmanager
def explain_workers(num_workers: int) -> Iterator[None]:
    """Within it, a worker process that was killed, or cannot hand over its batch, is a MachineError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "shared memory" in text:
            raise MachineError(
                f"a process that decodes images cannot hand over its batch, for /dev/shm is full ("
                f"{text.strip().splitlines()[-1]}); give it more room (docker run --shm-size=1g), or take "
                f"data.cache=disk, a smaller data.batch_size, or fewer than data.num_workers={num_workers}"
            ) from error
        # Of an error within a worker torch says "DataLoader worker process": that one is ours.
        if "DataLoader worker (pid" in text:
            raise MachineError(
                f"a process that decodes images was killed, most often for want of memory ({text.splitlines()[0]}); "
                f"take data.cache=disk, or fewer than data.num_workers={num_workers}"
            ) from error
        raise
