"""Folds hold out every group once, and leave enough to learn from."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import polars as pl
import pytest
from drawing import make_table
from hypothesis import given, settings
from hypothesis import strategies as st

from weldnet.data.splits.folds import assign_folds, check_fold, split_fold
from weldnet.data.splits.leaks import check_classes
from weldnet.data.splits.rules import count_by_split
from weldnet.errors import InputError

Counts = Sequence[Sequence[int]]
"""Images by group and class."""

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def table_of(counts: Counts) -> pl.DataFrame:
    return make_table(
        (f"/data/g{group}_c{label}_{shot}.jpg", f"c{label}", f"g{group}", None)
        for group, row in enumerate(counts)
        for label, count in enumerate(row)
        for shot in range(count)
    )


def all_folds(table: pl.DataFrame, num_folds: int, seed: int = 0) -> list[pl.DataFrame]:
    return [split_fold(table, num_folds, fold, SHARES, seed)[0] for fold in range(num_folds)]


def leaves_enough(counts: Counts, folds: Sequence[int]) -> bool:
    """What every fold must leave, counted out: each class in a group to learn from, beside one that validates."""
    for fold in set(folds):
        rest = [row for row, of in zip(counts, folds, strict=True) if of != fold]
        classes = [label for label in range(len(counts[0])) if any(row[label] for row in counts)]
        train_sets = [rest[:i] + rest[i + 1 :] for i in range(len(rest))]
        if not any(all(any(row[label] for row in train) for label in classes) for train in train_sets):
            return False
    return True


two_classes = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2).filter(any), min_size=4, max_size=6)
seeds = st.integers(0, 2**31)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(two_classes, st.integers(2, 4), seeds)
def test_every_fold_is_fit_to_train_wherever_the_groups_allow_it(counts: Counts, num_folds: int, seed: int) -> None:
    table = table_of(counts)
    try:
        folds = all_folds(table, num_folds, seed)
    except InputError:
        deals = (deal for deal in product(range(num_folds), repeat=len(counts)) if len(set(deal)) == num_folds)
        few_images = max(sum(row[label] for row in counts) for label in range(2)) < num_folds
        assert few_images or not any(leaves_enough(counts, deal) for deal in deals)
        return
    held_out = pl.concat([fold.filter(split="test") for fold in folds])
    assert sorted(held_out["path"]) == sorted(table["path"]), "every image is in test once"
    for fold in folds:
        assert fold.drop("split").equals(table.drop("split"))
        assert fold.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
        assert set(fold["split"]) == {"train", "val", "test"}
        assert set(fold.filter(split="train")["label"]) == set(table["label"])
        if table["label"].n_unique() > 1:
            check_classes(fold)
    assert all(a.equals(b) for a, b in zip(folds, all_folds(table, num_folds, seed), strict=True))


@pytest.mark.parametrize("mixed", [True, False])
def test_folds_are_about_even(mixed: bool) -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((100, 3), np.int64)
    for group in range(len(counts)):
        for _ in range(rng.integers(4, 12)):
            counts[group, rng.integers(3) if mixed else group % 3] += 1
    for fold in all_folds(table_of(counts.tolist()), 5):
        for row in count_by_split(fold).values():
            total = sum(row.values())
            assert abs(row["test"] / total - 0.2) < 0.03
            assert abs(row["val"] / total - 0.8 * 0.15 / 0.85) < 0.05


def test_other_seed_other_folds() -> None:
    folds = {tuple(assign_folds(np.full((20, 2), 2), 4, seed)) for seed in range(5)}
    assert len(folds) > 1


def test_each_image_a_group() -> None:
    rows = [(f"/data/{i}.jpg", f"c{i % 3 // 2}", f"/data/{i}.jpg", None) for i in range(90)]
    for fold in all_folds(make_table(rows), 5):
        assert {label: row["test"] for label, row in count_by_split(fold).items()} == {"c0": 12, "c1": 6}


def test_a_rare_class_may_be_absent_from_a_fold() -> None:
    table = table_of([[5, 1 if group < 2 else 0] for group in range(8)])
    tested = [count_by_split(fold)["c1"]["test"] for fold in all_folds(table, 4)]
    assert sorted(tested) == [0, 0, 1, 1]


def test_few_groups_still_leave_one_to_validate_with() -> None:
    """Three groups a class: one tested, and one of the two that are left validates."""
    table = table_of([[4, 0], [5, 0], [6, 0], [0, 4], [0, 5], [0, 6]])
    for fold in all_folds(table, 3):
        assert fold.filter(split="val")["group"].n_unique() == 1


def test_splits_of_the_source_are_ignored() -> None:
    table = table_of([[2, 2]] * 6)
    ready_made = table.with_columns(split=pl.lit("train"))
    assert split_fold(table, 3, 0, SHARES, 0)[1] == []
    split, (warning,) = split_fold(ready_made, 3, 0, SHARES, 0)
    assert split.equals(all_folds(table, 3)[0])
    assert "own splits are ignored" in warning


@pytest.mark.parametrize(
    ("counts", "num_folds", "message"),
    [
        ([[2, 0], [2, 0], [2, 0], [0, 5]], 2, "^c1: all images in one group"),
        ([[2, 2]] * 4, 5, r"^4 groups with 16 images are too few for 5 folds; allowed is num_folds=2 to 4"),
        ([[2, 2]] * 3, 2, "allowed is num_folds=3$"),
        ([[2, 2]] * 2, 2, "; three groups are the least$"),
        ([[1, 0], [1, 0], [0, 1], [0, 1]], 4, "allowed is num_folds=2$"),
        ([[3, 0], [0, 6], [1, 0], [0, 3]], 2, "cannot be dealt to 2 folds"),
    ],
)
def test_too_few_groups(counts: Counts, num_folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_fold(table_of(counts), num_folds, 0, SHARES, 0)


def test_folds_of_few_welds_where_known_ones_validate() -> None:
    # The real set weld_seams: of some classes two welds.
    table = table_of([[237, 0, 0, 0], [182, 314, 0, 0], [0, 192, 143, 260], [0, 345, 175, 37]])
    with pytest.raises(InputError, match=r"cannot be dealt to 2 folds .* try more folds, data\.val=known, or"):
        split_fold(table, 2, 0, SHARES, 0)
    shares = {"train": 0.85, "val": 0.0, "test": 0.15}
    for fold in range(2):
        split = split_fold(table, 2, fold, shares, 0)[0]
        assert set(split["split"]) == {"train", "test"}
        assert split.filter(split="train")["label"].n_unique() == 4


def test_images_without_a_group() -> None:
    table = table_of([[2, 2]] * 6)
    with pytest.raises(InputError, match=r"^data\.num_folds holds out whole groups, and it is unknown"):
        split_fold(table.with_columns(group=pl.when(pl.col("label") == "c0").then("group")), 3, 0, SHARES, 0)


@pytest.mark.parametrize("shares", [(0.0, 0.0, 1.0), (0.7, 0.5, 0.1)])
def test_shares_that_are_none(shares: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match=r"data\.shares="):
        split_fold(table_of([[2, 2]] * 6), 3, 0, dict(zip(SHARES, shares, strict=True)), 0)


@pytest.mark.parametrize(("num_folds", "fold"), [(None, None), (2, 0), (5, 4)])
def test_folds_that_are_allowed(num_folds: int | None, fold: int | None) -> None:
    check_fold(num_folds, fold)


@pytest.mark.parametrize(
    ("num_folds", "fold", "message"),
    [(5, None, "give both"), (None, 0, "give both"), (5, 5, "fold from 0"), (5, -1, "fold from 0"), (1, 0, "from 2")],
)
def test_folds_that_are_not(num_folds: int | None, fold: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_fold(num_folds, fold)
