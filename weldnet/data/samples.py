"""WeldSamples: finds the images of a source, splits them and checks the splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import polars as pl
from PIL import Image

from weldnet.data.cache import cache_folder
from weldnet.data.decode.images import Geometry, crop_border
from weldnet.data.duplicates import Pairs, find_alike
from weldnet.data.settings import ImageSettings, Shares, SplitRule
from weldnet.data.sources.found import Found
from weldnet.data.sources.groups import explain_groups, knows_groups
from weldnet.data.sources.manifest import SPLITS
from weldnet.data.sources.names import find_misnamed
from weldnet.data.sources.source import Source
from weldnet.data.splits.folds import check_fold, split_fold
from weldnet.data.splits.leaks import (
    MANY_VIEWS,
    check_classes,
    check_splits,
    count_classes,
    find_contradictions,
    find_leaks,
    find_seen_views,
    refuse_leaks,
    refuse_views,
)
from weldnet.data.splits.rules import check_shares, complete_splits, give_val_to_train, return_copies, take_known
from weldnet.data.storage import Images
from weldnet.data.thumbnails import THUMBNAIL_SIZE, make_thumbnail
from weldnet.errors import InputError, check_choice, list_some, shorten


def find_pairs(images: Images, num_images: int, geometry: Geometry) -> Pairs:
    """Finds the pairs of rows that look alike among the first `num_images` rows of `images`: int64 (P, 2)."""
    thumbnails = np.empty((num_images, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    for rows in np.array_split(np.arange(num_images), -(-num_images // 256)):
        for row, image in zip(rows, np.asarray(images.read(rows)), strict=True):
            shown = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            thumbnails[row] = make_thumbnail(crop_border(shown, geometry))
    return _find_pairs(thumbnails.tobytes())


@lru_cache(maxsize=1)
def _find_pairs(thumbnails: bytes) -> Pairs:
    """Pairs of thumbnails that look alike; cached, because each fold of a cross-validation compares the same ones."""
    return np.concatenate(find_alike(np.frombuffer(thumbnails, np.uint8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE)))


class WeldSamples:
    """Finds the images of a source and splits them so that the test images show welds that training never saw.

    Attributes:
        table: a row for each image with its split; empty until the data module has set it up.
        found: the images that the source found.
        warnings: reasons to trust the metrics less, one sentence each.
        leaks: leaks that `allow_leak` permits, one sentence each.
    """

    def __init__(
        self,
        source: Source,
        rule: SplitRule,
        image_settings: ImageSettings,
        seed: int,
        classes: Sequence[str] | None,
        unsplit: str,
    ) -> None:
        check_choice("data.on_unreadable", image_settings.on_unreadable, ("stop", "skip"))
        check_choice("data.val", rule.val, ("unseen", "known"))
        check_fold(rule.num_folds, rule.fold)
        self.source, self.rule, self.shares = source, rule, asdict(rule.shares)
        self.on_unreadable, self.cache_folder = image_settings.on_unreadable, cache_folder(image_settings.cache_dir)
        self.wanted_classes, self.unsplit = classes, unsplit
        self.split_seed = seed if rule.seed is None else rule.seed
        self.takes_known = False
        self.table = pl.DataFrame()
        self.warnings: list[str] = []
        self.leaks: list[str] = []

    def find(self) -> Found:
        """Finds the images of the source; see `Source.find`."""
        self.found = self.source.find(self.split_seed, self.cache_folder)
        return self.found

    def split(self, found: Found | None = None) -> pl.DataFrame:
        """Splits the images of `found`, or else those of the source, and checks the splits, without opening a file."""
        self.found = found or self.find()
        if misnamed := find_misnamed(self.found):
            raise InputError("\n".join(f"{each.detail}:\n{list_some(each.where)}" for each in misnamed))
        if self.wanted_classes is None:
            # Before the welds are asked for, which a wrong folder does not name.
            count_classes(self.found.table)
        table = self._split(self.found)
        self._check(table)
        return table

    def rehearse(self, found: Found, images: pl.DataFrame, pairs: Pairs) -> None:
        """Raises the errors that `setup` would raise about the images found, without decoding an image.

        Its count of spots that test shares with train or val may differ a little from that of `setup`, which compares
        the network's inputs.

        Args:
            images: columns `path`, `digest`, `content` (a number that copies share), and `reason`: why the file
                cannot be read, or null.
            pairs: int64 (P, 2): the `content` of images that look alike.
        """
        known = images.select("path", "digest", "reason", row="content")
        table = self.split(found).join(known, on="path", how="left", maintain_order="left")
        table = self.leave_out(table, dict(table.drop_nulls("reason").select("path", "reason").iter_rows()))
        self.check_views(table, lambda: pairs)

    def leave_out(self, table: pl.DataFrame, unreadable: Mapping[str, str]) -> pl.DataFrame:
        """Removes the unreadable files from a table with digests, and checks its splits again, now by content."""
        splits = set(table["split"])
        table, skipped = self.found.skip_unreadable(table, unreadable, self.on_unreadable)
        lost = sorted((splits & {"train", "val"}).difference(table["split"]))
        if lost and self.wanted_classes is None:
            raise InputError(f"none of the images in {' and '.join(lost)} can be read; repair them, or add others")
        if self.takes_known:
            table = return_copies(table)
        self.warnings += skipped + self._check(table)
        return table

    def _split(self, found: Found) -> pl.DataFrame:
        num_folds, fold = self.rule.num_folds, self.rule.fold
        if self.unsplit == "test":
            return found.table.with_columns(pl.col("split").fill_null("test"))
        shares, wants_known = self.shares, self.rule.val == "known"
        check_shares(shares)
        if wants_known and not shares["val"]:
            raise InputError("data.val=known needs data.shares.val above 0")
        if wants_known:
            shares = give_val_to_train(shares)
        if num_folds is not None and fold is not None:
            table, warnings = split_fold(found.table, num_folds, fold, shares, self.split_seed)
        else:
            table, warnings = complete_splits(found.table, shares, self.split_seed, found.origin)
        self.takes_known = wants_known and "val" not in table["split"]
        if self.takes_known:
            table = take_known(table, self.shares["val"] / shares["train"])
        elif num_folds is None and "val" in found.table["split"]:
            unused = {"data.val=known": wants_known, "data.shares": self.rule.shares != Shares()}
            warnings += [f"{key} has no effect: the source has a val split" for key, is_set in unused.items() if is_set]
        self.warnings += warnings
        return table

    def _check(self, table: pl.DataFrame) -> list[str]:
        """Raises an InputError for splits that leak or lack images; returns warnings."""
        self.leaks = find_leaks(table)
        if not self.rule.allow_leak:
            refuse_leaks(self.leaks, advice=explain_groups(table) if table["group"].null_count() else "")
        if self.wanted_classes is None and "val" not in table["split"] and not self.shares["val"]:
            val = min(Shares().val, self.shares["train"] / 2)
            raise InputError(
                "no image in val: the source has no val split, and data.shares gives it none; type "
                f"data.shares.val={val:g} data.shares.train={self.shares['train'] - val:g}"
            )
        check_classes(table, self.wanted_classes)
        if self.rule.fold is not None and "test" not in table["split"]:
            raise InputError(
                f"data.fold={self.rule.fold} has no image left to test; repair its files, or use fewer folds"
            )
        return check_splits(table) + find_contradictions(table)

    def check_views(self, table: pl.DataFrame, find: Callable[[], Pairs]) -> None:
        """Where the welds are unknown, refuses a test that shares many spots with train or val; warns of a few.

        `find` returns the pairs of the table's `row` that look alike, int64 (P, 2); only called if welds are unknown.
        """
        num_tested = len(table.filter(split="test"))
        if knows_groups(table) or num_tested in (0, len(table)):
            return
        seen = find_seen_views(table, find())
        if not seen:
            return
        sentence = f"{len(seen)} of {num_tested} test images show a spot that train or val shows: {shorten(seen, 3)}"
        if len(seen) < MANY_VIEWS * num_tested:
            self.warnings.append(sentence)
            return
        self.leaks.append(sentence)
        if not self.rule.allow_leak:
            refuse_views(sentence, table)

    def samples(self, split: str) -> pl.DataFrame:
        """The rows of a split, of `select` or `calibrate` (halves of val) or of `all`, in the order of `batches`."""
        if split in ("select", "calibrate"):
            return self.table.filter(half=split)
        return self.table if split == "all" else self.table.filter(split=split)

    def splits(self) -> list[str]:
        """The splits that hold images."""
        return [split for split in SPLITS if len(self.samples(split))]
