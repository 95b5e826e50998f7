"""WeldDataModule: turns a source of weld images into batches."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from weldnet.data.augmentation import BatchAugmentation, EachImage
from weldnet.data.batches import (
    Batch,
    Batches,
    EvaluationBatches,
    TrainingBatches,
    WeldImages,
    derive_seed,
    load_batches,
    order_images,
)
from weldnet.data.cache import decode_images
from weldnet.data.decode.images import Geometry, Shapes, measure_shapes
from weldnet.data.mixing import check_alphas, mix
from weldnet.data.samples import WeldSamples, find_pairs
from weldnet.data.settings import BatchSettings, ImageSettings, SplitRule
from weldnet.data.sources.source import Source
from weldnet.data.splits.leaks import fingerprints, validation_groups
from weldnet.data.splits.rules import split_digest, split_validation
from weldnet.data.storage import CACHES, FileImages, HeldImages, Images, store
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.metrics import index_groups
from weldnet.hardware import available_cores, check_processes
from weldnet.hardware.devices import Replay


class WeldDataModule(WeldSamples, LightningDataModule):
    """Weld images from a source, split so that the test images show welds that training never saw.

    `setup` finds the images, splits them where the source does not, refuses splits that leak, and decodes every image
    once into the cache; afterwards a batch only copies rows. A batch is `(images, labels)`, in validation and test
    `(images, labels, groups)`. Images are uint8 (B, 3, H, W), or float32 from 0 to 255 once augmented; labels are int64
    (B,), or float32 (B, C) once mixed; groups are int64 (B,), indices of the split's welds.

    Attributes:
        table: a row for each image with its split and the SHA-256 of its file.
        unreadable: the reason for each skipped file, by its path.
        shapes: what the geometry does to the photographs, once they are set up.

    Args:
        source: finds the images, such as `Folder`.
        seed: determines order and augmentation and, if the split rule has no seed, drawn images and splits.
        classes: the classes in order, such as those of a checkpoint to test; None for the data's own, sorted.
        unsplit: what to do with images without a split: `split` them, or use them all as `test`.

    Example:
        >>> data = WeldDataModule(Folder(root="photos", group_pattern=r"(weld\\d+)_"), seed=0)
    """

    def __init__(
        self,
        source: Source,
        split_rule: SplitRule | None = None,
        geometry: Geometry | None = None,
        batch_settings: BatchSettings | None = None,
        image_settings: ImageSettings | None = None,
        *,
        seed: int,
        classes: Sequence[str] | None = None,
        unsplit: str = "split",
    ) -> None:
        LightningDataModule.__init__(self)
        batches, images = batch_settings or BatchSettings(), image_settings or ImageSettings()
        self.batch_settings, self.image_settings, self.geometry = batches, images, geometry or Geometry()
        WeldSamples.__init__(self, source, split_rule or SplitRule(), images, seed, classes, unsplit)
        check_choice("data.balance", batches.balance, ("none", "weights", "sampler"))
        check_choice("data.cache", images.cache, CACHES)
        if batches.batch_size < 1:
            raise InputError(f"data.batch_size={batches.batch_size}: allowed are whole numbers from 1")
        if images.num_workers is not None and (images.cache != "none" or images.num_workers < 1):
            raise InputError(
                f"data.num_workers={images.num_workers}: allowed are whole numbers from 1, with data.cache=none"
            )
        check_processes("data.num_workers", images.num_workers or 1)
        augmentation = batches.augmentation
        self.augment = EachImage(augmentation) if callable(augmentation) else BatchAugmentation(augmentation)
        check_alphas(batches.mixup, batches.cutmix)
        self.replay: Replay | None = None
        self.seed = seed
        self.classes: list[str] = []
        self.unreadable: dict[str, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Finds, splits, checks and decodes the images, once.

        Raises:
            InputError: as `Source.find`, `split_by_group` and `check_classes` raise it; or files are unreadable, the
                splits leak, or the groups of the images are unknown.
        """
        if self.classes:
            return
        table = self.split()
        cache = self.image_settings.cache
        decoded = decode_images(
            table["path"], self.geometry, self.cache_folder, within=self.found.within, pixels=cache != "none"
        )
        table = table.with_columns(digest=decoded.digests).with_row_index("row")
        self.unreadable = {table["path"][row]: reason for row, reason in sorted(decoded.unreadable.items())}
        table = self.leave_out(table, self.unreadable)
        self.classes = list(self.wanted_classes or sorted(table["label"].unique()))
        decoded = decoded.select(table["row"].to_numpy().astype(np.int64))
        self.warnings += decoded.mention_pages(table["path"])
        self.shapes: Shapes = measure_shapes(decoded.sizes, self.geometry)
        self.images: Images = store(cache, table, decoded, self.geometry)
        table = table.with_columns(row=pl.int_range(pl.len()))
        self.check_views(table, partial(find_pairs, self.images, len(table), self.geometry))
        self.table, self.split_by_group = split_validation(table, self.split_seed)
        self.split_digest = split_digest(table)
        self.validation_groups = validation_groups(table)

    def dataset(self, split: str, *, grouped: bool = False) -> WeldImages:
        """The images of one split, or of `all`; with their groups if `grouped`."""
        table = self.samples(split)
        labels = table["label"].cast(pl.Enum(self.classes)).to_physical().to_numpy().astype(np.int64)
        groups = index_groups(table["group"].to_list())[1] if grouped else None
        return WeldImages(self.images, table["row"].to_numpy().astype(np.int64), labels, groups)

    def photographs(self, split: str, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Some images of a split to show to people, not standardised: uint8 (B, 3, H, W).

        Where the cache holds standardised images, the files are decoded again; if one has changed, it is those.
        """
        if self.geometry.normalize != "imagenet":
            table, plain = self.samples(split)[rows], replace(self.geometry, normalize="imagenet")
            with suppress(InputError):
                return FileImages(table["path"], fingerprints(table["digest"]), plain).read(np.arange(len(table)))
        return self.dataset(split).pictures(rows)

    def batches(self, split: str, sampler: Batches | None = None, *, grouped: bool = False) -> "DataLoader[Any]":
        """The batches of a split, in the order of the table or of the sampler; with groups if `grouped`."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        sampler = sampler or self.evaluation_batches(split)
        if self.image_settings.cache == "device":
            assert isinstance(self.images, HeldImages)
            self.images, sampler.device = self.images.to(device), device
            dataset = self.dataset(split, grouped=grouped)
            dataset.index_on(device)
            return load_batches(dataset, sampler)
        dataset, num_workers = self.dataset(split, grouped=grouped), self.count_workers()
        # With worker processes, a thread would pin the memory and could break the capture of a CUDA graph.
        pin = device.type == "cuda" and not num_workers
        return load_batches(dataset, sampler, num_workers=num_workers, pin_memory=pin)

    def count_workers(self) -> int:
        """The number of worker processes for each training process: `num_workers`, or an equal share of the cores."""
        if self.image_settings.cache != "none":
            # Copying decoded images from memory costs less than a worker process.
            return 0
        processes = self.trainer.num_devices if self.trainer else 1
        workers = self.image_settings.num_workers or max(1, available_cores() // processes)
        check_processes("data.num_workers times trainer.devices", workers * processes)
        return workers

    def training_batches(self, replicas: int = 1, rank: int = 0) -> TrainingBatches:
        """The batches of an epoch for one of several training processes."""
        labels = self.dataset("train").labels
        order = order_images(labels, self.seed, replicas, rank, balanced=self.batch_settings.balance == "sampler")
        return TrainingBatches(order, self.batch_settings.batch_size)

    def evaluation_batches(self, split: str, replicas: int = 1, rank: int = 0) -> EvaluationBatches:
        """The batches of a split for one of several processes that evaluate it together."""
        return EvaluationBatches(len(self.samples(split)), self.batch_settings.batch_size, replicas, rank)

    def _process(self) -> tuple[int, int]:
        """How many processes the trainer has, and the number of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def train_dataloader(self) -> "DataLoader[Batch]":
        return self.batches("train", self.training_batches(*self._process()))

    def val_dataloader(self) -> "DataLoader[Any]":
        return self.batches("select", self.evaluation_batches("select", *self._process()), grouped=True)

    def test_dataloader(self) -> "DataLoader[Any]":
        return self.batches("test", self.evaluation_batches("test", *self._process()), grouped=True)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.trainer is None or not self.trainer.training:
            return batch
        index = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        step = (self.trainer.current_epoch, index, self.trainer.global_rank)
        is_graphed = getattr(self.trainer.lightning_module, "graphed", None) is not None
        is_mixed = self.batch_settings.mixup or self.batch_settings.cutmix
        is_augmented = getattr(self.augment, "active", False)
        # A transform of single images may run any code, also on the CPU, so a CUDA graph cannot replay it.
        if is_graphed and (is_mixed or is_augmented) and isinstance(self.augment, BatchAugmentation):
            return self._replay(batch, *step)
        return self.augmented(batch, *step)

    def augmented(self, batch: Batch, *step: int) -> Batch:
        """Augments and mixes a batch as seed and step (epoch, index in it, rank) determine, also in a resumed run."""
        generator = torch.Generator(batch[0].device).manual_seed(derive_seed(self.seed, *step))
        return self._change(generator, *batch)

    def _replay(self, batch: Batch, *step: int) -> Batch:
        """The result of `augmented`, computed by a CUDA graph; the next call overwrites it."""
        if self.replay is None:
            generator = torch.Generator(batch[0].device)
            self.replay = Replay(partial(self._change, generator), generator, subject="augmentation")
        assert self.replay.generator
        self.replay.generator.manual_seed(derive_seed(self.seed, *step))
        images, labels = self.replay(*batch)
        return images, labels

    def _change(self, generator: torch.Generator, images: Tensor, labels: Tensor) -> Batch:
        images = self.augment(images, generator)
        mixup, cutmix = self.batch_settings.mixup, self.batch_settings.cutmix
        if not (mixup or cutmix):
            return images, labels
        return mix(images, labels, generator, len(self.classes), mixup, cutmix)

    def teardown(self, stage: str) -> None:
        """Frees the CUDA graph and its memory."""
        self.replay = None

    def class_weights(self) -> Tensor | None:
        """float32 (C,) weights for the loss under `balance=weights`: mean class count divided by the class's own."""
        if self.batch_settings.balance != "weights":
            return None
        counts = torch.bincount(self.dataset("train").labels, minlength=len(self.classes)).float()
        return counts.sum() / (len(self.classes) * counts.clamp(min=1))
