"""Who trains and who tests: splits that keep every group whole, and the checks on splits others made."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.manifest import SPLITS
from weldnet.errors import InputError, list_some

Counts = NDArray[np.int64]

_RESTARTS = 32
_SMALL = 2_000


def split_by_group(table: pl.DataFrame, shares: Mapping[str, float], seed: int) -> pl.DataFrame:
    """Fills `split` so that no group stands in two splits and each class has about its share in each.

    A class with one group goes to train, with two to train and test, with more to all three, as far as the groups
    that classes have in common allow; every class is in train. Each remaining group goes where the classes' counts
    then lie nearest to their shares, large groups first.

    Args:
        table: table of samples without nulls in `group`.
        shares: the share of images for each of train, val and test; their sum is 1. A share of 0 leaves that split
            empty.
        seed: the same seed, table and shares give the same splits.

    Raises:
        InputError: the shares are not three numbers from 0 to 1 with the sum 1, or train has none.
    """
    share = np.array([shares[name] for name in SPLITS])
    if not (share >= 0).all() or abs(share.sum() - 1) > 1e-6 or share[0] <= 0:
        raise InputError(
            f"data.shares={dict(shares)}: train, val and test are shares from 0 to 1 with the sum 1, train above 0"
        )
    groups, group_of = np.unique(table["group"].to_numpy(), return_inverse=True)
    classes, class_of = np.unique(table["label"].to_numpy(), return_inverse=True)
    counts = np.zeros((len(groups), len(classes)), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    rng = np.random.default_rng(seed)
    # Which group of a class goes first decides whether the others can be covered: try some orders where that is cheap.
    tries = [_assign(counts, share, rng) for _ in range(_RESTARTS if len(groups) <= _SMALL else 1)]
    best = min(tries, key=lambda splits: _badness(counts, share, splits))
    names = pl.Series("split", np.array(SPLITS)[best][group_of], pl.String)
    return table.with_columns(names)


def _assign(counts: Counts, share: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The split of each group as 0, 1 or 2: shape (G,), from the counts (G, C) of images by group and class."""
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


def complete_splits(
    table: pl.DataFrame, shares: Mapping[str, float], seed: int, source: str | Path | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Fills the splits that a source lacks: all of them, or val, which is then taken from train in whole groups.

    Args:
        table: table of samples, `split` null throughout or nowhere.
        shares, seed: see `split_by_group`.
        source: named in the message.

    Returns:
        The table with splits, and warnings, one sentence each.

    Raises:
        InputError: a split is lacking, and nothing says which images show the same weld.
    """
    ready_made = table["split"].null_count() < len(table)
    if ready_made and "val" in table["split"]:
        return table, []
    if table["group"].null_count():
        raise InputError(
            f"{source} has no {'val split' if ready_made else 'splits'}, and nothing says which images show the same "
            "weld; split at random, photographs of one weld would stand in train and test, and the test would measure "
            "memory. Give one of: a group column in a manifest; data.group_pattern='REGEX', found in the file names; "
            "data.groups=per_image, if every image shows another weld"
        )
    if not ready_made:
        return split_by_group(table, shares, seed), []
    val = shares["val"] / (shares["train"] + shares["val"])
    train = split_by_group(table.filter(split="train"), {"train": 1 - val, "val": val, "test": 0.0}, seed)
    warning = "the source has no val split; it is taken from train, whole groups, by data.shares"
    return pl.concat([train, table.filter(pl.col("split") != "train")]), [warning]


def check_splits(table: pl.DataFrame) -> list[str]:
    """Checks that splits hold what training and an honest test need.

    Returns:
        Warnings, one sentence each: splits without groups, groups in both train and val.

    Raises:
        InputError: a group in test is also in train or val.
    """
    if table["split"].n_unique() == 1:
        return []
    if table["group"].null_count() == len(table):
        return [
            "the splits come without groups, so nobody can tell whether a weld stands on both sides; "
            "give a group column or data.group_pattern"
        ]
    warnings = []
    if lacking := table["group"].null_count():
        warnings.append(f"{lacking} of {len(table)} images have no group, so nobody can tell whose welds they show")
    where = table.drop_nulls("group").group_by("group").agg(pl.col("split").unique().sort()).sort("group")
    leaking = where.filter(pl.col("split").list.contains("test") & (pl.col("split").list.len() > 1))
    if not leaking.is_empty():
        shown = [f"{row['group']}: {', '.join(row['split'])}" for row in leaking.to_dicts()]
        raise InputError(
            f"{len(leaking)} groups in test are also in train or val, so the test would not measure unseen welds; "
            f"move each group to one side:\n{list_some(shown)}"
        )
    known = where.filter(pl.col("split").list.contains("val") & pl.col("split").list.contains("train"))["group"]
    if known.is_empty():
        return warnings
    return [
        *warnings,
        f"validation holds welds that training knows ({len(known)} groups: {', '.join(known[:5])}"
        f"{', ...' if len(known) > 5 else ''}), so its figures are too high for unseen welds",
    ]


def check_classes(table: pl.DataFrame) -> None:
    """Raises:
    InputError: there is only one class, or val or test holds one that train does not.
    """
    classes = sorted(table["label"].unique())
    if len(classes) < 2:
        raise InputError(f"one class only ({classes[0]}); a classifier needs two or more")
    trained = set(table.filter(split="train")["label"])
    for split in ("test", "val"):
        strangers = sorted(set(table.filter(split=split)["label"]) - trained)
        if strangers:
            raise InputError(
                f"{', '.join(strangers)}: in {split} but not in train, so it cannot be learned; train has "
                f"{', '.join(sorted(trained)) or 'no image'}"
            )


def validation_groups(table: pl.DataFrame) -> str:
    """`known` if a group of val is also in train, `unseen` if none is, `per_image`, or `unknown` without groups."""
    groups = {split: set(table.filter(split=split)["group"].drop_nulls()) for split in ("train", "val")}
    if not groups["train"] or not groups["val"]:
        return "unknown"
    if groups["train"] & groups["val"]:
        return "known"
    return "per_image" if (table["group"] == table["path"]).all() else "unseen"


def count_by_split(table: pl.DataFrame) -> dict[str, dict[str, int]]:
    """`{class: {"train": n, "val": n, "test": n}}`, every class and split, zeros included."""
    counts = {label: dict.fromkeys(SPLITS, 0) for label in sorted(table["label"].unique())}
    for row in table.group_by("label", "split").len().to_dicts():
        counts[row["label"]][row["split"]] = row["len"]
    return counts


def split_digest(table: pl.DataFrame) -> str:
    """SHA-256, as 64 hex digits, of who is where: sorted (path below the common folder, label, group, split)."""
    top = os.path.commonpath(table["path"].to_list()) if len(table) > 1 else os.path.dirname(table["path"][0])
    relative = table.with_columns(pl.col("path").str.strip_prefix(top), pl.col("group").str.strip_prefix(top))
    lines = relative.select(pl.concat_str(pl.col("path", "label", "group", "split").fill_null(""), separator="\t"))
    return hashlib.sha256("\n".join(sorted(lines.to_series())).encode()).hexdigest()
