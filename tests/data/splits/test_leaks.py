"""The leak guard finds every group and content that stands on both sides, and nothing else."""

import hashlib

import numpy as np
import polars as pl
import pytest
from drawing import make_table
from hypothesis import given
from hypothesis import strategies as st

from weldnet.data.sources.manifest import SPLITS
from weldnet.data.splits.leaks import find_leaks, find_seen_views, fingerprint, fingerprints, is_known, refuse_leaks
from weldnet.errors import InputError


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def samples(rows: list[tuple[str, str, str | None]]) -> pl.DataFrame:
    """From tuples of split, content, group."""
    table = make_table((f"/data/{i}.jpg", "crack", group, split) for i, (split, _, group) in enumerate(rows))
    return table.with_columns(digest=pl.Series([digest(content) for _, content, _ in rows], dtype=pl.String))


CLEAN: list[tuple[str, str, str | None]] = [
    ("train", "a", "w1"),
    ("train", "a", "w1"),
    ("val", "b", "w1"),
    ("val", "c", "w2"),
    ("test", "d", "w3"),
    ("test", "e", None),
    ("train", "f", None),
]


@pytest.mark.parametrize(
    ("more", "leaks"),
    [
        ([], []),
        ([("test", "g", "w1")], ["1 group in test also in train: w1", "1 group in test also in val: w1"]),
        ([("test", "g", "w2")], ["1 group in test also in val: w2"]),
        ([("train", "g", "w3")], ["1 group in test also in train: w3"]),
        (
            [("val", "a", "w2")],
            ["1 identical file in more than one split: /data/0.jpg (train) = /data/1.jpg (train) ="],
        ),
        (
            [("test", "b", "w3"), ("test", "f", "w3")],
            ["2 identical files in more than one split: /data/2.jpg (val) = /data/7.jpg (test), /data/6.jpg (train) ="],
        ),
    ],
)
def test_leaks_are_named(more: list[tuple[str, str, str | None]], leaks: list[str]) -> None:
    found = find_leaks(samples([*CLEAN, *more]))
    assert len(found) == len(leaks)
    assert all(text.startswith(start) for text, start in zip(found, leaks, strict=True)), found
    if not leaks:
        refuse_leaks(found)
        return
    with pytest.raises(InputError, match=r"data\.allow_leak=true") as caught:
        refuse_leaks(found)
    assert all(leak in str(caught.value) for leak in found)


rows = st.tuples(st.sampled_from(SPLITS), st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3", "4", None]))


@given(st.lists(rows, min_size=1, max_size=12))
def test_clean_means_disjoint(rows: list[tuple[str, str, str | None]]) -> None:
    def sides(column: int, *splits: str) -> list[set[str | None]]:
        return [{row[column] for row in rows if row[0] == split} - {None} for split in splits]

    train, val, test = sides(2, *SPLITS)
    contents = sides(1, *SPLITS)
    disjoint = sum(map(len, contents)) == len(set.union(*contents)) and not test & (train | val)
    assert (find_leaks(samples(rows)) == []) == disjoint


def test_views_across_the_test_are_named_once() -> None:
    pairs = np.array([[0, 1], [0, 4], [2, 4], [3, 6], [5, 6], [4, 5]])
    table = samples(CLEAN).with_row_index("row").cast({"row": pl.Int64})
    assert find_seen_views(table, pairs) == [
        "/data/4.jpg = /data/0.jpg (train)",
        "/data/5.jpg = /data/6.jpg (train)",
    ]
    assert find_seen_views(table, np.zeros((0, 2), np.int64)) == []


def test_fingerprints_are_of_the_content() -> None:
    table = samples(CLEAN)
    found = fingerprints(table["digest"])
    assert found.tolist() == [fingerprint(content.encode()) for _, content, _ in CLEAN]
    assert len(set(found)) == len({content for _, content, _ in CLEAN})
    assert is_known(table, found[[0, 4]]).tolist() == [content in "ad" for _, content, _ in CLEAN]
    assert fingerprints(table["digest"].head(0)).tolist() == []
