"""WeldDataModule: from a source of weld images to batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from weldnet.data.augmentation import BatchAugmentation
from weldnet.data.cache import cache_folder, decode_images
from weldnet.data.images import Geometry
from weldnet.data.loading import BalancedSampler, Batch, WeldImages, make_batches, make_generator
from weldnet.data.manifest import SPLITS, add_groups, read_manifest, scan_folder, write_manifest
from weldnet.data.splits import (
    check_classes,
    check_splits,
    complete_splits,
    split_digest,
    validation_groups,
)
from weldnet.data.synthetic import DRAWING_VERSION, write_synthetic
from weldnet.errors import InputError, check_choice, list_some

SOURCES = ("synthetic", "folder", "manifest")
BALANCES = ("none", "weights", "sampler")


class WeldDataModule(LightningDataModule):
    """Weld images from one of three sources, split so that test measures welds that training never saw.

    `warnings` holds, after `setup`, one sentence for each thing that makes the figures less worth.

    `setup` finds the images, splits them where the source does not, checks the splits and decodes every image once
    into the cache; from then on a batch is a copy of rows. A batch is `(images, labels)`: uint8 (B, 3, H, W), or
    float32 from 0 to 255 where augmented, and int64 (B,).

    Args:
        source: `synthetic`, `folder` or `manifest`.
        root: the folder, for `folder`.
        manifest: the CSV file, for `manifest`.
        group_pattern: regular expression that finds the group in a file's name.
        groups: `per_image` says that every image shows another weld; None leaves it to the manifest or the pattern.
        shares: train, val and test shares of the images, where the source has no splits.
        geometry: the network's input.
        batch_size: images in a batch.
        balance: `none`; `weights`: rare classes weigh more in the loss; `sampler`: they are drawn more often.
        augmentation: `none`, `light` or `weld`; for training batches only.
        on_unreadable: `stop`, or `skip` the files that cannot be read.
        num_images, num_seams: size of the synthetic set.
        seed: of the synthetic set, the splits, the order and the augmentation.
        cache_dir: where images are kept; None for the user's cache folder.
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
        geometry: Geometry | None = None,
        batch_size: int = 32,
        balance: str = "none",
        augmentation: str = "none",
        on_unreadable: str = "stop",
        num_images: int = 1500,
        num_seams: int = 50,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        classes: Sequence[str] | None = None,
        unsplit: str = "split",
    ) -> None:
        super().__init__()
        check_choice("data.source", source, SOURCES)
        check_choice("data.balance", balance, BALANCES)
        check_choice("data.on_unreadable", on_unreadable, ("stop", "skip"))
        if groups is not None:
            check_choice("data.groups", groups, ("per_image",))
        if groups and group_pattern:
            raise InputError("data.groups=per_image and data.group_pattern exclude each other; give one of them")
        if batch_size < 1:
            raise InputError(f"data.batch_size={batch_size}: allowed are whole numbers from 1")
        self.source, self.root, self.manifest = source, root, manifest
        self.group_pattern, self.per_image = group_pattern, groups == "per_image"
        self.shares = dict(shares or {"train": 0.7, "val": 0.15, "test": 0.15})
        self.geometry = geometry or Geometry()
        self.batch_size, self.balance, self.on_unreadable = batch_size, balance, on_unreadable
        self.augment = BatchAugmentation(augmentation)
        self.num_images, self.num_seams, self.seed = num_images, num_seams, seed
        self.cache = cache_folder(cache_dir)
        self.wanted_classes, self.unsplit = classes, unsplit
        self.table = pl.DataFrame()
        self.classes: list[str] = []
        self.warnings: list[str] = []

    def setup(self, stage: str | None = None) -> None:
        """Finds, splits, checks and decodes the images; a second call does nothing.

        Raises:
            InputError: see `read_manifest`, `scan_folder`, `add_groups`, `split_by_group`, `check_splits`; or files
                are unreadable, or there is no way to tell which images show the same weld.
        """
        if self.classes:
            return
        table = self._split(self._find())
        self._check(table)
        decoded = decode_images(table["path"].to_list(), self.geometry, self.cache)
        table = self._without_unreadable(table.with_row_index("row"), decoded.unreadable)
        self.warnings += self._check(table)
        self.images, self.table = decoded.images, table
        self.classes = list(self.wanted_classes or sorted(table["label"].unique()))
        self.split_digest = split_digest(table)
        self.validation_groups = validation_groups(table)

    def _find(self) -> pl.DataFrame:
        if self.source == "synthetic":
            name = f"drawing_{DRAWING_VERSION}_{self.num_images}_images_{self.num_seams}_seams_seed_{self.seed}"
            self.manifest = write_synthetic(
                self.cache / "synthetic" / name, num_images=self.num_images, num_seams=self.num_seams, seed=self.seed
            )
            return read_manifest(self.manifest)
        given = self.root if self.source == "folder" else self.manifest
        key = "data.root=DIR" if self.source == "folder" else "data.manifest=FILE.csv"
        if given is None:
            raise InputError(f"data={self.source} needs {key}")
        return scan_folder(given) if self.source == "folder" else read_manifest(given)

    def _split(self, table: pl.DataFrame) -> pl.DataFrame:
        if (self.per_image or self.group_pattern) and table["group"].null_count() < len(table):
            raise InputError(
                f"{self.manifest} has a group column already; leave the column out, or data.groups and "
                "data.group_pattern"
            )
        table = add_groups(table, pattern=self.group_pattern, per_image=self.per_image)
        if self.unsplit == "test":
            return table.with_columns(pl.col("split").fill_null("test"))
        table, warnings = complete_splits(table, self.shares, self.seed, self.root or self.manifest)
        self.warnings += warnings
        return table

    def _without_unreadable(self, table: pl.DataFrame, unreadable: Mapping[int, str]) -> pl.DataFrame:
        if not unreadable:
            return table
        shown = list_some([f"{table['path'][row]}: {why}" for row, why in unreadable.items()])
        if self.on_unreadable == "stop":
            raise InputError(
                f"{len(unreadable)} of {len(table)} images cannot be read; mend or remove them, or go on without them "
                f"by data.on_unreadable=skip:\n{shown}"
            )
        self.warnings.append(f"{len(unreadable)} images cannot be read and are skipped:\n{shown}")
        table = table.filter(~pl.col("row").is_in(list(unreadable)))
        if table.is_empty():
            raise InputError(f"none of the images can be read:\n{shown}")
        return table

    def _check(self, table: pl.DataFrame) -> list[str]:
        """Refuses what cannot be trained or tested honestly; returns warnings."""
        warnings = check_splits(table)
        if self.wanted_classes is None:
            check_classes(table)
            for split in ("train", "val"):
                if split not in table["split"]:
                    raise InputError(
                        f"no image in {split}; training needs train and val (data.shares, or the source's own splits). "
                        "A class with one group goes to train, with two to train and test: is data.group_pattern too "
                        "coarse?"
                    )
            return warnings
        strangers = sorted(set(table["label"]) - set(self.wanted_classes))
        if strangers:
            raise InputError(
                f"the data hold the classes {', '.join(strangers)}, which the checkpoint does not know; "
                f"it knows {', '.join(self.wanted_classes)}"
            )
        return warnings

    def samples(self, split: str) -> pl.DataFrame:
        """The table of one split, or of `all`, in the order of `batches(split)`."""
        return self.table if split == "all" else self.table.filter(split=split)

    def dataset(self, split: str) -> WeldImages:
        """The images of one split, or of `all`."""
        table = self.samples(split)
        number = {label: index for index, label in enumerate(self.classes)}
        labels = np.array([number[label] for label in table["label"]], np.int64)
        return WeldImages(self.images, table["row"].to_numpy().astype(np.int64), labels)

    def batches(self, split: str, sampler: Sampler[int] | None = None) -> "DataLoader[Batch]":
        """Batches of one split, in the table's order or the sampler's."""
        pin = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return make_batches(self.dataset(split), self.batch_size, sampler, pin_memory=pin)

    def train_dataloader(self) -> "DataLoader[Batch]":
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        dataset = self.dataset("train")
        sampler: Sampler[int]
        if self.balance == "sampler":
            sampler = BalancedSampler(dataset.labels, self.seed, replicas, rank)
        else:
            # With one replica this is a permutation by seed and epoch, which a resumed run draws again.
            sampler = DistributedSampler(dataset, replicas, rank, shuffle=True, seed=self.seed)
        return self.batches("train", sampler)

    def val_dataloader(self) -> "DataLoader[Batch]":
        return self.batches("val")

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
        return self.augment(batch[0], generator), batch[1]

    def class_weights(self) -> Tensor | None:
        """float32 (C,) weights for the loss under `balance=weights`: mean class count over the class's own."""
        if self.balance != "weights":
            return None
        counts = torch.bincount(self.dataset("train").labels, minlength=len(self.classes)).float()
        return counts.sum() / (len(self.classes) * counts.clamp(min=1))

    def splits(self) -> list[str]:
        """The splits that hold images."""
        return [split for split in SPLITS if len(self.samples(split))]

    def save_split(self, file: Path) -> None:
        """Writes the splits as a manifest that `data=manifest` reads again."""
        write_manifest(self.table, file)
