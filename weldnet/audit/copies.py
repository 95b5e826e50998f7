"""What is seen twice: identical files, nearly identical pictures, views of one spot; and where they contradict."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.audit.findings import Finding, Severity
from weldnet.audit.photographs import shows_something
from weldnet.data.decode.pictures import Window
from weldnet.data.duplicates import Alike, connect, find_alike
from weldnet.data.sources.groups import knows_groups
from weldnet.data.thumbnails import Thumbnails
from weldnet.errors import shorten

Rows = NDArray[np.int64]

_CROSSING = {"split": "in", "label": "under the labels", "group": "in the groups"}


def find_alike_contents(images: pl.DataFrame, thumbnails: Thumbnails, window: Window) -> Alike:
    """Pairs of contents that look alike, by thumbnails (N, 24, 24) of images with their facts and `content`.

    What the window hides looks all the same, so it is left out.
    """
    shown = images.with_row_index("row").filter(shows_something(window)).unique("content", keep="first").sort("row")
    contents = shown["content"].to_numpy()
    return Alike(*(contents[pairs] for pairs in find_alike(thumbnails[shown["row"].to_numpy()])))


def check_alike(files: pl.DataFrame, alike: Alike) -> list[Finding]:
    """One finding for each cluster of copies, and for each that crosses splits or labels.

    `exact_duplicate`, `near_duplicate`, `cross_split_duplicate`, `cross_label_duplicate`; of views of one spot
    `same_view` where no groups are known, else `cross_group_view`; `cross_split_view`, `cross_label_view`.

    `files` are the images that can be read; `alike` has pairs of their `content`, a number from 0 for distinct ones.
    """
    findings, contents = [*_check_copies(files)], files.with_columns(node="content")
    for rows in _cluster(contents, alike.near):
        within = rows["split"].n_unique() == 1 and rows["group"].n_unique() == 1 and not rows["group"].null_count()
        severity: Severity = "note" if within else "warning"
        detail = f"{len(rows)} nearly identical pictures"
        findings.append(Finding("near_duplicate", severity, tuple(rows["path"]), detail))
    for column in ("split", "label"):
        findings += _check_crossing(files, alike.near, column, "duplicate")
    for rows in () if knows_groups(files) else _cluster(contents, alike.views):
        findings.append(Finding("same_view", "warning", tuple(rows["path"]), f"{len(rows)} views of one spot"))
    for column in _CROSSING:
        findings += _check_crossing(files, alike.views, column, "view")
    return findings


def _check_copies(files: pl.DataFrame) -> Iterator[Finding]:
    copies = files.filter(pl.len().over("content") > 1)
    for _, rows in copies.group_by("content", maintain_order=True):
        yield Finding("exact_duplicate", "warning", tuple(rows["path"]), f"{len(rows)} identical files")
        for column in ("split", "label"):
            if rows[column].n_unique() > 1:
                yield _describe_crossing(rows, column, "duplicate", "error", "identical files")


def _check_crossing(files: pl.DataFrame, pairs: Rows, column: str, what: str) -> Iterator[Finding]:
    """Clusters of pairs whose two sides differ in `split`, `label` or `group`."""
    if files[column].null_count() or (column == "group" and not knows_groups(files)):
        return
    # A node is a content under one split, label or group; only pairs that cross connect nodes.
    nodes = files.select("content", column).unique(maintain_order=True).with_row_index("node")
    sides = pl.DataFrame(pairs, schema={"left": pl.Int64, "right": pl.Int64}, orient="row")
    for side in ("left", "right"):
        sides = sides.join(nodes, left_on=side, right_on="content", suffix=f"_{side}")
    crossing = sides.filter(pl.col(column) != pl.col(f"{column}_right")).select("node", "node_right")
    shown = "nearly identical pictures" if what == "duplicate" else "views of one spot"
    for rows in _cluster(files.join(nodes, on=["content", column], maintain_order="left"), crossing.to_numpy()):
        severity: Severity = "error" if column == "split" and "test" in rows["split"] else "warning"
        yield _describe_crossing(rows, column, what, severity, shown)


def _describe_crossing(rows: pl.DataFrame, column: str, what: str, severity: Severity, shown: str) -> Finding:
    counts = [f"{value} ({number})" for value, number in rows[column].value_counts().sort(column).iter_rows()]
    # One of each side first, since a page shows the first few.
    paths = rows.sort(pl.int_range(pl.len()).over(column), maintain_order=True)["path"]
    where = " and ".join(counts) if len(counts) <= 5 else shorten(counts)
    return Finding(f"cross_{column}_{what}", severity, tuple(paths), f"{shown} {_CROSSING[column]} {where}")


def _cluster(files: pl.DataFrame, pairs: Rows) -> Iterator[pl.DataFrame]:
    """The rows of each cluster of `node`s that pairs connect, in the order of the files."""
    if not len(pairs):
        return
    components = connect(pairs, int(files["node"].max()) + 1)  # type: ignore[arg-type]
    clustered = files.with_columns(cluster=pl.Series(components)[files["node"]])
    linked = clustered.filter(pl.col("node").is_in(np.unique(pairs)))
    for _, rows in linked.group_by("cluster", maintain_order=True):
        yield rows
