"""Splits keep groups whole, whatever the groups and classes are."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from drawing import make_table
from hypothesis import given, settings
from hypothesis import strategies as st

from weldnet.data.splits.leaks import check_classes, check_splits, count_classes, validation_groups
from weldnet.data.splits.rules import count_by_split, split_by_group, split_digest, split_validation, take_known
from weldnet.errors import InputError

Counts = Sequence[Sequence[int]]
"""Images by group and class."""

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
ALL_SHARES = [SHARES, {"train": 0.4, "val": 0.3, "test": 0.3}, {"train": 0.85, "val": 0.15, "test": 0.0}]


def table_of(counts: Counts) -> pl.DataFrame:
    return make_table(
        (f"/data/g{group}_c{label}_{shot}.jpg", f"c{label}", f"g{group}", None)
        for group, row in enumerate(counts)
        for label, count in enumerate(row)
        for shot in range(count)
    )


def groups_of(counts: Counts, label: int) -> int:
    return sum(row[label] > 0 for row in counts)


mixed_groups = st.integers(1, 4).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any), min_size=1, max_size=14
    )
)
single_class_groups = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=7), min_size=1, max_size=4).map(
    lambda classes: [
        [size if label == column else 0 for column in range(len(classes))]
        for label, sizes in enumerate(classes)
        for size in sizes
    ]
)
seeds = st.integers(0, 2**31)


@settings(deadline=None, max_examples=60)
@given(mixed_groups, st.sampled_from(ALL_SHARES), seeds)
def test_groups_stay_whole_and_train_has_every_class(counts: Counts, shares: dict[str, float], seed: int) -> None:
    table = table_of(counts)
    split = split_by_group(table, shares, seed)
    assert split.drop("split").equals(table.drop("split"))
    assert set(split["split"]) <= {name for name, share in shares.items() if share}
    assert split.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(split.filter(split="train")["label"]) == set(split["label"])
    for label in range(len(counts[0])):
        if groups_of(counts, label) == 1:
            assert set(split.filter(label=f"c{label}")["split"]) == {"train"}
    assert split.equals(split_by_group(table, shares, seed))


@settings(deadline=None, max_examples=60)
@given(mixed_groups, st.floats(0.01, 0.99), seeds)
def test_known_welds_validate_with_their_last_photographs(counts: Counts, share: float, seed: int) -> None:
    table = table_of(counts)
    before = split_by_group(table, {"train": 0.8, "val": 0.0, "test": 0.2}, seed)
    if before.filter(split="train").select("group", "label").is_unique().all():
        with pytest.raises(InputError, match="no weld in train has two of one class"):
            take_known(before, share)
        return
    after = take_known(before, share)
    assert after.drop("split").equals(before.drop("split"))
    assert after.filter(split="test").equals(before.filter(split="test"))
    for _, weld in after.filter(pl.col("split") != "test").group_by("group", "label"):
        # They are named by their numbers, of which no more than two digits are there.
        in_order = sorted(weld.select("path", "split").iter_rows(), key=lambda row: (len(row[0]), row[0]))
        num_val = min(max(1, round(len(weld) * share)), len(weld) - 1)
        assert [split for _, split in in_order] == ["train"] * (len(weld) - num_val) + ["val"] * num_val
    assert validation_groups(after) == "known"


def test_known_welds_need_no_groups() -> None:
    table = make_table((f"/a/{number}.jpg", "good", None, "train" if number < 9 else "test") for number in range(12))
    after = take_known(table, 0.25)
    assert after.filter(split="val")["path"].to_list() == ["/a/7.jpg", "/a/8.jpg"]


@settings(deadline=None, max_examples=60)
@given(single_class_groups, seeds)
def test_classes_are_covered_as_far_as_their_groups_reach(counts: Counts, seed: int) -> None:
    split = split_by_group(table_of(counts), SHARES, seed)
    for label in range(len(counts[0])):
        expected = [{"train"}, {"train", "test"}, {"train", "val", "test"}][min(groups_of(counts, label), 3) - 1]
        assert set(split.filter(label=f"c{label}")["split"]) == expected


@pytest.mark.parametrize("shares", ALL_SHARES)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 8), (5, 30)])
@pytest.mark.parametrize("mixed", [True, False])
def test_shares_are_close_with_many_groups(shares: dict[str, float], sizes: tuple[int, int], mixed: bool) -> None:
    """Each class within one average group's share of it, from 200 groups, and never more than 3 %."""
    rng = np.random.default_rng(0)
    counts = np.zeros((200, 3), np.int64)
    for group in range(len(counts)):
        for _ in range(rng.integers(sizes[0], sizes[1] + 1)):
            counts[group, rng.integers(3) if mixed else group % 3] += 1
    per_class = count_by_split(split_by_group(table_of(counts.tolist()), shares, seed=1))
    for label, row in per_class.items():
        total = sum(row.values())
        mean_group = total / np.count_nonzero(counts[:, int(label[1:])])
        bound = min(0.03, max(mean_group, 1.5) / total)
        for name, share in shares.items():
            assert abs(row[name] / total - share) <= bound, (label, row)


def test_other_seed_other_split() -> None:
    table = table_of([[2, 2]] * 20)
    splits = {tuple(split_by_group(table, SHARES, seed)["split"]) for seed in range(5)}
    assert len(splits) > 1


@pytest.mark.parametrize(
    "shares", [(0.7, 0.2, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.7, 0.15, 0.1), (math.nan, 0.5, 0.5)]
)
def test_shares_that_are_none(shares: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match=r"data\.shares="):
        split_by_group(table_of([[1, 1]] * 5), dict(zip(SHARES, shares, strict=True)), 0)


