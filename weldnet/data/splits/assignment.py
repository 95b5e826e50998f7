"""Whole groups assigned to train, val and test, from counts of images alone."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""Images by group and class: (G, C)."""

_RESTARTS = 32
_SMALL = 2_000


def count_groups(table: pl.DataFrame) -> tuple[Counts, NDArray[np.int64]]:
    """Images by group and class, both sorted by name: int64 (G, C); and the index of each image's group: int64 (N,)."""
    groups, group_of = np.unique(table["group"].to_numpy(), return_inverse=True)
    classes, class_of = np.unique(table["label"].to_numpy(), return_inverse=True)
    counts = np.zeros((len(groups), len(classes)), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    return counts, group_of


def assign_splits(counts: Counts, share: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """The split of each group, 0, 1 or 2, int64 (G,), by the share (3,) of each: see `rules.split_by_group`."""
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
