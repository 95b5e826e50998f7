"""WeldDataModule: from a source of weld images to batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from weldnet.data.augmentation import BatchAugmentation
from weldnet.data.batches import (
    Batch,
    TrainingBatches,
    WeldImages,
    make_batches,
    make_generator,
    order_images,
    weigh_classes,
)
from weldnet.data.cache import cache_folder, decode_images
from weldnet.data.decode.images import Geometry
from weldnet.data.mixing import Mixing
from weldnet.data.sources.build import Source
from weldnet.data.sources.class_names import refuse_misnamed
from weldnet.data.sources.manifest import SPLITS, write_manifest
from weldnet.data.splits.folds import check_fold, split_fold
from weldnet.data.splits.leaks import find_contradictions, find_leaks, refuse_leaks
from weldnet.data.splits.rules import (
    check_classes,
    check_splits,
    complete_splits,
    part_validation,
    split_digest,
    validation_groups,
)
from weldnet.data.storage import CACHES, HeldImages, Images, store
from weldnet.errors import InputError, check_choice
from weldnet.hardware import available_cores, check_processes

BALANCES = ("none", "weights", "sampler")


class WeldDataModule(LightningDataModule):
    """Weld images from one of three sources, split so that test measures welds that training never saw.

    `setup` finds the images, splits them where the source does not, refuses splits that leak, and decodes every image
    once into the cache; from then on a batch is a copy of rows. A batch is `(images, labels)`: uint8 (B, 3, H, W), or
    float32 from 0 to 255 where augmented, and int64 (B,), or float32 (B, C) where images are mixed.

    Afterwards `table` has a row an image with its split and the SHA-256 of its file; `warnings` one sentence for each
    thing that makes the figures less worth; `leaks` one for each leak that was allowed; `unreadable` the
    reason for each file that was left out, by its path.

    Args:
        source: `synthetic`, `folder` or `manifest`.
        root, manifest, group_pattern, groups, num_images, num_seams: see `Source`.
        shares: train, val and test shares of the images, where the source has no splits.
        num_folds, fold: split the images anew into this many folds of whole groups; fold `fold`, from 0, is the test.
        geometry: the network's input.
        batch_size: images in a batch.
        balance: `none`; `weights`: rare classes weigh more in the loss; `sampler`: they are drawn more often.
        augmentation: a key of `PRESETS`; for training batches only.
        mixup, cutmix: see `Mixing`; for training batches only.
        on_unreadable: `stop`, or `skip` the files that cannot be read.
        allow_leak: go on with splits that leak; `leaks` says what.
        cache: `disk`: decoded images are memory-mapped from the cache folder; `memory` and `device`: and copied there;
            `none`: every image is decoded each time it is wanted, by worker processes.
        num_workers: how many of these; None for one a core.
        cache_dir: where images are kept; None for the user's cache folder.
        seed: of the synthetic set, the splits, the order and the augmentation.
        classes: the classes and their order; None: those of the data, sorted. A checkpoint's, when testing.
        unsplit: what a source without splits means: `split` it, or all of it is `test`.

    Raises:
        InputError: a value outside of what is allowed.
    """

    def __init__(
        self,
        source: str = "synthetic",
        *,
        root: str | Path | None = None,
        manifest: str | Path | None = None,
        group_pattern: str | None = None,
        groups: str | None = None,
        shares: Mapping[str, float] | None = None,
        num_folds: int | None = None,
        fold: int | None = None,
        geometry: Geometry | None = None,
        batch_size: int = 32,
        balance: str = "none",
        augmentation: str = "none",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        on_unreadable: str = "stop",
        allow_leak: bool = False,
        num_images: int = 1500,
        num_seams: int = 50,
        seed: int = 0,
        cache: str = "disk",
        num_workers: int | None = None,
        cache_dir: str | Path | None = None,
        classes: Sequence[str] | None = None,
        unsplit: str = "split",
    ) -> None:
        super().__init__()
        check_choice("data.balance", balance, BALANCES)
        check_choice("data.on_unreadable", on_unreadable, ("stop", "skip"))
        check_choice("data.cache", cache, CACHES)
        if batch_size < 1:
            raise InputError(f"data.batch_size={batch_size}: allowed are whole numbers from 1")
        if num_workers is not None and (cache != "none" or num_workers < 1):
            raise InputError(f"data.num_workers={num_workers}: allowed are whole numbers from 1, with data.cache=none")
        check_processes("data.num_workers", num_workers or 1)
        check_fold(num_folds, fold)
        self.cache_folder = cache_folder(cache_dir)
        self.source = Source(
            source, root, manifest, group_pattern, groups, num_images, num_seams, seed, self.cache_folder
        )
        self.shares = dict(shares or {"train": 0.7, "val": 0.15, "test": 0.15})
        self.num_folds, self.fold, self.seed = num_folds, fold, seed
        self.geometry = geometry or Geometry()
        self.batch_size, self.balance = batch_size, balance
        self.augment, self.mixup, self.cutmix = BatchAugmentation(augmentation), mixup, cutmix
        Mixing(2, mixup, cutmix)
        self.on_unreadable, self.allow_leak, self.cache = on_unreadable, allow_leak, cache
        self.num_workers = num_workers
        self.wanted_classes, self.unsplit = classes, unsplit
        self.table = pl.DataFrame()
        self.classes: list[str] = []
        self.warnings: list[str] = []
        self.leaks: list[str] = []
        self.unreadable: dict[str, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Finds, splits, checks and decodes the images, once.

        Raises:
            InputError: see `Source.find`, `split_by_group`, `check_classes`; or files are unreadable, the splits leak,
                or there is no way to tell which images show the same weld.
        """
        if self.classes:
            return
        table = self.split()
        decoded = decode_images(
            table["path"], self.geometry, self.cache_folder, within=self.source.within, pixels=self.cache != "none"
        )
        table = table.with_columns(digest=decoded.digests).with_row_index("row")
        self.unreadable = {table["path"][row]: reason for row, reason in sorted(decoded.unreadable.items())}
        table, skipped = self.source.skip_unreadable(table, decoded.unreadable, self.on_unreadable)
        self.warnings += skipped + self._check(table)
        self.classes = list(self.wanted_classes or sorted(table["label"].unique()))
        decoded = decoded.select(table["row"].to_numpy().astype(np.int64))
        self.warnings += decoded.mention_pages(table["path"])
        self.images: Images = store(self.cache, table, decoded, self.geometry)
        table = table.with_columns(row=pl.int_range(pl.len()))
        self.table, self.parted_by_group = part_validation(table, self.seed)
        self.split_digest = split_digest(table)
        self.validation_groups = validation_groups(table)

    def find(self) -> pl.DataFrame:
        """See `Source.find`."""
        return self.source.find()

    def split(self) -> pl.DataFrame:
        """The samples with their splits, checked; no file is opened.

        Raises:
            InputError: see `setup`.
        """
        table = self.find()
        refuse_misnamed(self.source.find_misnamed(table))
        table = self._split(table)
        self._check(table)
        return table

    def _split(self, table: pl.DataFrame) -> pl.DataFrame:
        if self.unsplit == "test":
            return table.with_columns(pl.col("split").fill_null("test"))
        if self.num_folds is not None and self.fold is not None:
            table, warnings = split_fold(table, self.num_folds, self.fold, self.shares, self.seed)
        else:
            table, warnings = complete_splits(table, self.shares, self.seed, self.source.root or self.source.manifest)
        self.warnings += warnings
        return table

    def _check(self, table: pl.DataFrame) -> list[str]:
        """Refuses what cannot be trained or tested honestly; returns warnings."""
        self.leaks = find_leaks(table)
        if not self.allow_leak:
            refuse_leaks(self.leaks)
        check_classes(table, self.wanted_classes)
        if self.fold is not None and "test" not in table["split"]:
            raise InputError(f"data.fold={self.fold} has no image left to test; mend its files, or take fewer folds")
        return check_splits(table) + find_contradictions(table)

    def samples(self, split: str) -> pl.DataFrame:
        """The table of a split, a part of val (`select`, `calibrate`) or `all`, in the order of `batches(split)`."""
        if split in ("select", "calibrate"):
            return self.table.filter(part=split)
        return self.table if split == "all" else self.table.filter(split=split)

    def dataset(self, split: str) -> WeldImages:
        """The images of one split, or of `all`."""
        table = self.samples(split)
        number = {label: index for index, label in enumerate(self.classes)}
        labels = np.array([number[label] for label in table["label"]], np.int64)
        return WeldImages(self.images, table["row"].to_numpy().astype(np.int64), labels)

    def batches(self, split: str, sampler: TrainingBatches | None = None) -> "DataLoader[Batch]":
        """Batches of one split, in the table's order or the sampler's."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self.cache == "device" and isinstance(self.images, HeldImages):
            self.images = self.images.to(device)
        pin = device.type == "cuda" and self.cache != "device"
        size = None if sampler else self.batch_size
        return make_batches(self.dataset(split), size, sampler, num_workers=self.count_workers(), pin_memory=pin)

    def count_workers(self) -> int:
        """The worker processes of each training process; without `num_workers` the cores are shared out.

        Raises:
            InputError: all of them together are too many for this machine.
        """
        if self.cache != "none":
            # Decoded images are rows of memory, not worth a process.
            return 0
        processes = self.trainer.num_devices if self.trainer else 1
        workers = self.num_workers or max(1, available_cores() // processes)
        check_processes("data.num_workers times trainer.devices", workers * processes)
        return workers

    def training_batches(self, replicas: int = 1, rank: int = 0) -> TrainingBatches:
        """What one of some processes trains on in an epoch.

        Raises:
            InputError: see `TrainingBatches`.
        """
        labels = self.dataset("train").labels
        order = order_images(labels, self.seed, replicas, rank, balanced=self.balance == "sampler")
        return TrainingBatches(order, self.batch_size)

    def train_dataloader(self) -> "DataLoader[Batch]":
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        return self.batches("train", self.training_batches(replicas, rank))

    def val_dataloader(self) -> "DataLoader[Batch]":
        return self.batches("select")

    def test_dataloader(self) -> "DataLoader[Batch]":
        return self.batches("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.trainer is None or not self.trainer.training:
            return batch
        index = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self.augmented(batch, self.trainer.current_epoch, index, self.trainer.global_rank)

    def augmented(self, batch: Batch, *step: int) -> Batch:
        """The batch as training sees it at a step: a function of the seed and the step, so that a resumed run agrees.

        Args:
            batch: on any device.
            step: whole numbers that tell this batch from every other: epoch, index in the epoch, rank.
        """
        generator = make_generator(batch[0].device, self.seed, *step)
        images, labels = self.augment(batch[0], generator), batch[1]
        if not (self.mixup or self.cutmix):
            return images, labels
        mixed: Batch = Mixing(len(self.classes), self.mixup, self.cutmix)(images, labels, generator)
        return mixed

    def class_weights(self) -> Tensor | None:
        """float32 (C,) weights for the loss under `balance=weights`: mean class count over the class's own."""
        return weigh_classes(self.dataset("train").labels, len(self.classes)) if self.balance == "weights" else None

    def splits(self) -> list[str]:
        """The splits that hold images."""
        return [split for split in SPLITS if len(self.samples(split))]

    def save_split(self, file: Path) -> None:
        """Writes the splits as a manifest that `data=manifest` reads again."""
        write_manifest(self.table, file)
