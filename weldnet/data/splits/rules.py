"""Who trains and who tests: splits that keep every group whole."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.sources.groups import explain_groups
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import InputError
from weldnet.spelling import tidy

Counts = NDArray[np.int64]
"""Images by group and class: (G, C)."""

_RESTARTS = 32
_SMALL = 2_000


def split_by_group(table: pl.DataFrame, shares: Mapping[str, float], seed: int) -> pl.DataFrame:
    """Fills `split` so that no group is in two splits and each class has about its share in each.

    A class with one group goes to train, with two to train and test, with more to all three, as far as the groups
    that classes have in common allow; every class is in train. Each remaining group goes where the classes' counts
    then lie nearest to their shares, large groups first. The same seed, table and shares give the same splits.
    """
    check_shares(shares)
    counts, group_of = count_groups(table)
    splits = assign_splits(counts, np.array([shares[name] for name in SPLITS]), seed)
    return table.with_columns(split=pl.Series(np.array(SPLITS)[splits][group_of], dtype=pl.String))


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuses shares that are not three numbers from 0 to 1 with the sum 1, or give train none."""
    share = np.array([shares[name] for name in SPLITS])
    if not (share >= 0).all() or abs(share.sum() - 1) > 1e-6 or share[0] <= 0:
        raise InputError(
            f"data.shares={dict(shares)}: train, val and test are shares from 0 to 1 with the sum 1, train above 0"
        )


