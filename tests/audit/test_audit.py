"""The audit's statistics against scipy and brute force, and the split it suggests."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from drawing import make_table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from weldnet.audit.audit import Audit, suggest_groups
from weldnet.audit.classes import (
    check_confounding,
    check_groups,
    check_small_classes,
    count_samples,
    tabulate_recall,
)
from weldnet.audit.copies import check_alike
from weldnet.audit.findings import Finding
from weldnet.data.decode.images import Geometry
from weldnet.data.duplicates import Alike
from weldnet.data.sources.groups import knows_groups
from weldnet.data.splits.leaks import check_splits, find_leaks
from weldnet.data.splits.rules import split_by_group
from weldnet.evaluation.intervals import needed_images

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.mark.parametrize("number", [1, 2, 28, 29, 59, 299, 1000])
def test_the_recall_bound_is_that_of_clopper_and_pearson(number: int) -> None:
    exact = binomtest(number, number, alternative="greater").proportion_ci(0.95, method="exact").low
    (row,) = tabulate_recall(make_table([(f"/{i}", "crack", None, "test") for i in range(number)]))
    assert row["recall_bound"] == pytest.approx(exact)
    assert row["recall_bound_by_groups"] is None


def test_the_needed_defects_are_the_fewest_that_suffice() -> None:
    assert [needed_images(1 - recall) for recall in (0.90, 0.95, 0.99)] == [29, 59, 299]
    for recall in (0.5, 0.8, 0.9, 0.97, 0.99):
        assert needed_images(1 - recall) == next(n for n in range(1, 1000) if 0.05 ** (1 / n) >= recall)


def test_what_a_test_could_prove_is_reported_by_images_and_by_groups() -> None:
    rows = [(f"/{i}", "crack", f"g{i % 2}", "test") for i in range(29)] + [("/x", "pore", "g3", "train")]
    crack, pore = tabulate_recall(make_table(rows))
    assert (crack["images"], crack["groups"], pore["images"], pore["groups"]) == (29, 2, 0, 0)
    assert crack["recall_bound"] > 0.9
    assert crack["recall_bound_by_groups"] == pytest.approx(0.05**0.5)
    assert pore["recall_bound"] is None
    ungrouped = tabulate_recall(make_table([(path, label, None, split) for path, label, _, split in rows]))
    assert [row["groups"] for row in ungrouped] == [None, None]


def table_of(counts: Mapping[Any, int]) -> pl.DataFrame:
    """So many images of each (class, group, split)."""
    rows = [key for key, number in counts.items() for _ in range(number)]
    return make_table((f"/{i}", label, group, split) for i, (label, group, split) in enumerate(rows))


def details(findings: Iterable[Finding]) -> str:
    return "\n".join(finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("counts", "confounded"),
    [
        ({("good", "A", "train"): 50, ("pore", "B", "train"): 20, ("crack", "B", "train"): 20}, ["good"]),
        ({("good", "A", "train"): 50, ("pore", "B", "train"): 20}, ["good", "pore"]),
        (
            {("good", "A", None): 50, ("good", "B", None): 50, ("pore", "C", None): 20, ("crack", "C", None): 20},
            ["good"],
        ),
        # Another weld shows it in test, which does not help training.
        (
            {
                ("good", "A", "train"): 50,
                ("pore", "B", "train"): 9,
                ("crack", "B", "train"): 9,
                ("good", "B", "test"): 9,
            },
            ["good"],
        ),
        # 2 of 100 images lie elsewhere, and the group shows 2 others.
        (
            {("good", "A", "train"): 98, ("pore", "A", "train"): 2, ("good", "B", "train"): 2}
            | {("pore", "B", "train"): 20, ("crack", "B", "train"): 20},
            ["good"],
        ),
        ({("good", "A", "train"): 90, ("good", "B", "train"): 10, ("pore", "B", "train"): 30}, []),
        # Each weld shows one defect, and there are many.
        ({(label, f"{label}{i}", "train"): 10 for label in ("good", "pore") for i in range(3)}, []),
        ({(label, f"{label}{i}", "train"): 1 for label in ("good", "pore") for i in range(9)}, []),
        ({("good", "A", "train"): 50}, []),
    ],
)
def test_confounded_classes(counts: dict[tuple[str, str, str | None], int], confounded: list[str]) -> None:
    findings = check_confounding(table_of(counts))
    assert [finding.detail.split(":")[0].removeprefix("class ") for finding in findings] == confounded
    table = table_of(counts)
    for label, finding in zip(confounded, findings, strict=True):
        shown = table.filter(pl.col("path").is_in(finding.paths))
        assert set(shown["label"]) == {label}
        # A page shows the first few.
        first = table.filter(pl.col("path").is_in(finding.paths[:6]))
        assert set(first["group"]) == set(shown["group"])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({("a", "A", "train"): 5, ("a", "B", "test"): 1, ("b", "A", "train"): 5, ("b", "B", "test"): 1}, ""),
        (
            {("a", "A", None): 4, ("a", "B", None): 4, ("b", "A", None): 3, ("b", "B", None): 1},
            "class b: it has only 4",
        ),
        ({("a", "A", None): 4, ("a", "B", None): 4, ("b", "A", None): 9}, "class b: all its images are of one group"),
        (
            {("a", "A", "train"): 9, ("a", "B", "test"): 9, ("b", "A", "train"): 9, ("b", "C", "train"): 1},
            "no image in test",
        ),
        (
            {("a", "A", "train"): 9, ("a", "B", "val"): 9, ("b", "B", "val"): 9, ("b", "C", "val"): 1},
            "in val but not in train",
        ),
        ({("a", "A", None): 9, ("a", "B", None): 9}, "only class"),
    ],
)
def test_small_classes(counts: dict[tuple[str, str, str | None], int], message: str) -> None:
    findings = check_small_classes(table_of(counts))
    assert len(findings) == (message != "")
    assert message in details(findings)
    errors = ("not in train", "only class")
    assert all((finding.severity == "error") == any(word in finding.detail for word in errors) for finding in findings)


def test_one_finding_for_each_leaking_group() -> None:
    counts = {
        ("a", group, split): 2
        for group, split in zip("AAABBCC", ["train", "val", "test", "train", "val", "val", "test"], strict=True)
    }
    findings = check_groups(table_of(counts))
    assert [(found.severity, len(found.paths)) for found in findings] == [("error", 6), ("warning", 4), ("error", 4)]
    assert "group A is in train (2) and val (2) and test (2)" in findings[0].detail


@pytest.mark.parametrize("num_unknown", [1, 4])
def test_files_without_a_group_are_named_unless_none_has_one(num_unknown: int) -> None:
    table = make_table([(f"/{i}", "a", None if i < num_unknown else "A", None) for i in range(4)])
    (found,) = check_groups(table)
    assert (found.kind, found.paths) == ("no_groups", ("/0",) if num_unknown == 1 else ())


Links = list[tuple[int, int]]


@st.composite
def files_and_pairs(draw: st.DrawFn) -> tuple[pl.DataFrame, Links, Links]:
    contents = draw(st.lists(st.integers(0, 5), min_size=1, max_size=9))
    number = {content: index for index, content in enumerate(dict.fromkeys(contents))}
    rows = [
        (
            f"/{i}",
            draw(st.sampled_from("ab")),
            draw(st.sampled_from("AB")),
            draw(st.sampled_from(["train", "val", "test"])),
        )
        for i in range(len(contents))
    ]
    table = make_table(rows).with_columns(content=pl.Series([number[content] for content in contents], dtype=pl.Int64))
    how = {pair: draw(st.sampled_from(["near", "view", ""])) for pair in combinations(range(len(number)), 2)}
    near, views = ([pair for pair, said in how.items() if said == kind] for kind in ("near", "view"))
    return table, near, views


def make_alike(near: Links, views: Links) -> Alike:
    return Alike(*(np.array(pairs, np.int64).reshape(-1, 2) for pairs in (near, views)))


def cluster(items: Iterable[int], linked: Iterable[tuple[int, int]]) -> set[frozenset[int]]:
    """Connected components of more than one item, by merging until nothing changes."""
    clusters = {frozenset([item]) for item in items}
    for one, other in linked:
        first, second = (next(c for c in clusters if item in c) for item in (one, other))
        clusters = clusters - {first, second} | {first | second}
    return {c for c in clusters if len(c) > 1}


@settings(deadline=None, max_examples=60)
@given(files_and_pairs())
def test_what_is_alike_is_clustered_as_by_brute_force(drawn: tuple[pl.DataFrame, Links, Links]) -> None:
    table, *pairs = drawn
    rows = table.to_dicts()
    every = list(combinations(range(len(rows)), 2))
    same = [(i, j) for i, j in every if rows[i]["content"] == rows[j]["content"]]
    near, views = (
        [(i, j) for i, j in every if tuple(sorted((rows[i]["content"], rows[j]["content"]))) in kind] for kind in pairs
    )
    expected = {("exact_duplicate", "warning", c) for c in cluster(range(len(rows)), same)}
    for column in ("split", "label"):
        crossing = {c for c in cluster(range(len(rows)), same) if len({rows[i][column] for i in c}) > 1}
        expected |= {(f"cross_{column}_duplicate", "error", c) for c in crossing}
    for linked, column, kind in (
        (near, "split", "cross_split_duplicate"),
        (near, "label", "cross_label_duplicate"),
        (views, "split", "cross_split_view"),
        (views, "label", "cross_label_view"),
        (views, "group", "cross_group_view"),
    ):
        if column == "group" and not knows_groups(table):
            continue
        for c in cluster(range(len(rows)), [(i, j) for i, j in linked if rows[i][column] != rows[j][column]]):
            error = column == "split" and "test" in {rows[i]["split"] for i in c}
            expected.add((kind, "error" if error else "warning", c))
    for linked, kind in ((near, "near_duplicate"), (views, "same_view")):
        if kind == "same_view" and knows_groups(table):
            continue
        touched = {i for pair in linked for i in pair}
        for c in cluster(touched, linked + [(i, j) for i, j in same if i in touched]):
            one_place = kind == "near_duplicate" and len({(rows[i]["split"], rows[i]["group"]) for i in c}) == 1
            expected.add((kind, "note" if one_place else "warning", c))
    found = check_alike(table, make_alike(*pairs))
    assert {(f.kind, f.severity, frozenset(int(path[1:]) for path in f.paths)) for f in found} == expected


def test_files_without_splits_cross_none() -> None:
    table = make_table([("/a", "x", None, None), ("/b", "x", None, None), ("/c", "x", None, None)])
    found = check_alike(table.with_columns(content=pl.Series([0, 0, 1])), make_alike([(0, 1)], []))
    assert [(f.kind, f.severity) for f in found] == [("exact_duplicate", "warning"), ("near_duplicate", "warning")]


def test_a_page_shows_both_sides_of_a_contradiction_first() -> None:
    table = make_table((f"/{i}", "ab"[i == 8], "A", None) for i in range(9)).with_columns(content=pl.arange(9))
    (found,) = check_alike(table, make_alike([], [(i, 8) for i in range(8)]))
    assert (found.kind, found.severity, found.paths[:3]) == ("cross_label_view", "warning", ("/0", "/8", "/1"))
    assert found.detail == "views of one spot under the labels a (8) and b (1)"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("    ", ["spot_1", "spot_2", "spot_1", "spot_3"]),
        ("abcd", ["spot_1", "spot_2", "spot_1", "spot_3"]),
        ("aabb", ["a", "a", "a", "a"]),
        ("bbbc", ["b", "b", "b", "c"]),
    ],
)
def test_suggested_groups_join_views(groups: str, expected: list[str]) -> None:
    table = make_table((f"/{i}", "x", group.strip() or None, None) for i, group in enumerate(groups))
    images = table.with_columns(reason=pl.lit(None, pl.String), content=pl.Series([3, 1, 0, 2]))
    audit = Audit(images, [], make_alike([], [(0, 3)]), Geometry())
    assert suggest_groups(audit)["group"].to_list() == expected


@settings(deadline=None, max_examples=30)
@given(files_and_pairs(), st.integers(0, 3))
def test_the_suggested_split_joins_what_shares_a_picture(drawn: tuple[pl.DataFrame, Links, Links], seed: int) -> None:
    table, *pairs = drawn
    images = table.with_columns(reason=pl.lit(None, pl.String))
    unread = pl.DataFrame([{"path": "/no", "label": "a", "group": "Z", "reason": "torn"}])
    audit = Audit(pl.concat([images, unread], how="diagonal"), [], make_alike(*pairs), Geometry())
    split = split_by_group(suggest_groups(audit), SHARES, seed)
    assert split["path"].to_list() == table["path"].to_list()
    assert split["label"].to_list() == table["label"].to_list()
    assert not knows_groups(table) or set(split["group"]) <= set(table["group"])
    assert find_leaks(split.with_columns(digest=table["content"].cast(pl.String))) == []
    assert not any("knows" in warning for warning in check_splits(split))
    crossing = check_alike(split.with_columns(content=table["content"]), audit.alike)
    assert not any(found.kind.startswith("cross_split") for found in crossing)
    # No more was joined than had to be: groups without a picture in common stay apart.
    if len(table["content"].unique()) == len(table) and not any(pairs) and knows_groups(table):
        assert split["group"].to_list() == table["group"].to_list()


def test_the_counts_of_a_group_an_image_stay_short() -> None:
    table = make_table((f"/{i}", "ab"[i % 2], f"/{i}", None) for i in range(100))
    assert count_samples(table).to_dicts() == [
        {"label": label, "split": None, "group": None, "images": 50} for label in "ab"
    ]