def split_table(top: str = "/data") -> pl.DataFrame:
    return make_table(
        (f"{top}/{label}/{group}_{shot}.jpg", label, f"{top}/{label}/{group}", split)
        for label in ("crack", "pore")
        for group, split in (("g1", "train"), ("g2", "val"), ("g3", "test"))
        for shot in range(2)
    )


def test_digest_is_of_who_is_where() -> None:
    table = split_table()
    digest = split_digest(table)
    assert len(digest) == 64
    assert split_digest(table.sample(fraction=1, shuffle=True, seed=1)) == digest
    assert split_digest(split_table("/mnt/other disk")) == digest
    for column, value in (("split", "train"), ("label", "undercut"), ("group", "g9"), ("path", "/data/pore/new.jpg")):
        moved = table.with_row_index("row").with_columns(
            pl.when(pl.col("row") == len(table) - 1).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
        )
        assert split_digest(moved) != digest, column
    assert split_digest(table.head(1)) != split_digest(table.slice(1, 1))


Rows = Sequence[tuple[str, str, str | None]]
"""Label, split, group."""

FINE = [("crack", "train", "a"), ("pore", "train", "b"), ("crack", "val", "c"), ("pore", "test", "d")]


def checked(rows: Rows) -> pl.DataFrame:
    return make_table((f"/data/{i}.jpg", label, group, split) for i, (label, split, group) in enumerate(rows))


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (FINE, None),
        ([*FINE, ("pore", "val", "a")], "validation holds welds that training knows (1 weld: a)"),
        ([(label, split, None) for label, split, _ in FINE], "the splits come without groups"),
    ],
)
def test_check_splits_warns(rows: Rows, warning: str | None) -> None:
    warnings = check_splits(checked(rows))
    assert len(warnings) == (warning is not None)
    if warning:
        assert warnings[0].startswith(warning)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("crack", "train", "a"), ("crack", "test", "b")], r"one class only \(crack\)"),
        ([(f"seam{i}", "train", f"{i}") for i in range(1001)], r"1001 classes \(seam.*\); allowed are 1000"),
        ([*FINE, ("undercut", "test", "e")], "undercut: in test but not in train"),
        ([*FINE, ("undercut", "val", "e")], "undercut: in val but not in train"),
        ([("crack", "test", "a"), ("pore", "test", "b")], "no image in train, only in test"),
    ],
)
def test_check_classes_refuses(rows: Rows, message: str) -> None:
    check_classes(checked(FINE))
    with pytest.raises(InputError, match=message):
        check_classes(checked(rows))


@pytest.mark.parametrize(
    ("paths", "meant"),
    [
        (["/data/images/pore/1.jpg", "/data/images/good/1.jpg"], "(good, pore), type /data/images instead"),
        (["/data/images/a/b/1.jpg", "/data/images/2.jpg"], "(a), type /data/images instead"),
        (["/data/images/1.jpg", "/data/images/2.jpg"], None),
        (["/data/train/images/1.jpg", "/data/val/images/2.jpg"], None),
    ],
)
def test_a_folder_above_the_classes_is_refused(paths: list[str], meant: str | None) -> None:
    with pytest.raises(InputError) as refused:
        count_classes(make_table((path, "images", None, None) for path in paths))
    suggestion = f". If its folders are the classes {meant}" if meant else ""
    assert str(refused.value) == f"one class only (images); a classifier needs two or more{suggestion}"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (FINE, "unseen"),
        ([*FINE, ("pore", "val", "a")], "known"),
        ([(label, split, None) for label, split, _ in FINE], "unknown"),
        ([row for row in FINE if row[1] != "val"], "unknown"),
        ([(label, split, f"/data/{i}.jpg") for i, (label, split, _) in enumerate(FINE)], "per_image"),
    ],
)
def test_validation_groups(rows: Rows, expected: str) -> None:
    assert validation_groups(checked(rows)) == expected


def test_count_by_split() -> None:
    assert count_by_split(checked(FINE)) == {
        "crack": {"train": 1, "val": 1, "test": 0},
        "pore": {"train": 1, "val": 0, "test": 1},
    }


@pytest.mark.parametrize("groups_a_class", [1, 2, 5])
def test_validation_is_split_by_whole_groups_where_they_allow(groups_a_class: int) -> None:
    rows = [
        (
            f"/d/{split}/{label}/{group}_{shot}.jpg",
            label,
            f"{split}_{label if groups_a_class == 1 else ''}{group}",
            split,
        )
        for split in ("train", "val", "test")
        for label in ("crack", "pore")
        for group in range(groups_a_class)
        for shot in range(4)
    ]
    table, by_group = split_validation(make_table(rows), seed=0)
    assert by_group == (groups_a_class > 1)
    assert table.drop("half").equals(make_table(rows))
    assert table.filter(pl.col("split") != "val")["half"].null_count() == len(table) - len(table.filter(split="val"))
    halves = {half: table.filter(half=half) for half in ("select", "calibrate")}
    assert sum(map(len, halves.values())) == len(table.filter(split="val"))
    for half in halves.values():
        assert set(half["label"]) == {"crack", "pore"}
    if by_group:
        assert not set(halves["select"]["group"]) & set(halves["calibrate"]["group"])
    assert split_validation(make_table(rows), seed=0)[0].equals(table)
    nothing, _ = split_validation(make_table(rows).filter(split="test"), seed=0)
    assert nothing["half"].null_count() == len(nothing)