def complete_splits(
    table: pl.DataFrame, shares: Mapping[str, float], seed: int, source: str | Path | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """The table with the splits that the source lacks: all of them, or val, taken from train in whole groups.

    `split` is null throughout or nowhere. Returns warnings, too, one sentence each. Where a split is missing, and the
    groups of the images are unknown, it raises an InputError that names the source.
    """
    ready_made = table["split"].null_count() < len(table)
    if ready_made and ("val" in table["split"] or "train" not in table["split"] or not shares["val"]):
        # Without train there is nothing to take val from; `check_classes` refuses that.
        return table, []
    require_groups(table, f"{source} has no {'val split' if ready_made else 'splits'}")
    if not ready_made:
        return split_by_group(table, shares, seed), []
    train = take_val(table.filter(split="train"), shares, seed)
    warning = "the source has no val split; it is taken from train, whole groups, by data.shares"
    return pl.concat([train, table.filter(pl.col("split") != "train")]), [warning]


def take_val(table: pl.DataFrame, shares: Mapping[str, float], seed: int) -> pl.DataFrame:
    """Splits a table without test images: train and val by their shares."""
    val = shares["val"] / (shares["train"] + shares["val"])
    return split_by_group(table, {"train": 1 - val, "val": val, "test": 0.0}, seed)


def give_val_to_train(shares: Mapping[str, float]) -> dict[str, float]:
    """The shares before `take_known`."""
    return {"train": shares["train"] + shares["val"], "val": 0.0, "test": shares["test"]}


def take_known(table: pl.DataFrame, share: float) -> pl.DataFrame:
    """Moves a share of the training images to val, from the same welds.

    Of each weld and class it is the last ones by name, numbers in the order of their values: photographs are usually
    numbered along the weld, so only those at the border lie beside one of training. At least one stays in train; where
    each is the only one of its weld and class, that is an InputError.
    """
    name = pl.col("path").str.split(os.sep).list.last()
    # Numbers get the same length.
    order = name.map_elements(lambda text: re.sub(r"\d+", lambda number: number[0].zfill(20), text), pl.String)
    position = order.rank("ordinal").over("split", "group", "label")
    num_val = pl.min_horizontal((pl.len() * share).round().clip(1), pl.len() - 1.0).over("split", "group", "label")
    is_val = (pl.col("split") == "train") & (position > pl.len().over("split", "group", "label") - num_val)
    taken = table.with_columns(split=pl.when(is_val).then(pl.lit("val")).otherwise("split"))
    if "train" in table["split"] and "val" not in taken["split"]:
        raise InputError(
            "data.val=known takes one of several photographs of a weld, and no weld in train has two of one class; "
            "leave data.val=known out"
        )
    return taken


def return_copies(table: pl.DataFrame) -> pl.DataFrame:
    """Returns the images that `take_known` moved to val, of whose content (`digest`) a copy trains; not all of them."""
    trained = table.filter(split="train")["digest"].unique()
    is_copy = (pl.col("split") == "val") & pl.col("digest").is_in(trained.implode())
    returned = table.with_columns(split=pl.when(is_copy).then(pl.lit("train")).otherwise("split"))
    if "val" in table["split"] and "val" not in returned["split"]:
        raise InputError(
            "data.val=known: each photograph for validation is a copy of one in train; remove the copies, which "
            "weldnet-audit lists, or leave data.val=known out"
        )
    return returned


def require_groups(table: pl.DataFrame, why: str) -> None:
    """Refuses images without a group."""
    if table["group"].null_count():
        raise InputError(
            f"{why}, and it is unknown which images show the same weld; split at random, photographs of one weld would "
            "be in train and test, and the test would measure memory.",
            advice=explain_groups(table),
        )


def count_by_split(table: pl.DataFrame) -> dict[str, dict[str, int]]:
    """`{class: {"train": n, "val": n, "test": n}}`, every class and split, zeros included."""
    counts = {label: dict.fromkeys(SPLITS, 0) for label in sorted(table["label"].unique())}
    for row in table.group_by("label", "split").len().to_dicts():
        counts[row["label"]][row["split"]] = row["len"]
    return counts


def split_digest(table: pl.DataFrame) -> str:
    """SHA-256, as 64 hex digits, of the sorted rows: path below the common folder, label, group, split, any digest."""
    # The common folder of all is that of the first and the last in order.
    ends = [str(table["path"].min()), str(table["path"].max())]
    top = os.path.commonpath(ends) if len(table) > 1 else os.path.dirname(ends[0])
    relative = table.with_columns(pl.col("path").str.strip_prefix(top), pl.col("group").str.strip_prefix(tidy(top)))
    columns = [name for name in ("path", "label", "group", "split", "digest") if name in table.columns]
    lines = relative.select(pl.concat_str(pl.col(columns).fill_null(""), separator="\t"))
    return hashlib.sha256("\n".join(lines.to_series().sort()).encode()).hexdigest()


def split_validation(table: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, bool]:
    """The table with `half`: in val `select`, which chooses the epoch, or `calibrate`, which chooses the thresholds.

    By whole groups, which it returns, too, where both halves can then hold every class of val; else image by image
    within each class. The same seed, table and splits give the same halves.
    """
    val = table.with_row_index("order").filter(split="val")
    num_groups = val.group_by("label").agg(pl.col("group").drop_nulls().n_unique())["group"]
    by_group = not val["group"].null_count() and len(val) > 0 and bool((num_groups >= 2).all())
    if by_group:
        halves = split_by_group(val.drop("order"), {"train": 0.5, "val": 0.0, "test": 0.5}, seed)
        calibrates = (halves["split"] == "test").to_numpy()
        sides = [val["label"].filter(side).n_unique() for side in (calibrates, ~calibrates)]
        by_group = min(sides) == val["label"].n_unique()
    if not by_group:
        shuffled = val.select(position=pl.int_range(pl.len()).shuffle(seed).over("label"))
        calibrates = (shuffled["position"] % 2 == 1).to_numpy()
    names = pl.Series(np.where(calibrates, "calibrate", "select"), dtype=pl.String)
    empty = pl.repeat(None, len(table), dtype=pl.String, eager=True)
    return table.with_columns(half=empty.scatter(val["order"], names)), by_group


def count_groups(table: pl.DataFrame) -> tuple[Counts, NDArray[np.int64]]:
    """Images by group and class, both sorted by name: int64 (G, C); and the index of each image's group: int64 (N,)."""
    groups, group_of = np.unique(table["group"].to_numpy(), return_inverse=True)
    classes, class_of = np.unique(table["label"].to_numpy(), return_inverse=True)
    counts = np.zeros((len(groups), len(classes)), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    return counts, group_of


def assign_splits(counts: Counts, share: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """The split of each group, 0, 1 or 2, int64 (G,), by the share (3,) of each: see `split_by_group`."""
    rng = np.random.default_rng(seed)
    # Which group of a class goes first decides whether the others can be covered: try some orders where that is cheap.
    tries = [_assign(counts, share, rng) for _ in range(_RESTARTS if len(counts) <= _SMALL else 1)]
    return min(tries, key=lambda splits: _badness(counts, share, splits))


def _assign(counts: Counts, share: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One try, in a random order."""
    order = rng.permutation(len(counts))
    shuffled, splits = counts[order], np.full(len(counts), -1)
    _cover_classes(shuffled, share, splits)
    _fill(shuffled, share, splits)
    return splits[np.argsort(order)]


def _cover_classes(counts: Counts, share: NDArray[np.float64], splits: NDArray[np.int64]) -> None:
    """Puts every class into train, then where it has two groups into test, then where three into val."""
    num_groups = (counts > 0).sum(axis=0)
    rarest_first = np.argsort(num_groups, kind="stable")
    for split, needed in ((0, 1), (2, 2), (1, 3)):
        if share[split] == 0:
            continue
        for label in rarest_first[num_groups[rarest_first] >= needed]:
            holds = counts[:, label] > 0
            if (holds & (splits == split)).any():
                continue
            free = np.flatnonzero(holds & (splits == -1))
            if len(free):
                # The smallest group disturbs the shares least.
                splits[free[counts[free].sum(axis=1).argmin()]] = split


def _fill(counts: Counts, share: NDArray[np.float64], splits: NDArray[np.int64]) -> None:
    """Puts each free group where its classes then lie nearest to their shares, large groups first."""
    total = np.maximum(counts.sum(axis=0), 1)
    target = share[:, None] * np.ones_like(total)
    have = np.stack([counts[splits == split].sum(axis=0) for split in range(3)]) / total
    free = np.flatnonzero(splits == -1)
    sizes = counts[free].sum(axis=1)
    for group in free[np.argsort(-sizes, kind="stable")][: int((sizes > 1).sum())]:
        added = counts[group] / total
        # The squared distance to the target after the group has joined, less what it was before.
        cost = (added * (2 * (have - target) + added)).sum(axis=1)
        cost[share == 0] = np.inf
        split = int(cost.argmin())
        splits[group], have[split] = split, have[split] + added
    _fill_single_images(counts, target, have, splits, free[sizes == 1])


def _fill_single_images(
    counts: Counts,
    target: NDArray[np.float64],
    have: NDArray[np.float64],
    splits: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> None:
    """Groups of one image need no search: fill each class up to its shares, all at once."""
    label_of = counts[groups].argmax(axis=1)
    for label in np.unique(label_of):
        mine = groups[label_of == label]
        lacking = np.maximum(target[:, label] - have[:, label], 0)
        bounds = np.round(np.cumsum(lacking / lacking.sum()) * len(mine)).astype(np.int64)
        splits[mine] = np.searchsorted(bounds, np.arange(len(mine)), side="right")


def _badness(counts: Counts, share: NDArray[np.float64], splits: NDArray[np.int64]) -> tuple[int, float]:
    per_split = np.stack([counts[splits == split].sum(axis=0) for split in range(3)])
    missing = int((per_split[share > 0] == 0).sum())
    return missing, float(((per_split / np.maximum(counts.sum(axis=0), 1) - share[:, None]) ** 2).sum())
