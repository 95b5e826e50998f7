"""Copies: identical files and nearly identical pictures, and where they stand on two sides of a split or a label."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.audit.findings import Finding, Severity
from weldnet.audit.single_files import shows_something
from weldnet.data.decode.pictures import Window
from weldnet.data.duplicates import Thumbnails, connect, find_duplicates

Rows = NDArray[np.int64]


_CROSSING = {"split": "in", "label": "under the labels"}


def find_near_contents(images: pl.DataFrame, thumbnails: Thumbnails, window: Window) -> Rows:
    """The contents that look nearly the same: int64 (P, 2).

    Args:
        images: N rows with the columns of `weldnet.audit.facts.FACTS`, and `content`.
        thumbnails: (N, 24, 24), of the same images.
        window: the one under which the pictures were seen: what it hides looks all the same.
    """
    shown = images.with_row_index("row").filter(shows_something(window)).unique("content", keep="first").sort("row")
    pairs = find_duplicates(thumbnails[shown["row"].to_numpy()])
    near: Rows = shown["content"].to_numpy()[pairs]
    return near


def check_duplicates(files: pl.DataFrame, pairs: Rows) -> list[Finding]:
    """`exact_duplicate`, `near_duplicate`, `cross_split_duplicate`, `cross_label_duplicate`: one for each cluster.

    Args:
        files: the images that can be read: `weldnet.data.sources.manifest.SCHEMA` and `content`, a number from 0 for
            distinct content.
        pairs: int64 (P, 2): contents that look nearly the same.
    """
    crossing = (_check_crossing(files, pairs, column) for column in _CROSSING)
    return [*_check_copies(files), *_check_near(files, pairs), *chain.from_iterable(crossing)]


def _check_copies(files: pl.DataFrame) -> Iterator[Finding]:
    copies = files.filter(pl.len().over("content") > 1)
    for _, rows in copies.group_by("content", maintain_order=True):
        yield Finding("exact_duplicate", "warning", tuple(rows["path"]), f"{len(rows)} identical files")
        for column in _CROSSING:
            if rows[column].n_unique() > 1:
                yield _describe_crossing(rows, column, "error", "identical files")


def _check_near(files: pl.DataFrame, pairs: Rows) -> Iterator[Finding]:
    for rows in _cluster(files.with_columns(node="content"), pairs):
        within = rows["split"].n_unique() == 1 and rows["group"].n_unique() == 1 and not rows["group"].null_count()
        severity: Severity = "note" if within else "warning"
        yield Finding("near_duplicate", severity, tuple(rows["path"]), f"{len(rows)} nearly identical pictures")


def _check_crossing(files: pl.DataFrame, pairs: Rows, column: str) -> Iterator[Finding]:
    """Clusters of near pairs whose two sides differ in `split` or `label`."""
    if files[column].null_count():
        return
    # A node is a content under one split or label; only pairs that cross connect nodes.
    nodes = files.select("content", column).unique(maintain_order=True).with_row_index("node")
    sides = pl.DataFrame(pairs, schema={"left": pl.Int64, "right": pl.Int64}, orient="row")
    for side in ("left", "right"):
        sides = sides.join(nodes, left_on=side, right_on="content", suffix=f"_{side}")
    crossing = sides.filter(pl.col(column) != pl.col(f"{column}_right")).select("node", "node_right")
    for rows in _cluster(files.join(nodes, on=["content", column], maintain_order="left"), crossing.to_numpy()):
        severity: Severity = "error" if column == "split" and "test" in rows["split"] else "warning"
        yield _describe_crossing(rows, column, severity, "nearly identical pictures")


def _describe_crossing(rows: pl.DataFrame, column: str, severity: Severity, copies: str) -> Finding:
    counts = rows[column].value_counts().sort(column).iter_rows()
    where = " and ".join(f"{value} ({number})" for value, number in counts)
    return Finding(f"cross_{column}_duplicate", severity, tuple(rows["path"]), f"{copies} {_CROSSING[column]} {where}")


def _cluster(files: pl.DataFrame, pairs: Rows) -> Iterator[pl.DataFrame]:
    """The rows of each cluster of `node`s that pairs connect, in the order of the files."""
    if not len(pairs):
        return
    components = connect(pairs, int(files["node"].max()) + 1)  # type: ignore[arg-type]
    clustered = files.with_columns(cluster=pl.Series(components)[files["node"]])
    linked = clustered.filter(pl.col("node").is_in(np.unique(pairs)))
    for _, rows in linked.group_by("cluster", maintain_order=True):
        yield rows
