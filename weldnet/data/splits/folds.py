"""Cross-validation: every group is held out once."""

from collections.abc import Mapping
from warnings import catch_warnings, filterwarnings

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from weldnet.data.splits.rules import Counts, check_shares, count_groups, require_groups, take_val
from weldnet.errors import InputError, shorten

MOST_FOLDS = 1000

_TRIES = 200


def check_fold(num_folds: int | None, fold: int | None) -> None:
    """Refuses one of the two without the other, and values that are not allowed."""
    if (num_folds is None) != (fold is None):
        raise InputError(
            f"data.num_folds={num_folds} data.fold={fold}: give both, or neither; weldnet-crossval trains every fold"
        )
    if num_folds is not None and fold is not None and not (2 <= num_folds <= MOST_FOLDS and 0 <= fold < num_folds):
        raise InputError(
            f"data.num_folds={num_folds} data.fold={fold}: from 2 to {MOST_FOLDS} folds, fold from 0 to num_folds - 1"
        )


def split_fold(
    table: pl.DataFrame, num_folds: int, fold: int, shares: Mapping[str, float], seed: int
) -> tuple[pl.DataFrame, list[str]]:
    """The table with one fold of whole groups as test, the others as train and val; and warnings, one sentence each.

    The folds hold about equally many images of each class, as far as the groups allow (scikit-learn's
    `StratifiedGroupKFold`). Val is taken from the other folds in whole groups, by the shares of train and val; every
    class stays in train. An InputError where not every image has a group, or there are too few groups for the folds.
    """
    check_shares(shares)
    require_groups(table, "data.num_folds holds out whole groups")
    counts, group_of = count_groups(table)
    needs_val = shares["val"] > 0
    _check_groups(table, counts, num_folds, needs_val=needs_val)
    is_test = (assign_folds(counts, num_folds, seed, needs_val=needs_val) == fold)[group_of]
    rest = take_val(table.filter(~is_test), shares, seed)
    if needs_val and "val" not in rest["split"]:
        rest = _take_one_for_val(rest)
    split = np.full(len(table), "test", object)
    split[~is_test] = rest["split"].to_numpy()
    ready_made = table["split"].null_count() < len(table)
    warnings = ["the source's own splits are ignored: data.num_folds makes new ones"] if ready_made else []
    return table.with_columns(split=pl.Series(split, dtype=pl.String)), warnings


def _check_groups(table: pl.DataFrame, counts: Counts, num_folds: int, *, needs_val: bool) -> None:
    names = np.unique(table["label"].to_numpy())
    if lonely := names[(counts > 0).sum(axis=0) < 2].tolist():
        raise InputError(
            f"{shorten(lonely)}: all images in one group, so it cannot be both learned and held out; cross-validation "
            "needs two groups of every class"
        )
    groups = len(counts)
    # Besides the fold that is held out, one group to learn from and, where whole groups validate, one for that.
    least = 2 if needs_val else 1
    allowed = [k for k in range(2, min(groups, counts.sum(axis=0).max()) + 1) if groups - -(-groups // k) >= least]
    if num_folds not in allowed:
        most = f" to {allowed[-1]}" if len(allowed) > 1 else ""
        can = f"allowed is num_folds={allowed[0]}{most}" if allowed else "three groups are the least"
        raise InputError(f"{groups} groups with {len(table):,} images are too few for {num_folds} folds; {can}")


def assign_folds(counts: Counts, num_folds: int, seed: int, *, needs_val: bool = True) -> NDArray[np.int64]:
    """The fold of each group, int64 (G,), from 0.

    An InputError where no folds each leave every class to learn and, with `needs_val`, a group to validate with.
    """
    folds = _stratify(counts, num_folds, seed)
    rng = np.random.default_rng(seed)
    # Scikit-learn balances the shares only; where few groups hold several classes, an even deal may succeed instead.
    for _ in range(_TRIES):
        if all(_leaves_enough(counts, folds == fold, needs_val) for fold in range(num_folds)):
            return folds
        folds = rng.permutation(np.arange(len(counts)) % num_folds)
    validate, known = ("and a group to validate with", " data.val=known,") if needs_val else ("", "")
    raise InputError(
        f"these {len(counts)} groups cannot be dealt to {num_folds} folds so that beside each fold every class is left "
        f"to learn from {validate}; try more folds,{known} or give the rarest class more groups"
    )


def _stratify(counts: Counts, num_folds: int, seed: int) -> NDArray[np.int64]:
    images = np.argwhere(counts).repeat(counts[counts > 0], axis=0)
    groups, labels = images.T
    each_its_own = len(images) == len(counts)
    kind = StratifiedKFold if each_its_own else StratifiedGroupKFold
    splitter = kind(num_folds, shuffle=True, random_state=seed)
    folds = np.empty(len(counts), np.int64)
    with catch_warnings():
        # A class with fewer images than folds is absent from some; the pooled figures hold all of it.
        filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, None if each_its_own else groups)):
            folds[groups[held_out]] = fold
    return folds


def _leaves_enough(counts: Counts, held_out: NDArray[np.bool_], needs_val: bool) -> bool:
    """Whether something is held out, and every class can be learned from the rest, even when one group validates."""
    holds = counts[~held_out] > 0
    return bool(held_out.any() and holds.any(axis=0).all() and (not needs_val or _spare(holds).any()))


def _spare(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which groups (G,) share each of their classes with another group, from whether each holds each: (G, C)."""
    spare: NDArray[np.bool_] = (~holds | (holds.sum(axis=0) > 1)).all(axis=1)
    return spare


def _take_one_for_val(table: pl.DataFrame) -> pl.DataFrame:
    """Moves the smallest group that train can spare to val."""
    counts, group_of = count_groups(table)
    sizes = np.where(_spare(counts > 0), counts.sum(axis=1), np.iinfo(np.int64).max)
    is_val = pl.Series(group_of == sizes.argmin())
    return table.with_columns(split=pl.when(is_val).then(pl.lit("val")).otherwise("split"))
